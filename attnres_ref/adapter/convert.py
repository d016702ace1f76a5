"""Attention Residuals for a decoder that somebody else wrote.

A decoder in the usual style carries a hidden state from block to block, and each of a
block's layers adds to it: `h = h + f(norm(h))`. `convert` takes the additions out and puts
a residual stream in their place. The decoder's own `forward`, its masks, positions, caches
and checkpoints stay as they are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attnres_ref.adapter.anatomy import Layer
from attnres_ref.adapter.find import anatomy, is_norm, refusal
from attnres_ref.adapter.on_stream import At, Fitting, Handed, OnStream, on_stream, read


@torch.inference_mode(False)
def convert(
    decoder: nn.Module, residual: Callable[[int, int], nn.Module], recompute: bool = False
) -> nn.Module:
    """Put a residual stream under `decoder`, in place, and return the decoder.

    decoder: has `layers`, a ModuleList of blocks whose layers follow each other as
    h = h + k f(norm(h)), and a norm after the last (not checked). A Sequential or a
    ModuleDict do as well, and if it is the only one, it may have another name. Of a model
    of transformers, pass `model.model`.
    residual: residual(n_layers, d_model) builds the stream: `FullAttnRes`, or
    `partial(BlockAttnRes, block_size=4)`. It becomes `decoder.stream`, on the device and in
    the dtype of the decoder's first weight, and may be replaced there.
    recompute: keep for the backward neither a read nor what its norm needs of it, but
    compute both again, so that no more bytes are kept than by a sum.

    With queries still zero every read is what PreNorm sums, up to rounding, so that the
    decoder computes what it did; on `PreNorm` itself bit for bit, but for the rounding of a
    factor k. Constants that a block has now, k among them, stay as they are. Load weights
    before, and wrap (DDP, FSDP2, torch.compile of the whole) after.

    Raises ValueError, and leaves the decoder as it was, for one without such layers, one
    converted before, and a block that does anything else, whatever its parts are called.
    """
    decoder = getattr(decoder, "_orig_mod", decoder)       # what torch.compile has wrapped
    blocks, like = blocks_of(decoder), weight_of(decoder)
    found = {block: anatomy(block) for block in blocks}    # one may stand there twice
    width = width_of(decoder, getattr(blocks[0], found[blocks[0]].layers[0].calls[0].part))
    for block, (layers, *_) in found.items():
        check_norms(block, layers, width)
    n_layers = sum(len(found[block].layers) for block in blocks)
    stream = built(residual, n_layers, width, like)
    classes = {block: on_stream(type(block)) for block in found}
    decoder.stream = stream            # from here on nothing can fail
    for block, its_anatomy in found.items():
        object.__setattr__(block, "__class__", classes[block])
        vars(block)["fitting"] = Fitting(decoder, its_anatomy, n_layers, recompute)
    decoder.register_forward_hook(hidden_states_read)
    return decoder


def blocks_of(decoder: nn.Module) -> nn.ModuleList | nn.Sequential:
    """Its `layers`, or its only ModuleList or Sequential by another name. Raises ValueError
    without, and for those of a decoder that has a stream."""
    name, children = type(decoder).__name__, [*decoder.children()]
    lists = [m for m in children if isinstance(m, nn.ModuleList)]
    lists = lists or [m for m in children if isinstance(m, nn.Sequential)]
    blocks = getattr(decoder, "layers", lists[0] if len(lists) == 1 else None)
    if isinstance(blocks, nn.ModuleDict):
        blocks = nn.ModuleList(blocks.values())
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not blocks:
        raise ValueError(
            f"{name} has no ModuleList `layers` with blocks in it: pass the module that "
            "holds the blocks, for instance model.model"
        )
    if any(isinstance(block, OnStream) for block in blocks):
        raise ValueError(f"{name} is on a stream: convert it once")
    if hasattr(decoder, "stream"):
        raise ValueError(f"{name} has an attribute `stream`, the name that convert needs")
    return blocks


def weight_of(decoder: nn.Module) -> Tensor:
    """A parameter on the device and in the dtype that suit the stream."""
    wide = [p for p in decoder.parameters() if p.is_floating_point() and p.itemsize > 1]
    name = type(decoder).__name__
    if not wide:
        raise ValueError(f"{name} has no parameter of a floating dtype for the stream's")
    if wide[0].is_meta:
        raise ValueError(
            f"{name} is on the meta device, where no query can start at zero: load its "
            "weights first, then convert it"
        )
    return wide[0]


def built(residual: Callable, n_layers: int, width: int, like: Tensor) -> nn.Module:
    """The stream, beside `like`. Raises ValueError for what is none."""
    if isinstance(residual, nn.Module) or not callable(residual):
        raise ValueError(
            f"residual is {residual!r}: pass what builds a stream from n_layers and "
            "d_model, for instance FullAttnRes or partial(BlockAttnRes, block_size=4)"
        )
    with torch.device(like.device):
        stream = residual(n_layers, width)
    if missing := [f for f in ("begin", "read", "write") if not hasattr(stream, f)]:
        raise ValueError(
            f"residual built a {type(stream).__name__} without {missing}: a stream needs "
            "begin, read and write, see attnres_ref.streams"
        )
    return stream.to(like.device, like.dtype)


def check_norms(block: nn.Module, layers: tuple[Layer, ...], width: int) -> None:
    """Refuse a block with a layer that does not begin with a norm."""
    for (opening, *_), _ in layers:
        if not is_norm(getattr(block, opening.part), width):
            why = f"begins with {opening.part}, which feels the scale of what it reads"
            raise refusal(block, f"has a layer that {why}")


def width_of(decoder: nn.Module, norm: nn.Module) -> int:
    """d: of the norm, by its weight or shape, or else as the configuration has it."""
    if isinstance(weight := getattr(norm, "weight", None), Tensor):
        return weight.shape[-1]
    if shape := getattr(norm, "normalized_shape", None):
        return shape[-1]
    width = getattr(getattr(decoder, "config", None), "hidden_size", None)
    if width is None:
        raise ValueError(
            f"{type(norm).__name__} has no weight, and {type(decoder).__name__} no "
            "config.hidden_size: set one of them, so that the width of the stream is known"
        )
    return width


def hidden_states_read(decoder: nn.Module, args: tuple, output: Any) -> None:
    """A forward hook: where a decoder recorded what its blocks returned, each place in
    depth is read as its next layer reads it."""
    def as_read(value):
        if isinstance(value, At | Handed):
            at = value.at if isinstance(value, Handed) else value
            return read(decoder.stream, *at)
        return tuple(map(as_read, value)) if type(value) in (tuple, list) else value

    if isinstance(output, dict):
        if output.get("hidden_states") is not None:
            output["hidden_states"] = as_read(tuple(output["hidden_states"]))
        return None
    return as_read(output) if type(output) in (tuple, list) else None
