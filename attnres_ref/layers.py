"""The layers of the plain Transformer: attention with RoPE, and SwiGLU. A layer maps what
it reads from the residual stream, h [B, T, d], to what it writes; its norm is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:                      # model.py imports this file
    from attnres_ref.model import LMConfig


class Attention(nn.Module):
    """One layer: causal self-attention over the sequence, with RoPE."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.norm = RMSNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.rope = RoPE(config)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(h)).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)                      # [B, heads, T, d_head]
        mixed = F.scaled_dot_product_attention(
            self.rope(q), self.rope(k), v, is_causal=True
        )
        return self.out(mixed.transpose(1, 2).flatten(2))             # [B, T, d]


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm with its default eps, the rounding unit of the dtype. A larger
    eps would let a layer feel the scale of its input, and PreNorm, Full and Block
    would no longer agree to rounding at initialisation."""

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast x is half precision and the weight float32: align them.
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype))


class RoPE(nn.Module):
    """Rotary positions: channel pair j at position t turns by t / base^(2j / d_head)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        frequency = config.rope_base ** -(torch.arange(0, config.d_head, 2) / config.d_head)
        angle = torch.outer(torch.arange(config.context), frequency)  # [context, d_head/2]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = (table[: x.shape[-2]].to(x.dtype) for table in (self.cos, self.sin))
        first, second = x.chunk(2, dim=-1)                            # [..., T, d_head / 2]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


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
