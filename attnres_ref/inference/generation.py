"""Text, one token at a time: a KV cache for the sequence, two phases for the depth.

The sequence attention needs the past, so its keys and values are kept (KDA's state and
MLA's latents in a hybrid). The depth attention never looks at another token: its state
lives for one step and is dropped.
"""

import codecs
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.model import LM, Attention, check_tokens


class CachedAttention(nn.Module):
    """An attention layer that is fed a sequence piece by piece: same weights, same
    outputs, with the keys and values of earlier pieces kept in a buffer.

    Raises ValueError for a piece that would pass the context, where RoPE ends.
    """

    def __init__(self, layer: Attention):
        super().__init__()
        self.layer = layer
        self.keys = self.values = None     # [B, heads, context, d_head], made when needed
        self.length = 0                    # positions filled so far

    def forget(self) -> None:
        self.keys = self.values = None
        self.length = 0

    def forward(self, h: Tensor) -> Tensor:
        layer, context = self.layer, self.layer.rope.cos.shape[0]
        start, end = self.length, self.length + h.shape[1]
        if end > context:
            raise ValueError(
                f"the cache holds {start} tokens and {h.shape[1]} more pass the context of "
                f"{context}: forget() and feed the latest {context}"
            )
        qkv = layer.qkv(layer.norm(h)).unflatten(-1, (3, layer.n_heads, -1))
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))         # [B, heads, T, d_head]
        if self.keys is None:
            shape = (*k.shape[:2], context, k.shape[3])
            self.keys, self.values = k.new_empty(shape), v.new_empty(shape)
        self.keys[:, :, start:end] = layer.rope(k, start)
        self.values[:, :, start:end] = v
        self.length = end
        # One new token sees everything; several see the past and their own left.
        mask = None
        if h.shape[1] > 1:
            mask = torch.ones(h.shape[1], end, dtype=torch.bool, device=h.device)
            mask = mask.tril(start)
        keys, values = self.keys[:, :, :end], self.values[:, :, :end]
        mixed = F.scaled_dot_product_attention(layer.rope(q, start), keys, values, mask)
        return layer.out(mixed.transpose(1, 2).flatten(2))            # [B, T, d]


class CachedMixer(nn.Module):
    """The same for a layer that says itself what it needs of the past, by a method
    `advance(h, past) -> output, past`: KDA keeps its state and the latest inputs of its
    convolution, MLA the latents of all tokens."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.forget()

    def forget(self) -> None:
        self.past, self.length = None, 0

    def forward(self, h: Tensor) -> Tensor:
        output, self.past = self.layer.advance(h, self.past)
        self.length += h.shape[1]
        return output


def cached(layer: nn.Module) -> nn.Module:
    """The layer with a memory of the past; an MLP, which has no use for one, as it is."""
    if isinstance(layer, Attention):
        return CachedAttention(layer)
    return CachedMixer(layer) if hasattr(layer, "advance") else layer


def with_cache(model: LM, stream: nn.Module | None = None) -> LM:
    """A twin of `model` that shares its weights and continues where it left off.

    Call it with the tokens that follow those it has seen: logits for them alone.
    stream: how depth is read; None means two phases, or PreNorm's own stream.
    `twin.layers[0].length` counts the tokens seen, where layer 0 mixes tokens (an MLP
    keeps nothing of the past); `forget(twin)` starts afresh.
    """
    if stream is None:
        plain = model.config.residual == "prenorm"
        stream = model.stream if plain else TwoPhase(model.stream)
    with torch.device("meta"):
        twin = LM(model.config)            # the loop alone: its weights take no memory
    twin.embedding, twin.norm, twin.head, twin.stream = (
        model.embedding, model.norm, model.head, stream
    )
    twin.layers = nn.ModuleList(cached(layer) for layer in model.layers)
    return twin


def forget(twin: LM) -> None:
    for layer in twin.layers:
        if isinstance(layer, CachedAttention | CachedMixer):
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
    if n_new < 0:
        raise ValueError(f"n_new is {n_new}: ask for 0 tokens or more")
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}: choose 0 (greedy) or more")
    if top_k is not None and not 1 <= top_k <= config.vocab_size:
        raise ValueError(
            f"top_k is {top_k}: choose 1 to the vocabulary's {config.vocab_size}, "
            "or None for all"
        )
    return _generate(
        with_cache(model, stream), tokens, n_new, temperature, top_k, generator
    )


@torch.no_grad()
def _generate(twin, tokens, n_new, temperature, top_k, generator):
    context = twin.config.context
    window = new = tokens[:, -context:]
    for _ in range(n_new):
        if new is not window and window.shape[1] > context:
            forget(twin)                   # the window slides: all positions are new
            window = new = window[:, -context:]
        drawn = sample(twin(new)[:, -1], temperature, top_k, generator)
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
    return _decode(drawn)


def _decode(drawn):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in drawn:
        if text := decoder.decode(bytes([token.item()])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
