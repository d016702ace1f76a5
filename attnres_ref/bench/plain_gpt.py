"""What people compare with: a GPT-2 as it is usually written, of as many parameters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainGPT(nn.Module):
    """Tokens [B, T] -> logits [B, T, vocab]; LayerNorm without bias, learned positions,
    GELU with 4 d hidden units, and the residual written out. A Transformer block is two of
    the layers of `LMConfig`, whose sizes it takes."""

    def __init__(self, config):
        super().__init__()
        d = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, d)
        self.positions = nn.Embedding(config.context, d)
        self.blocks = nn.ModuleList(
            PlainBlock(d, config.n_heads) for _ in range(config.n_layers // 2)
        )
        self.norm = nn.LayerNorm(d, bias=False)
        self.head = nn.Linear(d, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PlainBlock(nn.Module):
    def __init__(self, d: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList(nn.LayerNorm(d, bias=False) for _ in range(2))
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))
