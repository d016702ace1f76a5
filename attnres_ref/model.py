"""A small language model: the loop that reads from and writes to a residual stream."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnres_ref.depth import depth_attention
from attnres_ref.hybrid.layers import LAYERS, MIXERS
from attnres_ref.layers import MLP, Attention, RMSNorm, RoPE
from attnres_ref.variants import RESIDUALS

__all__ = [
    "LM", "LMConfig", "MLP", "Attention", "RMSNorm", "RoPE", "check_tokens", "generate",
]


@dataclass(frozen=True)
class LMConfig:
    """Everything that shapes the model. Raises ValueError for a field that does not fit."""

    vocab_size: int = 256          # 256: the tokens are bytes
    d_model: int = 256             # d, width of the residual stream
    n_layers: int = 16             # L: an attention and an MLP count as two layers
    n_heads: int = 4               # heads of the sequence attention
    context: int = 256             # longest sequence T
    residual: str = "block"        # a name in attnres_ref.variants.RESIDUALS
    block_size: int = 4            # S, layers per AttnRes block ("block" only)
    window: int = 8                # W, latest outputs a read sees ("window" only)
    depth_heads: int = 4           # heads of the depth attention ("multihead" only)
    n_streams: int = 4             # m, parallel residual streams ("mhc" only)
    layers: str = "attention,mlp"  # names in attnres_ref.hybrid.LAYERS, repeated up to L
    n_experts: int = 8             # E, routed experts ("moe" only)
    experts_per_token: int = 2     # k, how many of them a token uses ("moe" only)
    tied_head: bool = False        # the output head shares the embedding's matrix
    scaled_init: bool = False      # GPT-2: output projections start 1/sqrt(L) smaller
    rope_base: float = 10_000.0    # RoPE: longest wavelength / 2 pi, in tokens

    def __post_init__(self):
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.d_model % self.n_heads or self.d_head % 2:
            raise ValueError(
                f"d_model {self.d_model} over n_heads {self.n_heads} gives heads of width "
                f"{self.d_model / self.n_heads:g}: RoPE needs an even whole number, "
                "so make d_model a multiple of 2 * n_heads"
            )
        self._check_layers()
        if self.residual not in RESIDUALS:
            raise ValueError(
                f"residual is {self.residual!r}: choose one of {sorted(RESIDUALS)}"
            )
        with torch.device("meta"):     # a stream checks its own fields; costs no memory
            RESIDUALS[self.residual](self, None)

    def _check_layers(self):
        names = self.layer_names
        if unknown := set(names) - set(LAYERS):
            raise ValueError(
                f"layers is {self.layers!r} with {sorted(unknown)}: choose from "
                f"{sorted(LAYERS)}, separated by commas"
            )
        if not set(names) & set(MIXERS):
            raise ValueError(
                f"layers is {self.layers!r} and n_layers {self.n_layers}: without one of "
                f"{sorted(MIXERS)} no token sees another, so add one"
            )
        if "moe" in names and not 1 <= self.experts_per_token <= self.n_experts:
            raise ValueError(
                f"experts_per_token is {self.experts_per_token}: choose 1 to "
                f"n_experts = {self.n_experts}"
            )

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

    @property
    def d_expert(self) -> int:
        """Width inside an expert: the shared and the k routed ones that a token uses are
        together about as wide as the SwiGLU; a multiple of 8."""
        return 8 * math.ceil(self.d_hidden / 8 / (self.experts_per_token + 1))

    @property
    def d_latent(self) -> int:
        """Width of what MLA's cache keeps of a token."""
        return math.ceil(self.d_model / 4)


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
        self.stream = RESIDUALS[config.residual](config, attend)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] int64 -> logits [B, T, vocab]. Raises ValueError for others."""
        check_tokens(tokens, self.config)
        state = self.stream.begin(self.embedding(tokens))             # [B, T, d]
        for layer, f in enumerate(self.layers):
            state = self.stream.write(state, layer, f(self.stream.read(state, layer)))
        hidden = self.stream.read(state, len(self.layers))            # the final read
        return self.head(self.norm(hidden))

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


def check_tokens(tokens: Tensor, config: LMConfig) -> None:
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
    # On a GPU looking at the values would stall the stream; its own assertion fires.
    if tokens.device.type == "cpu" and tokens.numel() and not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in tokens.aminmax())
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"tokens holds values from {low} to {high}: "
                f"a vocabulary of {config.vocab_size} needs 0 to {config.vocab_size - 1}"
            )


@torch.no_grad()
def generate(model: LM, tokens: Tensor, n_new: int, temperature: float = 1.0) -> Tensor:
    """Continue tokens [B, T >= 1] by n_new sampled ones -> [B, T + n_new].

    Plain and slow: the whole window runs again for every new token. Draws from
    torch's global generator; the model sees the last `context` tokens.
    """
    if tokens.shape[1] < 1 or n_new < 0 or temperature <= 0:
        raise ValueError(
            f"tokens has length {tokens.shape[1]}, n_new is {n_new}, temperature is "
            f"{temperature}: they must be at least 1, at least 0 and above 0"
        )
    for _ in range(n_new):
        logits = model(tokens[:, -model.config.context :])[:, -1]     # [B, vocab]
        chances = (logits.float() / temperature).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(chances, 1)], dim=1)
    return tokens
