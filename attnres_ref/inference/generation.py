"""Text, one token at a time: a KV cache for the sequence, two phases for the depth."""

import codecs
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from attnres_ref.fields import is_real, is_whole
from attnres_ref.inference.cache import forget, with_cache
from attnres_ref.model import LM, check_tokens


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
    context = twin.step.config.context
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
