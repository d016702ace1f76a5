"""A pipeline on paper: times of a stated job, for the simulator."""

from dataclasses import dataclass

from attnres_ref.fields import check_bounds, check_types
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.simulate import Simulation, simulate


class OneSum(Layout):
    """PreNorm: every transition carries the running sum, and nothing else."""

    def cargo(self, chunk: int) -> list[str]:
        return ["sum"]

    def n_tensors(self, chunk: int) -> int:
        return 1


@dataclass(frozen=True)
class Job:
    """A model, the ranks that train it and the links between them. Ranks compute at an
    even rate, chunks are equal; nothing else uses the links. Raises ValueError for a field
    that does not fit."""

    n_ranks: int               # P
    n_virtual: int             # V
    n_layers: int              # L
    d_model: int               # d
    parameters: float          # that a token meets (active ones), in all layers together
    n_microbatches: int        # M
    tokens: int                # B T of a micro-batch
    flops: float               # a rank really reaches, per second
    bandwidth: float           # of a link in one direction, bytes per second
    latency: float = 10e-6     # of a message, seconds
    n_bytes: int = 2           # of a number on the wire (bf16)

    def __post_init__(self):
        check_types(self)
        check_bounds(self, ("n_ranks", "n_virtual", "n_layers", "d_model"), 1)
        check_bounds(self, ("n_microbatches", "tokens", "n_bytes"), 1)
        check_bounds(self, ("parameters", "flops", "bandwidth"), 0, above=True)
        check_bounds(self, ("latency",), 0)

    @property
    def forward(self) -> float:
        """Seconds of a chunk's forward pass over one micro-batch: two operations for
        each parameter and token. The backward takes twice as long."""
        n_chunks = self.n_ranks * self.n_virtual
        return 2 * self.parameters / n_chunks * self.tokens / self.flops

    @property
    def tensor_bytes(self) -> int:
        """Of one [B, T, d] tensor, on a link or kept for the backward pass."""
        return self.tokens * self.d_model * self.n_bytes

    @property
    def per_tensor(self) -> float:
        """Seconds of one [B, T, d] tensor on a link."""
        return self.tensor_bytes / self.bandwidth

    def layout(self, block_size: int | None = None, mode: str = "naive") -> Layout:
        """With AttnRes blocks of `block_size`; PreNorm for None."""
        kind = OneSum if block_size is None else Layout
        size = self.n_layers if block_size is None else block_size
        return kind(self.n_ranks, self.n_virtual, self.n_layers, size, mode)

    def simulate(self, block_size: int | None = None, mode: str = "naive") -> Simulation:
        """A step with this `layout`."""
        return simulate(
            self.layout(block_size, mode), self.n_microbatches, self.forward,
            2 * self.forward, self.per_tensor, self.latency,
        )

    def overhead(self, block_size: int, mode: str) -> float:
        """Longer than PreNorm's step by this fraction, for communication alone."""
        return self.simulate(block_size, mode).makespan / self.simulate().makespan - 1
