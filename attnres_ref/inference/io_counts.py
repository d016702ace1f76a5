"""What a residual connection moves: elements read and written, counted on a real run.

Conventions of Table 1 and Appendix B: a source read by attention counts twice, once
as key and once as value; what phase 1 leaves for phase 2 is written once and read
once. The additions that keep the partial sum are the layer's own, and not counted;
neither are the logits and log-sums, a few numbers per token.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnres_ref.inference.two_phase import TwoPhase, phase_one, phase_two
from attnres_ref.streams import PreNorm
from attnres_ref.views import read_through, with_parts


class Moved(NamedTuple):
    """Elements moved for one layer (`layer` L is the final read)."""

    layer: int
    phase: int             # 1 or 2; 0 where there are no phases
    reads: int
    writes: int


@torch.no_grad()
def count_prenorm(model: nn.Module, tokens: Tensor) -> list[Moved]:
    """The standard residual: h + f(h), for each layer."""
    if not isinstance(model.stream, PreNorm):
        raise ValueError(
            f"model has the stream {type(model.stream).__name__}: pass PreNorm's"
        )
    rows, add = [], model.stream.write

    def write(state, layer, output):
        new = add(state, layer, output)
        rows.append(Moved(layer, 0, elements((state, output)), new.numel()))
        return new

    with_parts(model, stream=with_parts(model.stream, write=write))(tokens)
    return rows


@torch.no_grad()
def count_layer_wise(model: nn.Module, tokens: Tensor) -> list[Moved]:
    """AttnRes as the model runs it: every layer reads all its sources."""
    rows, own = [], getattr(model.stream, "attend", None)

    def attend(query, sources, norm_weight=None):
        h = own(query, sources, norm_weight)
        rows.append(Moved(len(rows), 0, 2 * elements(sources), h.numel()))
        return h

    read_through(model, attend, tokens)
    return rows


@torch.no_grad()
def count_two_phase(
    model: nn.Module, tokens: Tensor, group_size: int | None = None
) -> list[Moved]:
    """AttnRes by Algorithm 1: what each call of the two phases is given and returns."""
    counting = CountingTwoPhase(model.stream, group_size)
    counting.rows = []
    with_parts(model, stream=counting)(tokens)
    return counting.rows


class CountingTwoPhase(TwoPhase):
    def open_group(self, depth, queries, first):
        self.layer = first                 # the layer that a phase serves, or the first one
        return super().open_group(depth, queries, first)

    def read(self, state, layer):
        self.layer = layer
        return super().read(state, layer)

    def phase_one(self, queries, sources):
        reads = phase_one(queries, sources)
        written = elements(read.mean for read in reads)
        self.rows.append(Moved(self.layer, 1, 2 * elements(sources), written))
        return reads

    def phase_two(self, first, query, sources):
        h = phase_two(first, query, sources)
        read = first.mean.numel() + 2 * elements(sources)
        self.rows.append(Moved(self.layer, 2, read, h.numel()))
        return h


def elements(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)
