"""Attention Residuals for a decoder that somebody else wrote.

A decoder in the usual style carries a hidden state from block to block, and each of a
block's layers adds to it: `h = h + f(norm(h))`. `convert` takes the additions out and puts
a residual stream in their place. The decoder's own `forward`, its masks, positions, caches
and checkpoints stay as they are: it never looks inside what it hands from block to block,
so a stream's state can travel where the sum did.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import checkpoint

from attnres_ref.adapter.anatomy import Anatomy, Call
from attnres_ref.adapter.find import anatomy, is_norm, refusal


def no_tensor(self, name: object = None):
    """Whoever takes what blocks hand on for a hidden state learns what it is."""
    raise AttributeError(
        "between the blocks of a converted decoder travels a stream's state, no tensor: "
        "the blocks run from the first to the last, and nothing else reads or changes it"
    )


class At(NamedTuple):
    """A place in the depth of the decoder."""

    state: Any                         # of the stream
    layer: int                         # the layer that reads it next

    __add__ = __radd__ = __mul__ = __rmul__ = __getattr__ = no_tensor


class Handed(NamedTuple):
    """What a block hands to the next. A tuple of one, since whoever records hidden states
    of a block takes the first of what it returns."""

    at: At

    __add__ = __radd__ = __mul__ = __rmul__ = __getattr__ = no_tensor


class Fitting(NamedTuple):
    """What a block needs to know on a stream. No module, or it would own the decoder."""

    decoder: nn.Module                 # whose `stream` it is, also one that comes later
    anatomy: Anatomy
    n_layers: int                      # of the decoder: behind the last is the final read
    recompute: bool


class OnStream:
    """Mixed into a block's own class: its layers read from a stream and write to it."""

    def forward(self, *args, **context):
        """The block's own arguments; its hidden state is [B, T, d] in the first block, in
        the others what the block before handed on. The last block returns [B, T, d]."""
        decoder, anatomy, n_layers, recompute = self.fitting
        given = anatomy.given(args, context)
        stream, hidden = decoder.stream, given[anatomy.names[0]]
        if isinstance(hidden, At):     # a decoder has taken the first of what it got
            hidden = Handed(hidden)
        check_gradients(self, hidden)
        handed = isinstance(hidden, Handed)
        state, layer = hidden.at if handed else (stream.begin(hidden), 0)
        for (opening, *calls), weight in anatomy.layers:
            if recompute and torch.is_grad_enabled():
                h = opened_again(self, stream, opening, state, layer, given)
            else:
                h = opening(self, read(stream, state, layer), given)  # [B, T, d]
            output = h
            for call in calls:
                output = call(self, output, given)
            if output.numel() == h.numel():
                output = output.view_as(h)     # some mixtures of experts flatten tokens
            output = output if weight == 1 else output * weight
            state = stream.write(state, layer, output)
            layer += 1
        if layer == n_layers:
            return read(stream, state, layer)                         # the final read
        return Handed(At(state, layer))

    def __reduce_ex__(self, protocol):
        """Pickle looks classes up by name, where it would find the block's own."""
        classes, (_, _, *state) = type(self).__mro__, super().__reduce_ex__(protocol)
        return blank, (classes[classes.index(OnStream) + 1],), *state


def check_gradients(block: nn.Module, hidden) -> None:
    """Refuse what reentrant checkpointing makes of a state: a plain tuple, or sources that
    want gradients where none are recorded."""
    lost = type(hidden) is tuple
    if isinstance(hidden, Handed) and not torch.is_grad_enabled():
        lost = any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(hidden))
    if lost:
        raise ValueError(
            f"{type(block).__name__} would lose the gradients of its sources: activation "
            "checkpointing needs use_reentrant=False"
        )


def read(stream: nn.Module, state: Any, layer: int) -> Tensor:
    """A read [B, T, d], as large as the sum in whose place it stands: a weighted mean of n
    sources, times n. The norm after it takes any such factor out, but for its eps, which is
    felt where hidden states are small. A Llama's embedding starts at a mean square of 4e-4;
    of a sum of 13 sources that is so small, the mean has 169 times less, 2e-6: an eps."""
    h = stream.read(state, layer)
    return h * len(state.sources) if hasattr(state, "sources") else h


def opened_again(block, stream, opening: Call, state, layer: int, given: dict) -> Tensor:
    """What a layer's opening norm makes of the read. Neither is kept for the backward: both
    are cheap to compute again, and what the norm keeps is as large as a source."""
    tensors, shape = tree_flatten(state)   # given one by one, a checkpoint around sees them

    def opened(*tensors):
        return opening(block, read(stream, tree_unflatten(tensors, shape), layer), given)

    return checkpoint(opened, *tensors, use_reentrant=False)


@cache
def on_stream(block_class: type) -> type:
    """The same class, also by name, on a stream: what looks for blocks of a class, to
    checkpoint, shard or record them, still finds them."""
    names = {key: getattr(block_class, key) for key in ("__module__", "__qualname__")}
    return type(block_class.__name__, (OnStream, block_class), names)


def blank(block_class: type) -> nn.Module:
    """A block on a stream, to be filled with what was pickled or is copied."""
    return object.__new__(on_stream(block_class))


@torch.inference_mode(False)
def convert(
    decoder: nn.Module, residual: Callable[[int, int], nn.Module], recompute: bool = False
) -> nn.Module:
    """Put a residual stream under `decoder`, in place, and return the decoder.

    decoder: has `layers`, a ModuleList of blocks whose layers follow each other as
    h = h + k f(norm(h)), and a norm after the last (not checked). If it has one ModuleList
    only, that may have another name. Of a model of transformers, pass `model.model`.
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
    name, blocks = type(decoder).__name__, blocks_of(decoder)
    if any(isinstance(block, OnStream) for block in blocks):
        raise ValueError(f"{name} is on a stream: convert it once")
    if isinstance(residual, nn.Module) or not callable(residual):
        raise ValueError(
            f"residual is {residual!r}: pass what builds a stream from n_layers and "
            "d_model, for instance FullAttnRes or partial(BlockAttnRes, block_size=4)"
        )
    if hasattr(decoder, "stream"):
        raise ValueError(f"{name} has an attribute `stream`, the name that convert needs")
    wide = [p for p in decoder.parameters() if p.is_floating_point() and p.itemsize > 1]
    if not wide:
        raise ValueError(f"{name} has no parameter of a floating dtype for the stream's")
    like = wide[0]
    if like.is_meta:
        raise ValueError(f"{name} is on the meta device, where no query can start at zero: "
                         "load its weights first, then convert it")
    found = {block: anatomy(block) for block in blocks}    # one may stand there twice
    width = width_of(decoder, getattr(blocks[0], found[blocks[0]].layers[0].calls[0].part))
    for block, (layers, *_) in found.items():
        for (opening, *_), _ in layers:
            if not is_norm(getattr(block, opening.part), width):
                raise refusal(block, f"has a layer that begins with {opening.part}, which "
                                     "feels the scale of what it reads")
    n_layers = sum(len(found[block].layers) for block in blocks)
    with torch.device(like.device):
        stream = residual(n_layers, width)
    if missing := [f for f in ("begin", "read", "write") if not hasattr(stream, f)]:
        raise ValueError(f"residual built a {type(stream).__name__} without {missing}: a "
                         "stream needs begin, read and write, see attnres_ref.streams")
    stream = stream.to(like.device, like.dtype)
    classes = {block: on_stream(type(block)) for block in found}
    decoder.stream = stream            # from here on nothing can fail
    for block, its_anatomy in found.items():
        object.__setattr__(block, "__class__", classes[block])
        vars(block)["fitting"] = Fitting(decoder, its_anatomy, n_layers, recompute)
    decoder.register_forward_hook(hidden_states_read)
    return decoder


def blocks_of(decoder: nn.Module) -> nn.ModuleList:
    """Its `layers`, in a ModuleList or one after the other, or its only ModuleList by any
    other name."""
    lists = [m for m in decoder.children() if isinstance(m, nn.ModuleList)]
    blocks = getattr(decoder, "layers", lists[0] if len(lists) == 1 else None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not blocks:
        raise ValueError(
            f"{type(decoder).__name__} has no ModuleList `layers` with blocks in it: pass "
            "the module that holds the blocks, for instance model.model"
        )
    return blocks


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
        return tuple(map(as_read, value)) if type(value) is tuple else value

    if isinstance(output, dict):
        if output.get("hidden_states") is not None:
            output["hidden_states"] = as_read(tuple(output["hidden_states"]))
        return None
    return as_read(output) if type(output) is tuple else None
