"""Who holds what in a pipeline, and what each transition has to carry (sec. 4.1, Fig. 3).

A model of L layers is cut into C = P V chunks. Chunk c runs on rank c mod P, so that
the state visits every rank V times. Everything else follows from one number: how many
blocks are complete where a chunk ends.
"""

from dataclasses import dataclass

from attnres_ref.fields import check_bounds, check_types

MODES = ("naive", "received", "all")


@dataclass(frozen=True)
class Layout:
    """The cut of a model, and what a rank keeps between its chunks.

    mode "naive": nothing. "received": the blocks that stood ready when its earlier chunks
    began, as in the paper: those that arrived and, on rank 0, the embedding. "all": also
    the blocks that its own chunks completed.
    Blocks count from b_0, the embedding. Raises ValueError for a field that does not fit.
    """

    n_ranks: int               # P
    n_virtual: int             # V, chunks on each rank
    n_layers: int              # L
    block_size: int            # S, layers per AttnRes block; the last may be shorter
    mode: str = "naive"        # one of MODES

    def __post_init__(self):
        check_types(self)
        check_bounds(self, ("n_ranks", "n_virtual", "n_layers"), 1)
        if not 1 <= self.block_size <= self.n_layers:
            raise ValueError(
                f"block_size is {self.block_size}: choose 1 (Full AttnRes) to "
                f"n_layers = {self.n_layers}"
            )
        if self.n_chunks > self.n_layers:
            raise ValueError(
                f"n_ranks {self.n_ranks} x n_virtual {self.n_virtual} are {self.n_chunks} "
                f"chunks for n_layers = {self.n_layers}: a chunk needs a layer, so take "
                "fewer ranks or virtual stages"
            )
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}: choose one of {', '.join(MODES)}")

    @property
    def n_chunks(self) -> int:
        return self.n_ranks * self.n_virtual

    def rank(self, chunk: int) -> int:
        return chunk % self.n_ranks

    def layers(self, chunk: int) -> range:
        first, end = chunk * self.n_layers, (chunk + 1) * self.n_layers
        return range(first // self.n_chunks, end // self.n_chunks)

    def completed(self, chunk: int) -> int:
        """Blocks complete at the exit of `chunk`, b_0 included. Chunk -1 ends with the
        embedding."""
        return 1 + self.layers(chunk).stop // self.block_size

    def has_partial(self, chunk: int) -> bool:
        """Whether the end of `chunk` cuts a block, whose partial sum must travel too."""
        return self.layers(chunk).stop % self.block_size != 0

    def held(self, chunk: int) -> int:
        """The rank of `chunk` holds the blocks below this number before the chunk gets
        anything."""
        before = chunk - self.n_ranks              # the rank's chunk before this one
        if before < 0 or self.mode == "naive":
            return 0
        return self.completed(before if self.mode == "all" else before - 1)

    def sent(self, chunk: int) -> range:
        """Completed blocks that go from `chunk` to the next: those its rank lacks."""
        return range(self.held(chunk + 1), self.completed(chunk))

    def cargo(self, chunk: int) -> list[str]:
        """The names of what goes from `chunk` to the next, as many as `n_tensors`."""
        partial = ["partial sum"] * self.has_partial(chunk)
        return [f"b{block}" for block in self.sent(chunk)] + partial

    def n_tensors(self, chunk: int) -> int:
        """Tensors [B, T, d] on the wire from `chunk` to the next, for one micro-batch:
        the blocks of `sent`, and the partial sum where there is one. As many gradients
        come back."""
        return len(self.sent(chunk)) + self.has_partial(chunk)

    def received(self, chunk: int) -> int:
        """Tensors that arrive for one micro-batch of `chunk`."""
        return self.n_tensors(chunk - 1) if chunk > 0 else 0

    @property
    def transitions(self) -> range:
        """The chunks that have a next one."""
        return range(self.n_chunks - 1)

    def total(self) -> int:
        """Tensors of one micro-batch over all transitions, one direction."""
        return sum(self.n_tensors(chunk) for chunk in self.transitions)


def naive_formula(n_ranks: int, n_virtual: int, blocks_per_chunk: float) -> float:
    """Eq. 7 in units of one tensor: C (C - 1) / 2 N_p; `blocks_per_chunk` is N_p."""
    n_chunks = n_ranks * n_virtual
    return n_chunks * (n_chunks - 1) / 2 * blocks_per_chunk


def cached_formula(n_ranks: int, n_virtual: int, blocks_per_chunk: float) -> float:
    """Eq. 8 in units of one tensor: P (P - 1) / 2 N_p + (V - 1) P^2 N_p."""
    first = n_ranks * (n_ranks - 1) / 2
    return (first + (n_virtual - 1) * n_ranks**2) * blocks_per_chunk
