"""A small language model: the loop that reads from and writes to a residual stream.

A layer is half a Transformer block, an attention or an MLP; *block* always means an AttnRes
block of S layers. A layer maps what it reads from the stream, h [B, T, d], to what it
writes, [B, T, d], and its norm is inside. The layers of a hybrid join LAYERS from
attnres_ref.hybrid.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import depth_attention, score_dtype
from attnres_ref.fields import check_bounds, check_types, is_real, is_whole
from attnres_ref.streams import STREAMS


@dataclass(frozen=True)
class LMConfig:
    """Everything that shapes the model. Raises ValueError for a field that does not fit."""

    vocab_size: int = 256          # 256: the tokens are bytes
    d_model: int = 256             # d, width of the residual stream
    n_layers: int = 16             # L: an attention and an MLP count as two layers
    n_heads: int = 4               # heads of the sequence attention
    context: int = 256             # longest sequence T
    residual: str = "block"        # "prenorm", "full", "block", or another in STREAMS
    block_size: int = 4            # S, layers per AttnRes block ("block" only)
    layers: str = "attention,mlp"  # names in LAYERS, below; the pattern repeats up to L
    tied_head: bool = False        # the output head shares the embedding's matrix
    scaled_init: bool = False      # GPT-2: output projections start 1/sqrt(L) smaller
    rope_base: float = 10_000.0    # RoPE: base of the frequencies
    # Only for streams of attnres_ref.variants and layers of attnres_ref.hybrid:
    window: int = 8                # W, latest outputs a read sees ("window")
    depth_heads: int = 4           # heads of the depth attention ("multihead")
    n_streams: int = 4             # m, parallel residual streams ("mhc")
    n_experts: int = 8             # E, routed experts ("moe")
    experts_per_token: int = 2     # k, how many of them a token uses ("moe")

    def __post_init__(self):
        check_types(self)
        check_bounds(self, ("vocab_size", "d_model", "n_layers", "n_heads", "context"), 1)
        check_bounds(self, ("rope_base",), 0, above=True)
        if self.d_model % self.n_heads or self.d_head % 2:
            raise ValueError(
                f"d_model {self.d_model} over n_heads {self.n_heads} gives heads of width "
                f"{self.d_model / self.n_heads:g}: RoPE needs an even whole number, "
                "so make d_model a multiple of 2 * n_heads"
            )
        if self.residual not in STREAMS:
            raise ValueError(
                f"residual is {self.residual!r}: choose one of {sorted(STREAMS)}"
            )
        names = set(self.layer_names)
        if unknown := names - set(LAYERS):
            raise ValueError(
                f"layers is {self.layers!r} with {sorted(unknown)}: choose from "
                f"{sorted(LAYERS)}, separated by commas"
            )
        if not names & MIXERS:
            raise ValueError(
                f"layers is {self.layers!r} and n_layers {self.n_layers}: without one of "
                f"{sorted(MIXERS)} no token sees another, so add one"
            )
        if "moe" in names and not 1 <= self.experts_per_token <= self.n_experts:
            raise ValueError(
                f"experts_per_token is {self.experts_per_token}: choose 1 to "
                f"n_experts = {self.n_experts}"
            )
        # A stream checks, when it is built, the fields that it alone uses. Build one and
        # throw it away; on the meta device that takes no memory.
        with torch.device("meta"):
            STREAMS[self.residual](self, depth_attention)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What each of the L layers is: the pattern, repeated and cut to length."""
        pattern = [name.strip() for name in self.layers.split(",")]
        return tuple(pattern[layer % len(pattern)] for layer in range(self.n_layers))

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def d_hidden(self) -> int:
        """Width inside the SwiGLU: 8/3 d (as many parameters as 4 d without the
        gate), rounded up to a multiple of 8."""
        return 8 * math.ceil(self.d_model / 3)


class LM(nn.Module):
    """Byte-level Transformer decoder over any residual stream.

    attend: the depth operator that AttnRes streams call at every read; pass
    another function of the same signature to swap it.
    Weights come from torch's global generator and do not depend on the stream, so
    models built after the same `torch.manual_seed` share all weights by value.
    """

    def __init__(self, config: LMConfig, attend=depth_attention):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(LAYERS[name](config) for name in config.layer_names)
        self.norm = RMSNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_head:
            self.head.weight = self.embedding.weight
        self.initialise()
        self.stream = STREAMS[config.residual](config, attend)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] int64 -> logits [B, T, vocab]. Raises ValueError for others."""
        check_tokens(tokens, self.config)
        state = self.stream.begin(self.embedding(tokens))             # [B, T, d]
        for layer, f in enumerate(self.layers):
            state = self.stream.write(state, layer, f(self.stream.read(state, layer)))
        hidden = self.stream.read(state, len(self.layers))            # the final read
        return self.head(self.norm(hidden))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self.config.tied_head:          # to_empty() makes two matrices of the one
            self.head.weight = self.embedding.weight
        return self

    @torch.no_grad()
    def initialise(self):
        """Normal with standard deviation fan_in^-1/2 for all matrices, d^-1/2 for the
        embedding. Vectors keep what their layer gave them. Runs before the stream exists,
        so its zeros stay zeros."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
            if self.config.scaled_init and name.endswith("out.weight"):
                weight.mul_(self.config.n_layers ** -0.5)


class Attention(nn.Module):
    """One layer: causal self-attention over the sequence, with RoPE."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.n_heads, self.context = config.n_heads, config.context
        self.norm = RMSNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.rope = RoPE(config)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(h)).unflatten(-1, (3, self.n_heads, -1))
        qkv = qkv.permute(2, 0, 3, 1, 4)                      # [3, B, heads, T, d_head]
        q, k = self.rope(qkv[:2])
        mixed = F.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))             # [B, T, d]


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm with its default eps, the rounding unit of the dtype it computes in
    (float32 for half precision). A larger eps would let a layer feel the scale of its
    input, and PreNorm, Full and Block would no longer start as the same function."""

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast x is half precision and the weight float32: align them.
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype))


class RoPE(nn.Module):
    """Rotary positions: channels j and j + d_head / 2 turn together, at position t by the
    angle t / base^(2j / d_head). Angles are made anew at each call, in float32 or wider: a
    table would be rounded by `model.bfloat16()` and left empty by `model.to_empty()`."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.base = config.rope_base

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """x [..., T, d_head] at positions start (int or tensor), start + 1, ...: turned."""
        T, d_head = x.shape[-2:]
        like_x = dict(device=x.device, dtype=score_dtype(x))
        pair = torch.arange(0, d_head, 2, **like_x)                   # 2 j
        positions = start + torch.arange(T, **like_x)
        angle = torch.outer(positions, self.base ** -(pair / d_head))     # [T, d_head / 2]
        cos = torch.cat([angle.cos(), angle.cos()], -1).to(x.dtype)
        sin = torch.cat([-angle.sin(), angle.sin()], -1).to(x.dtype)
        # The halves [a, b] at once: [a, b] [cos, cos] + [b, a] [-sin, sin].
        return torch.addcmul(x * cos, x.roll(d_head // 2, -1), sin)


class MLP(nn.Module):
    """One layer: SwiGLU."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.norm = RMSNorm(config.d_model)
        self.gate = nn.Linear(config.d_model, config.d_hidden, bias=False)
        self.up = nn.Linear(config.d_model, config.d_hidden, bias=False)
        self.out = nn.Linear(config.d_hidden, config.d_model, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        x = self.norm(h)
        return self.out(F.silu(self.gate(x)) * self.up(x))


# LMConfig.layers -> the classes, and those in which a token sees earlier ones.
LAYERS = {"attention": Attention, "mlp": MLP}
MIXERS = {"attention"}


def check_tokens(tokens: Tensor, config: LMConfig) -> None:
    """Raise ValueError unless `tokens` is what an LM of this configuration can read."""
    if not isinstance(tokens, Tensor):
        raise ValueError(f"tokens is a {type(tokens).__name__}: pass a tensor [B, T]")
    if tokens.dtype != torch.int64 or tokens.dim() != 2:
        raise ValueError(
            f"tokens has dtype {tokens.dtype} and shape {list(tokens.shape)}: "
            "pass int64 of shape [B, T], for instance tokens.long()"
        )
    if tokens.shape[1] > config.context:
        raise ValueError(
            f"tokens has length {tokens.shape[1]}, the context is {config.context}: "
            "cut it, or build the model with a larger LMConfig.context"
        )
    # On a GPU this check would wait for all the work in the queue; there the embedding's
    # own assertion catches a bad token.
    if tokens.device.type == "cpu" and tokens.numel():
        low, high = known_values(torch.stack(tokens.aminmax())) or (0, 0)
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"tokens holds values from {low} to {high}: "
                f"a vocabulary of {config.vocab_size} needs 0 to {config.vocab_size - 1}"
            )


def known_values(tensor: Tensor) -> list | None:
    """What a tensor holds; None where it cannot say: compiling, meta, fake, under vmap."""
    try:
        return None if torch.compiler.is_compiling() else tensor.tolist()
    except RuntimeError:
        return None


@torch.no_grad()
def generate(model: LM, tokens: Tensor, n_new: int, temperature: float = 1.0) -> Tensor:
    """Continue tokens [B, T >= 1] by n_new sampled ones -> [B, T + n_new].

    Plain and slow: the whole window runs again for every new token. Draws from
    torch's global generator; the model sees the last `context` tokens.
    """
    fits = is_whole(n_new, 0) and is_real(temperature, 0) and temperature > 0
    if tokens.shape[1] < 1 or not fits:
        raise ValueError(
            f"tokens has length {tokens.shape[1]}, n_new is {n_new}, temperature is "
            f"{temperature}: they must be at least 1, at least 0 and above 0"
        )
    for _ in range(n_new):
        logits = model(tokens[:, -model.config.context :])[:, -1]     # [B, vocab]
        chances = (logits.float() / temperature).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(chances, 1)], dim=1)
    return tokens
