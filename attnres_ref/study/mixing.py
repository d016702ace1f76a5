"""Depth mixing as matrices (sec. 6.2, Fig. 9): h_l = sum_i M_li v_i for any stream.

Whatever a stream does, what a layer reads is linear in what was written once scores
and gates are fixed. So M can be measured without knowing the stream: mark each source,
send the marks along, and see how much of each mark arrives at each read. Further down:
the ranks of M, what trained reads look like, and whether weight says what matters.
"""

import math
from collections.abc import Sequence
from statistics import correlation, mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.study.probes import at_every_read, depth_weights, rms
from attnres_ref.variants import mix
from attnres_ref.views import with_attend, with_parts


class MarkedStream(nn.Module):
    """Any stream, carrying marks beside the contents.

    What is written grows a leading axis of 2 + L: slot 0 holds the content, slot 1 + i
    is all ones in source i (0: the embedding) and all zeros in the others. A read
    hands slot 0 to the layer; the other slots are its row of M.
    """

    def __init__(self, stream: nn.Module, n_layers: int):
        super().__init__()
        self.stream, self.n_sources = stream, n_layers + 1
        self.rows = []                 # a read each: [L + 1, B, T, d]

    def mark(self, content, source):
        marked = content.new_zeros(1 + self.n_sources, *content.shape)
        marked[0], marked[1 + source] = content, 1.0
        return marked

    def begin(self, embedding):
        return self.stream.begin(self.mark(embedding, 0))

    def read(self, state, layer):
        h = self.stream.read(state, layer)
        self.rows.append(h[1:])
        return h[0]

    def write(self, state, layer, output):
        return self.stream.write(state, layer, self.mark(output, 1 + layer))


@torch.no_grad()
def mixing_matrix(model: nn.Module, tokens: Tensor) -> Tensor:
    """M of every token and channel, [L + 1, L + 1, B, T, d], for tokens [B, T].

    Row l is the read of layer l (the last: the final read), column i the source v_i;
    M[l, i] = 0 for i > l. Average over B, T and d for a picture; ranks are those of one
    token and channel.
    """
    marked = MarkedStream(blind_to_marks(model.stream), model.config.n_layers)
    with_parts(model, stream=marked)(tokens)
    return torch.stack(marked.rows)


def blind_to_marks(stream: nn.Module) -> nn.Module:
    """A view of the stream whose scores and gates see slot 0 of what they mix. Raises
    ValueError for a stream around another one, whose scores it cannot reach."""
    if hasattr(stream, "stream"):
        raise ValueError(f"stream is a {type(stream).__name__}: pass the one within it")
    blind = dict(attend=blind_attend, gate=blind_gate)
    parts = {
        name: make(getattr(stream, name)) for name, make in blind.items()
        if hasattr(stream, name)
    }
    return with_parts(stream, **parts)


def blind_attend(attend):
    """`attend`, whose weights come from the contents and mix the marks too."""

    def attend_to_contents(query, sources, norm_weight=None):
        contents = [source[0] for source in sources]
        _, weights = attend(query, contents, norm_weight, return_weights=True)
        return mix(weights, sources)

    return attend_to_contents


def blind_gate(gate):
    """`gate`, computed from the content of its first argument: a tensor, or several."""

    def gate_of_content(seen, layer):
        several = isinstance(seen, tuple)
        content = tuple(source[0] for source in seen) if several else seen[0]
        return gate(content, layer)

    return gate_of_content


def semiseparable_rank(matrix: Tensor, tolerance: float = 1e-6) -> int:
    """Largest rank of a block of M [L + 1, L + 1] on and below the diagonal: the numbers
    per channel that a recurrence over depth would have to carry.

    Singular values up to `tolerance` times the largest of the block count as zero. No
    matrix of L + 1 rows exceeds (L + 2) // 2: a block is as small as its shorter side.
    """
    blocks = (matrix[j:, : j + 1] for j in range(len(matrix)))
    return max(int(torch.linalg.matrix_rank(block, rtol=tolerance)) for block in blocks)


def vectors_visible(config, n_outputs: int) -> int:
    """Vectors per token that later reads still see after `n_outputs` layers have written.
    config: an LMConfig, whose residual says how much a stream forgets."""
    match config.residual:
        case "prenorm" | "loud" | "layerscale" | "rezero" | "highway":
            return 1
        case "mhc":
            return config.n_streams
        case "block" | "block_raw_keys":
            return 1 + math.ceil(n_outputs / config.block_size)
        case "window":
            return 1 + min(n_outputs, config.window)
        case _:
            return 1 + n_outputs


def rank_bound(config) -> int:
    """What `semiseparable_rank` cannot exceed: at every depth, the vectors that pass it
    or the reads still to come, whichever are fewer."""
    L = config.n_layers
    return max(min(vectors_visible(config, j), L + 1 - j) for j in range(L + 1))


@torch.no_grad()
def source_ablation(model: nn.Module, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """Loss increase when one read loses one source; a softmax shares its weight out among
    the others.

    Rows as `depth_weights`, which also says what is raised, in nats per byte over int64
    [B, T] inputs and targets. A read with one source cannot lose it: its entry is nan.
    Runs the model once per entry.
    """
    def loss(model):
        logits = model(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()).item()

    n_sources = [len(row) for row in depth_weights(model, inputs)]
    whole = loss(model)
    rows = [torch.full((n,), torch.nan) for n in n_sources]
    for layer, n in enumerate(n_sources):
        for lost in range(n if n > 1 else 0):
            attend = without_source(model.stream.attend, layer, lost)
            rows[layer][lost] = loss(with_attend(model, attend)) - whole
    return rows


def without_source(attend, layer: int, lost: int):
    """`attend` for one forward pass in which read `layer` does not see source `lost`."""
    reads = iter(range(layer + 1))

    def attend_to_the_rest(query, sources, norm_weight=None):
        if next(reads, None) == layer:
            sources = [*sources[:lost], *sources[lost + 1 :]]
        return attend(query, sources, norm_weight)

    return attend_to_the_rest


def with_mean_weights(model: nn.Module, tokens: Tensor) -> nn.Module:
    """A view of the model whose reads mix by constants: their weights' means over tokens
    [B, T]. It mixes over depth as much as before, but no token chooses from what.

    Its loss less the model's is what content dependence is worth to it. Raises ValueError
    as `depth_weights`.
    """
    rows = depth_weights(model, tokens)

    def read(state, layer):
        def attend(query, sources, norm_weight=None):
            return mix(rows[layer], sources)

        return with_parts(model.stream, attend=attend).read(state, layer)

    return with_parts(model, stream=with_parts(model.stream, read=read))


def reads(model: nn.Module, tokens: Tensor) -> list[dict]:
    """Every depth read of tokens [B, T], L + 1 of them, averaged over tokens:

    weights: [n], as `probes.depth_weights`
    shares:  [n], RMS of alpha_i v_i, what a source brings into the read
    spread:  entropy of a token's weights over log n; 1: even, 0: one source only (and
             nan where there is only one)
    Raises ValueError as `depth_weights` does.
    """
    def look(weights, sources):
        share = weights / weights.sum(0)               # sigmoids do not sum to one
        n, entropy = len(sources), torch.special.entr(share).sum(0)           # [B, T]
        return dict(
            weights=weights.flatten(1).mean(1).tolist(),
            shares=[rms(w.unsqueeze(-1) * v) for w, v in zip(weights, sources)],
            spread=entropy.mean().item() / math.log(n) if n > 1 else math.nan,
        )

    return at_every_read(model, tokens, look)


def relative(reads: Sequence[dict]) -> list[list[float]]:
    """The weights of `reads`, in units of the plain mean 1/n of their read."""
    rows = [read["weights"] for read in reads]
    return [[weight * len(row) for weight in row] for row in rows]


def mean_rows(seeds: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Rows of several models, such as weights or costs, averaged entry by entry."""
    return [[mean(x) for x in zip(*rows)] for rows in zip(*seeds)]


class Lost(NamedTuple):
    """One source taken from one read."""

    read: int                      # L for the final read
    source: int                    # 0: the embedding
    weight: float                  # in units of the read's plain mean
    share: float                   # RMS of alpha_i v_i
    increase: float                # of the loss, nats per byte


def lost_sources(reads: Sequence[dict], increases: Sequence[Sequence[float]]) -> list[Lost]:
    """`reads` and `source_ablation` of one model, entry by entry; a read with one
    source, which it cannot lose, is left out."""
    rows = relative(reads)
    return [
        Lost(layer, source, rows[layer][source], read["shares"][source], float(increase))
        for layer, (read, row) in enumerate(zip(reads, increases)) if len(row) > 1
        for source, increase in enumerate(row)
    ]


def agreement(lost: Sequence[Lost], what: str) -> float:
    """Spearman's rank correlation of the loss increase with "weight" or "share": 1 if
    it orders the sources as the increase does."""
    values, increases = [getattr(x, what) for x in lost], [x.increase for x in lost]
    return correlation(rank_order(values), rank_order(increases))


def agreement_with(guess, reads: Sequence[dict], increases: Sequence) -> float:
    """The same correlation with guess(reads, l), a number for each source of read l."""
    guesses = [x for l in range(1, len(reads)) for x in guess(reads, l)]
    found = [float(x) for row in increases[1:] for x in row]
    return correlation(rank_order(guesses), rank_order(found))


def rank_order(values: Sequence[float]) -> list[int]:
    """The rank of each value, 0 for the smallest, where no two are alike. (Python 3.12
    has statistics.correlation(method="ranked"); the course runs on 3.11.)"""
    ordered = sorted(values)
    return [ordered.index(value) for value in values]
