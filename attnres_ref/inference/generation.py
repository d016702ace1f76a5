"""Text, one token at a time: a KV cache for the sequence, two phases for the depth.

The sequence attention needs the past, so its keys and values are kept (KDA's state and
MLA's latents in a hybrid). The depth attention never looks at another token: its state
lives for one step and is dropped.
"""

import codecs
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.fields import is_real, is_whole
from attnres_ref.inference.two_phase import TwoPhase, can_schedule
from attnres_ref.model import LAYERS, LM, MIXERS, Attention, check_tokens
from attnres_ref.views import with_parts


class CachedMixer(nn.Module):
    """A layer that is fed a sequence piece by piece: same weights, same outputs.

    advance(h, past) -> output, past says what the layer needs of earlier pieces, None at
    the start: attention its keys and values, MLA the latents of all tokens, KDA its state
    and the latest inputs of its convolution. Raises ValueError for a piece of another batch
    size than those before it, and after a piece that only some of the twin's layers took.
    """

    def __init__(self, layer: nn.Module, advance):
        super().__init__()
        self.layer, self.advance = layer, advance
        self.mixers = [self]           # all of one twin, in order; with_cache sets them
        self.forget()

    def forget(self) -> None:
        self.past, self.batch_size, self.midway = None, None, False

    def forward(self, h: Tensor) -> Tensor:
        if self.batch_size not in (None, len(h)):
            raise ValueError(
                f"the batch has {len(h)} sequences, the cache holds {self.batch_size}: "
                "forget() before another batch"
            )
        # A piece may break off between two layers (a context that is full, Ctrl-C); those
        # before have taken it then, and whatever followed would be wrong.
        first = self.mixers[0]
        if self is first and first.midway:
            raise ValueError("the last piece was not finished: forget() and begin anew")
        output, self.past = self.advance(h, self.past)
        self.batch_size = len(h)
        first.midway = self is not self.mixers[-1]
        return output


def advance_attention(layer: Attention, h: Tensor, past) -> tuple[Tensor, tuple]:
    """`layer` on h [B, T, d], which follows the tokens whose keys and values `past` holds,
    [B, heads, T0, d_head] each: its output, the keys and values of all T0 + T.

    Raises ValueError for a piece that would pass the context, where RoPE ends.
    """
    context = layer.context
    start = past[0].shape[2] if past else 0
    if start + h.shape[1] > context:
        raise ValueError(
            f"the cache holds {start} tokens and {h.shape[1]} more pass the context of "
            f"{context}: forget() and feed the latest {context}"
        )
    qkv = layer.qkv(layer.norm(h)).unflatten(-1, (3, layer.n_heads, -1))
    qkv = qkv.permute(2, 0, 3, 1, 4)                          # [3, B, heads, T, d_head]
    (q, k), v = layer.rope(qkv[:2], start), qkv[2]
    if past:
        k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v)))
    # One new token sees everything; several see the past and their own left.
    mask = None
    if h.shape[1] > 1:
        shape = h.shape[1], k.shape[2]
        mask = torch.ones(shape, dtype=torch.bool, device=h.device).tril(start)
    mixed = F.scaled_dot_product_attention(q, k, v, mask)
    return layer.out(mixed.transpose(1, 2).flatten(2)), (k, v)        # [B, T, d]


def cached(layer: nn.Module) -> nn.Module:
    """The layer with a memory of the past; an MLP, which has no use for one, as it is.
    Raises ValueError for a layer that may need a past, and is not known here."""
    own = getattr(layer, "_orig_mod", layer)           # what torch.compile has wrapped
    if type(own) is Attention:
        return CachedMixer(own, partial(advance_attention, own))
    if hasattr(own, "advance"):
        return CachedMixer(own, own.advance)
    if type(own) in {LAYERS[name] for name in LAYERS.keys() - MIXERS}:
        return layer
    raise ValueError(
        f"layer is a {type(own).__name__}: a cache knows Attention, layers with a method "
        "`advance`, and those in LAYERS that are no MIXERS; model.generate needs no cache"
    )


def with_cache(model: LM, stream: nn.Module | None = None) -> LM:
    """A twin of `model` that shares its weights and continues where it left off.

    Call it with the tokens that follow those it has seen: logits for them alone.
    `forget(twin)` starts afresh; what was seen before a training step was seen by other
    weights. stream: how depth is read; None means two phases where they can be scheduled,
    else the model's own stream.
    """
    if stream is None:
        own = model.stream
        stream = TwoPhase(own) if can_schedule(own) else own
    layers = nn.ModuleList(cached(layer) for layer in model.layers)
    mixers = [layer for layer in layers if isinstance(layer, CachedMixer)]
    for mixer in mixers:
        mixer.mixers = mixers
    return with_parts(model, layers=layers, stream=stream)


def forget(twin: LM) -> None:
    for layer in twin.layers:
        if isinstance(layer, CachedMixer):
            layer.forget()


def generate_tokens(
    model: LM,
    tokens: Tensor,
    n_new: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    stream: nn.Module | None = None,
) -> Iterator[Tensor]:
    """Continue tokens [B, T >= 1] by n_new more: an iterator of [B], token by token.

    temperature: 0 takes the likeliest token; top_k: draw among the k likeliest (and
    those that tie with the last of them); generator: None means torch's global one;
    stream: as in `with_cache`. The tokens are those of the plain model run on its last
    `context` tokens at every step (`attnres_ref.model.generate`). Past the context
    this has a price: the window slides, every position changes, and each new token
    costs a full window. A longer prompt is read from its last `context` tokens.
    Raises ValueError at the call, not at the first token.
    """
    config = model.config
    if tokens.dim() != 2 or tokens.shape[1] < 1:
        raise ValueError(
            f"tokens has shape {list(tokens.shape)}: pass [B, T] with at least one token, "
            "for instance a newline"
        )
    check_tokens(tokens[:, -config.context :], config)
    if not is_whole(n_new, 0):
        raise ValueError(f"n_new is {n_new}: ask for 0 tokens or more")
    if not is_real(temperature, 0):
        raise ValueError(f"temperature is {temperature}: choose 0 (greedy) or more")
    if top_k is not None and not is_whole(top_k, 1, config.vocab_size):
        raise ValueError(
            f"top_k is {top_k}: choose 1 to the vocabulary's {config.vocab_size}, "
            "or None for all"
        )
    draw = partial(sample, temperature=temperature, top_k=top_k, generator=generator)
    return _generate(with_cache(model, stream), tokens, n_new, draw)


@torch.no_grad()
def _generate(twin, tokens, n_new, draw):
    context = twin.config.context
    window = new = tokens[:, -context:]
    for _ in range(n_new):
        if window.shape[1] > context:
            forget(twin)                   # the window slides: all positions are new
            window = new = window[:, -context:]
        drawn = draw(twin(new)[:, -1])                                # [B]
        new = drawn.unsqueeze(1)
        window = torch.cat([window, new], dim=1)
        yield drawn


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token for each row of logits [B, vocab]: [B] int64."""
    if temperature == 0:
        return logits.argmax(-1)
    # From the largest: a tiny temperature gives -inf and 0, never inf.
    logits = (logits.float() - logits.float().amax(-1, keepdim=True)) / temperature
    if top_k is not None:
        smallest_kept = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)


def generate_text(model: LM, prompt: str, n_new: int, **options) -> Iterator[str]:
    """The continuation of `prompt` by n_new bytes as pieces of text, for byte-level
    models; `options` as for `generate_tokens`, which also says what is raised.

    A character is yielded once its last byte is there; bytes that form none give U+FFFD.
    """
    device = model.head.weight.device
    tokens = torch.tensor([list(prompt.encode())], dtype=torch.int64, device=device)
    drawn = generate_tokens(model, tokens, n_new, **options)
    return codecs.iterdecode((bytes(token.tolist()) for token in drawn), "utf-8", "replace")
