"""Two-phase inference: Algorithm 1, as a stream (sec. 4.2).

A pseudo-query does not depend on the input. So before a group of layers runs, all its
queries can read the sources that are complete by then, at once:

    phase 1   once per group: every query of it over the completed sources
    phase 2   layer by layer: join that result with the sources written since

Joining is exact, for a softmax over two sets of sources needs no more of each than
its mean and the logarithm of its sum of exponentials:

    mean = sum_i exp(s_i) v_i / sum_i exp(s_i)      lse = log sum_i exp(s_i)
    joint mean = (1 - g) mean_1 + g mean_2          g = sigmoid(lse_2 - lse_1)

This is `merge`, below, after its division: mean = o / l and
lse = m + log l. Algorithm 1 as printed has two slips: line 10 must read the partial
sum b_n^{i-1}, which is all that exists when layer i reads; and what phase 1 returns
must hold (o, m, l), or their two-number form here, because line 12 uses them apart.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import (
    check_sources,
    depth_attention,
    fold,
    no_autocast,
    score,
    widened,
)
from attnres_ref.fields import is_whole
from attnres_ref.streams import BlockAttnRes, Depth, FullAttnRes
from attnres_ref.views import with_parts


class Read(NamedTuple):
    """A finished softmax over some sources, with what it takes to join another."""

    mean: Tensor           # [..., d]
    lse: Tensor            # [..., 1], log of the sum of exponentials


def phase_one(queries: Tensor, sources: tuple[Tensor, ...]) -> list[Read]:
    """Every query over all sources: S reads of [..., d] in float32 or wider.

    queries: [S, d], key-norm weight folded in; sources: n tensors [..., d].
    Equals `attend_with_stats`, which calls 2 S n small operations; here they are two
    matrix products over a stack, since one token at a time small operations dominate.
    Compiled, the second is a sum over sources, which Inductor fuses with what is around it.
    """
    values = torch.stack(sources, -2).to(queries.dtype)               # [..., n, d]
    with no_autocast(values):
        logits = scores(queries, values)                              # [..., n, S]
        weights = logits.softmax(-2)
        if torch.compiler.is_compiling():
            pairs = zip(weights.unbind(-2), values.unbind(-2))        # [..., S], [..., d]
            means = sum(w.unsqueeze(-1) * v.unsqueeze(-2) for w, v in pairs)
        else:
            means = weights.mT @ values                               # [..., S, d]
    # The largest weight is exp(largest logit - lse); cheaper than another logsumexp.
    lses = (logits.amax(-2) - weights.amax(-2).log()).unsqueeze(-1)   # [..., S, 1]
    return [Read(*read) for read in zip(means.unbind(-2), lses.unbind(-2))]


def phase_two(first: Read, query: Tensor, sources: tuple[Tensor, ...]) -> Tensor:
    """One query's read over the sources behind `first` and these: [..., d].

    query: [1, d]; sources: n >= 1 tensors [..., d], the partial sum for Block.
    """
    if len(sources) == 1:                                 # a softmax over one is that one
        value = sources[0].to(query.dtype)
        with no_autocast(value):
            second = Read(value, scores(query, value))
    else:
        (second,) = phase_one(query, sources)
    return torch.lerp(first.mean, second.mean, (second.lse - first.lse).sigmoid())


def scores(queries: Tensor, values: Tensor, eps: float = 1e-5) -> Tensor:
    """w . v / rms(v) of every query [S, d] and value [..., d]: [..., S] (Eq. 2)."""
    inverse_rms = (values.square().mean(-1, keepdim=True) + eps).rsqrt()
    return F.linear(values, queries) * inverse_rms


class Scheduled(NamedTuple):
    """The wrapped stream's state, and the phase-1 results of the group under way."""

    depth: Depth
    queries: Tensor                    # [L + 1, d], key-norm weights folded in
    first: int                         # the group's first layer
    n_seen: int                        # phase 1 has read the first n_seen sources
    reads: list[Read]                  # for layers first, first + 1, ...


def can_schedule(stream: nn.Module) -> bool:
    """Whether Algorithm 1 gives this stream's reads. A subclass or another operator may
    read otherwise, and would be scheduled wrongly, silently. An operator that computes the
    same read faster says so by an attribute `same_as`."""
    if type(stream) not in (BlockAttnRes, FullAttnRes):
        return False
    return getattr(stream.attend, "same_as", stream.attend) is depth_attention


class TwoPhase(nn.Module):
    """An AttnRes stream read by Algorithm 1's schedule: same reads, other order.

    stream: a BlockAttnRes or FullAttnRes that reads by `depth_attention`, which is not
    called; group_size: layers per phase 1, 1 to L, any is exact.
    Default: the block for Block; about sqrt(L) for Full, which moves least (Table 1:
    S + N with S N = L).
    Raises ValueError for another stream or a group_size outside 1..L.
    """

    def __init__(self, stream: BlockAttnRes, group_size: int | None = None):
        super().__init__()
        if not can_schedule(stream):
            raise ValueError(
                f"stream is {type(stream).__name__}, attend "
                f"{getattr(stream, 'attend', None)}: two-phase inference schedules "
                "BlockAttnRes and FullAttnRes that read by depth_attention; run any other "
                "model as it is, and generate with stream=model.stream"
            )
        n_layers = len(stream.queries) - 1
        if group_size is None:
            full = stream.block_size == 1
            group_size = round(math.sqrt(n_layers)) if full else stream.block_size
        if not is_whole(group_size, 1, n_layers):
            raise ValueError(
                f"group_size is {group_size}: choose 1 to n_layers = {n_layers}"
            )
        self.stream, self.group_size = stream, group_size

    def begin(self, embedding: Tensor) -> Scheduled:
        # Anew in every pass: a module that kept the product would miss a training step.
        norm_weights = 1 + widened(self.stream.queries_norm)          # [L + 1, d]
        queries = fold(self.stream.queries, norm_weights, embedding)
        return self.open_group(self.stream.begin(embedding), queries, 0)

    def read(self, state: Scheduled, layer: int) -> Tensor:
        first = state.reads[layer - state.first]
        fresh = state.depth.sources[state.n_seen :]
        if not fresh:
            return first.mean.to(state.depth.completed[0].dtype)
        h = self.phase_two(first, state.queries[layer : layer + 1], fresh)
        return h.to(fresh[0].dtype)

    def write(self, state: Scheduled, layer: int, output: Tensor) -> Scheduled:
        depth = self.stream.write(state.depth, layer, output)
        if (layer + 1) % self.group_size == 0:
            return self.open_group(depth, state.queries, layer + 1)
        return state._replace(depth=depth)

    def open_group(self, depth: Depth, queries: Tensor, first: int) -> Scheduled:
        """Phase 1 for the layers from `first` on; the last group has the final read."""
        group = queries[first : first + self.group_size]
        reads = self.phase_one(group, depth.completed)
        return Scheduled(depth, queries, first, len(depth.completed), reads)

    phase_one = staticmethod(phase_one)          # to be replaced by a kernel or a counter
    phase_two = staticmethod(phase_two)


def two_phase_forward(
    model: nn.Module, tokens: Tensor, group_size: int | None = None
) -> Tensor:
    """model(tokens) under Algorithm 1's schedule: tokens [B, T] -> logits [B, T, vocab].

    group_size as in `TwoPhase`. Raises ValueError for a model with nothing to
    schedule (PreNorm), and for tokens as the model does.
    """
    return with_parts(model, stream=TwoPhase(model.stream, group_size))(tokens)


# ---- A read with its softmax left open, as Algorithm 1 prints it (notebook 08) ---------


def attend_with_stats(
    queries: Tensor,
    sources: Sequence[Tensor],
    norm_weights: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Several queries over the same sources, softmax left open (Alg. 1, phase 1).

    queries: [S, d]; sources as in `depth_attention`; norm_weights: [S, d] or None
    Returns o [S, ..., d] = sum_i exp(s_i - m) v_i, m [S, ...] = max_i s_i and
    l [S, ...] = sum_i exp(s_i - m), in float32 or wider. The read is o / l.
    Raises ValueError as `depth_attention` does.
    """
    check_sources(sources, eps, queries=queries, norm_weights=norm_weights)
    if norm_weights is not None and norm_weights.shape != queries.shape:
        raise ValueError(
            f"norm_weights has shape {list(norm_weights.shape)}: give one for each of the "
            f"queries {list(queries.shape)}"
        )
    folded = fold(queries, norm_weights, sources[0])
    with no_autocast(folded):
        logits = torch.stack([score(query, sources, eps)[0] for query in folded])
    m = logits.amax(1)                                   # [S, ...] of [S, n, ...]
    unnormalised = (logits - m.unsqueeze(1)).exp()
    o = sum(
        weight.unsqueeze(-1) * source.to(folded.dtype)               # [S, ..., d]
        for weight, source in zip(unnormalised.unbind(1), sources)
    )
    return o, m, unnormalised.sum(1)


Stats = tuple[Tensor, Tensor, Tensor]      # o, m, l of `attend_with_stats`


def merge(first: Stats, second: Stats) -> Stats:
    """Online softmax: the stats over the union of two sets of sources (Alg. 1).

    Both are brought to the larger maximum, so no exponential exceeds one.
    """
    (o1, m1, l1), (o2, m2, l2) = first, second
    m = torch.maximum(m1, m2)
    scale1, scale2 = (m1 - m).exp(), (m2 - m).exp()
    o = scale1.unsqueeze(-1) * o1 + scale2.unsqueeze(-1) * o2
    return o, m, scale1 * l1 + scale2 * l2
