"""Activation checkpointing: what a chunk keeps for its backward pass, counted and run.

Without it every layer keeps its own activations, beside which a residual stream is small.
With it a few layers at a time keep only what enters them, and are run again in the backward
pass. Then the stream is what is left: a sum has one tensor [B, T, d] where each such region
begins, Full AttnRes the outputs of all layers, Block AttnRes something in between.
"""

from torch.utils.checkpoint import checkpoint

from attnres_ref.fields import is_whole
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.plan import OneSum
from attnres_ref.pipeline.simulate import peaks, simulate


def recomputed(run, layers: range, state, recompute: int):
    """run(layers, state), the stream's state after these layers, with `recompute` of them
    at a time under activation checkpointing; for 0 all at once, and everything is kept.
    recompute: as `check_recompute` lets pass."""
    if not recompute:
        return run(layers, state)
    for region in regions(layers, recompute):
        state = checkpoint(run, region, state, use_reentrant=False)
    return state


def regions(layers: range, recompute: int) -> list[range]:
    """The layers, `recompute` at a time, at least 1."""
    return [layers[first : first + recompute] for first in range(0, len(layers), recompute)]


def check_recompute(recompute: int) -> None:
    if not is_whole(recompute, 0):
        raise ValueError(
            f"recompute is {recompute!r}: it must be a whole number of layers, or 0 to "
            "recompute none"
        )


def made(layout: Layout, chunk: int, recompute: int) -> int:
    """Tensors [B, T, d] that `chunk` adds to the stream and keeps for one micro-batch.

    Checkpointed: the blocks that it completes, and the partial sum wherever a region ends
    inside a block. With recompute 0 the state after each layer and, of AttnRes, each read;
    what the layers keep inside comes on top, and does not depend on the residual. The
    first chunk makes the embedding as well. Before the output head comes a final read,
    which is not counted here. `layout`: a `OneSum` for PreNorm. Raises ValueError for a
    `recompute` that is no whole number.
    """
    check_recompute(recompute)
    layers, first = layout.layers(chunk), int(chunk == 0)
    if not recompute:
        return first + len(layers) * (1 if isinstance(layout, OneSum) else 2)
    ends = [region.stop for region in regions(layers, recompute)]
    completed = layout.completed(chunk) - layout.completed(chunk - 1)
    return first + completed + sum(end % layout.block_size != 0 for end in ends)


def kept(layout: Layout, chunk: int, recompute: int) -> int:
    """Tensors of one micro-batch from the forward pass of `chunk` to its backward: those
    that arrived and those that it made."""
    return layout.received(chunk) + made(layout, chunk, recompute)


def most_kept(layout: Layout, n_microbatches: int, recompute: int) -> list[int]:
    """By rank, the most tensors at a time, over all micro-batches in flight. The order of
    passes decides, not how long they take."""
    spans = simulate(layout, n_microbatches).spans
    return peaks(layout, spans, lambda chunk: kept(layout, chunk, recompute))
