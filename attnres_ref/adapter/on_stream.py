"""A block of a decoder that reads from a residual stream and writes to it.

The decoder's own `forward` never looks inside what it hands from block to block, so a
stream's state can travel where the sum did.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import checkpoint

from attnres_ref.adapter.anatomy import Anatomy, Call


def no_tensor(*_):
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
    __torch_function__ = classmethod(no_tensor)


class Handed(NamedTuple):
    """What a block hands to the next. A tuple of one, since whoever records hidden states
    of a block takes the first of what it returns."""

    at: At

    __add__ = __radd__ = __mul__ = __rmul__ = __getattr__ = no_tensor
    __torch_function__ = classmethod(no_tensor)


class Fitting(NamedTuple):
    """What a block needs to know on a stream. No module, or it would own the decoder."""

    decoder: nn.Module                 # whose `stream` it is, also one that comes later
    anatomy: Anatomy
    n_layers: int                      # of the decoder: after the last is the final read
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
        if isinstance(hidden, Handed):
            state, layer = hidden.at
        else:                          # without gradients, no source wants any
            grad = torch.is_grad_enabled()
            state, layer = stream.begin(hidden if grad else hidden.detach()), 0
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
