"""A model that is fed a sequence piece by piece, as inference engines do it.

The sequence attention needs the past, so its keys and values are kept (KDA's state and
MLA's latents in a hybrid). The depth attention never looks at another token: its state
lives for one step and is dropped, whatever the residual.

Keys and values lie in tensors as long as the context, and the place where a piece begins
is a tensor too. No shape and no number of the program changes from one token to the next,
so one compiled graph, or one captured CUDA graph, serves them all. The price is that the
attention of a token, and of a prompt's later pieces, runs over the whole context, and a
mask hides what is not there yet. (MLA's latents still grow, and with them its shapes.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.inference.two_phase import TwoPhase, can_schedule
from attnres_ref.model import LAYERS, LM, MIXERS, Attention, check_tokens, known_values
from attnres_ref.views import with_parts


class Position(nn.Module):
    """Where the next piece begins, shared by all layers of a twin."""

    def __init__(self):
        super().__init__()
        self.register_buffer("start", torch.zeros(1, dtype=torch.int64), persistent=False)
        self.at_zero = True            # known without asking the device


class CachedAttention(nn.Module):
    """`layer` on a piece h [B, T, d] that begins at `position`: its part of the output.

    keys, values: [B, heads, context, d_head], of the weights' dtype and on their device;
    they hold every token so far, and zeros beyond.
    """

    def __init__(self, layer: Attention, position: Position):
        super().__init__()
        self.layer, self.position = layer, position
        self.register_buffer("keys", None, persistent=False)
        self.register_buffer("values", None, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        layer, start, T = self.layer, self.position.start, h.shape[1]
        qkv = layer.qkv(layer.norm(h)).unflatten(-1, (3, layer.n_heads, -1))
        qkv = qkv.permute(2, 0, 3, 1, 4)                      # [3, B, heads, T, d_head]
        (q, k), v = layer.rope(qkv[:2], start), qkv[2]
        places = start + torch.arange(T, device=h.device)
        self.keys.index_copy_(2, places, k.to(self.keys.dtype))       # autocast halves k
        self.values.index_copy_(2, places, v.to(self.values.dtype))
        if T > 1 and self.position.at_zero:                   # a prompt sees itself alone
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            seen = torch.arange(layer.context, device=h.device) <= places.unsqueeze(1)
            mixed = F.scaled_dot_product_attention(q, self.keys, self.values, seen)
        return layer.out(mixed.transpose(1, 2).flatten(2))            # [B, T, d]

    def make_room(self, batch_size: int) -> None:
        """Before a piece: zeros for a batch of another size; otherwise what is there, cast
        and moved as the layer was."""
        weight, n_heads = self.layer.qkv.weight, self.layer.n_heads
        d_head = len(weight) // (3 * n_heads)
        shape = batch_size, n_heads, self.layer.context, d_head
        if self.keys is None or self.keys.shape != shape:
            self.keys, self.values = weight.new_zeros(shape), weight.new_zeros(shape)
        elif (self.keys.dtype, self.keys.device) != (weight.dtype, weight.device):
            self.keys, self.values = self.keys.to(weight), self.values.to(weight)

    def forget(self) -> None:
        if self.keys is not None:      # hidden by the mask, but a NaN times zero is a NaN
            self.keys.zero_()
            self.values.zero_()

    def keep(self) -> None:
        """Nothing to do: what lies beyond `position` is masked until it is written."""


class CachedMixer(nn.Module):
    """The same for a layer that says itself how it goes on: KDA, MLA.

    layer.advance(h, past) -> output, the next past; past is None at the start. Raises
    ValueError where a model has been cast or moved in the middle of a text.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.forget()

    def forward(self, h: Tensor) -> Tensor:
        here = h.dtype, h.device
        if self.past is not None and self.here != here:
            raise ValueError(
                f"the cache is {self.here}, the model now {here}: forget() and feed the "
                "text anew"
            )
        output, self.next = self.layer.advance(h, self.past)
        self.here = here
        return output

    def make_room(self, batch_size: int) -> None:
        """Nothing to do: `advance` does."""

    def forget(self) -> None:
        self.past = self.next = self.here = None

    def keep(self) -> None:
        """The piece has gone through all layers: go on from there."""
        self.past = self.next


def cached(layer: nn.Module, position: Position) -> nn.Module:
    """The layer with a memory of the past; an MLP, which has no use for one, as it is.
    Raises ValueError for a layer that may need a past, and is not known here."""
    own = getattr(layer, "_orig_mod", layer)           # what torch.compile has wrapped
    if type(own) is Attention:
        return CachedAttention(own, position)
    if hasattr(own, "advance"):
        return CachedMixer(own)
    if type(own) in {LAYERS[name] for name in LAYERS.keys() - MIXERS}:
        return layer
    raise ValueError(
        f"layer is a {type(own).__name__}: a cache knows Attention, layers with a method "
        "`advance`, and those in LAYERS that are no MIXERS; model.generate needs no cache"
    )


class Cached(nn.Module):
    """The twin that `with_cache` returns.

    Call it with tokens [B, T] that follow those it has seen: logits [B, T, vocab] for them
    alone, without gradients. A step that breaks off (Ctrl-C) leaves it where it was.
    `step` is the LM that does the work, and does not move on: `twin.step.compile()`
    compiles it. A CUDA graph captures it, after one call has made room for this batch size;
    after a replay `advance` moves on.
    Raises ValueError for a piece of another batch size than those before it, and for one
    that would pass the context, where RoPE ends (under torch.compile(twin) the error is
    that of an index out of bounds).
    """

    def __init__(self, step: LM, position: Position, memories: list[nn.Module]):
        super().__init__()
        self.step, self.position = step, position
        self.memories = memories               # the layers of the step that remember
        forget(self)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        self.check(tokens)
        self.make_room(tokens)
        logits = self.step(tokens)
        self.batch_size = len(tokens)
        self.advance(tokens.shape[1])
        return logits

    def advance(self, n_tokens: int) -> None:
        """The step has taken so many tokens: go on behind them."""
        self.n_seen = self.n_seen + n_tokens
        self.position.start += n_tokens
        self.position.at_zero = False
        for memory in self.memories:
            memory.keep()

    @torch.inference_mode(False)               # a later piece may come without it
    def make_room(self, tokens: Tensor) -> None:
        if self.position.start.device != tokens.device:        # the model has moved
            self.position.to(tokens.device)
        for memory in self.memories:
            memory.make_room(len(tokens))

    def check(self, tokens: Tensor) -> None:
        check_tokens(tokens, self.step.config)
        if self.batch_size not in (None, len(tokens)):
            raise ValueError(
                f"the batch has {len(tokens)} sequences, the cache holds {self.batch_size}:"
                " forget() before another batch"
            )
        context = self.step.config.context
        if (n := known_values(self.n_seen)) and n[0] + tokens.shape[1] > context:
            raise ValueError(
                f"the cache holds {n[0]} tokens and {tokens.shape[1]} more pass the "
                f"context of {context}: forget() and feed the latest {context}"
            )


@torch.inference_mode(False)
def with_cache(model: LM, stream: nn.Module | None = None) -> Cached:
    """A twin of `model` that shares its weights and continues where it left off.

    It follows the model through training, loading, casts and moves, and can be copied,
    cast and moved itself. `forget(twin)` starts afresh; what was seen before a training
    step was seen by other weights. stream: how depth is read; None means two phases where
    they can be scheduled, else the model's own stream.
    """
    if stream is None:
        own = model.stream
        stream = TwoPhase(own) if can_schedule(own) else own
    position = Position().to(model.head.weight.device)
    layers = nn.ModuleList(cached(layer, position) for layer in model.layers)
    memories = [x for x in layers if isinstance(x, CachedAttention | CachedMixer)]
    return Cached(with_parts(model, layers=layers, stream=stream), position, memories)


def forget(twin: Cached) -> None:
    """Back to the start, for another text or batch; the tensors stay where they are."""
    # `start` on the CPU, for the checks: to ask a GPU for it would be to wait for it. As a
    # number it would be part of the program, and torch.compile(twin) compile every token.
    twin.batch_size, twin.n_seen = None, torch.zeros(1, dtype=torch.int64)
    twin.position.start.zero_()
    twin.position.at_zero = True
    for memory in twin.memories:
        memory.forget()
