"""Kimi Delta Attention (arXiv 2510.26692): linear attention that corrects and forgets.

Each head keeps a state S [K, V], a linear map from keys to values. Per token:

    S <- Diag(exp g) S                     forget, with a rate for every key channel
    S <- S + beta k (v - k^T S)^T          correct what S returns for k, towards v
    o  = S^T q                             read

`kda_recurrent` is that loop. `kda_chunked` gives the same by matrix products.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import no_autocast, widened
from attnres_ref.model import LMConfig, RMSNorm

WIDTH = 4                              # tokens that the short convolution sees


def kda_recurrent(q, k, v, g, beta, state=None) -> tuple[Tensor, Tensor]:
    """Token by token. q, k, g: [B, H, T, K], v: [B, H, T, V], beta: [B, H, T]; g <= 0;
    state: [B, H, K, V], what earlier tokens left, None for nothing.
    Returns o [B, H, T, V] and the state after the last token.
    """
    if state is None:
        state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    outputs = []
    for t in range(q.shape[2]):
        state = g[:, :, t].exp().unsqueeze(-1) * state
        key = k[:, :, t].unsqueeze(-1)                                # [B, H, K, 1]
        error = v[:, :, t].unsqueeze(-2) - key.mT @ state             # [B, H, 1, V]
        state = state + beta[:, :, t, None, None] * key * error
        outputs.append(q[:, :, t].unsqueeze(-2) @ state)
    return torch.cat(outputs, dim=2), state


def kda_chunked(q, k, v, g, beta, state=None, chunk: int = 32) -> tuple[Tensor, Tensor]:
    """`kda_recurrent` chunk by chunk; `chunk` is a power of two, T any length.

    In a chunk that starts from S, let G be the running sum of g and u_t = beta_t times
    the error of token t. Unrolled,

        S_t = Diag(exp G_t) S + sum_{s <= t} Diag(exp(G_t - G_s)) k_s u_s^T

    so the u solve (I + Diag(beta) A) U = Diag(beta) (V - (K exp G) S), where A is the
    strictly lower part of k_t . exp(G_t - G_s) k_s: a triangular system with two right
    sides, one of which S multiplies. All but S <- M S + N runs for all chunks at once.
    """
    T = q.shape[2]
    q, k, v, g, beta = (                                             # [B, H, n, chunk, ...]
        F.pad(x, (0, 0, 0, -T % chunk)).unflatten(2, (-1, chunk))
        for x in (q, k, v, g, beta.unsqueeze(-1))
    )
    G = g.cumsum(-2)
    A, seen = decayed_products(torch.stack([k, q]), k, G)             # [..., chunk, chunk]
    right = beta * torch.cat([v, k * G.exp()], dim=-1)
    # unitriangular: the diagonal of A is taken as the one of I
    solved = torch.linalg.solve_triangular(beta * A, right, upper=False, unitriangular=True)
    U_0, U_S = solved.split([v.shape[-1], k.shape[-1]], dim=-1)       # U = U_0 - U_S S
    end = G[..., -1:, :]
    left_behind = (k * (end - G).exp()).mT                            # [..., K, chunk]
    M = torch.diag_embed(end.squeeze(-2).exp()) - left_behind @ U_S
    N = left_behind @ U_0
    state = torch.zeros_like(N[:, :, 0]) if state is None else state
    starts = []
    for M_n, N_n in zip(M.unbind(2), N.unbind(2)):
        starts.append(state)
        state = M_n @ state + N_n
    S = torch.stack(starts, dim=2)                                    # [B, H, n, K, V]
    o = (q * G.exp()) @ S + seen @ (U_0 - U_S @ S)
    return o.flatten(2, 3)[:, :, :T], state


def decayed_products(x: Tensor, k: Tensor, G: Tensor) -> Tensor:
    """sum_c x_tc k_sc exp(G_tc - G_sc) for s <= t, else 0: [..., C, K] -> [..., C, C].

    C is a power of two. G never rises with t, so no exp here may overflow: for t in the
    later half and s in the earlier one, the difference is split at the earlier half's
    end into two that are not positive. Inside the halves: the same again.
    """
    C = k.shape[-2]
    if C == 1:
        return (x * k).sum(-1, keepdim=True)
    x, k, G = (y.unflatten(-2, (2, C // 2)) for y in (x, k, G))       # [..., 2, C/2, K]
    early, late = decayed_products(x, k, G).unbind(-3)                # [..., C/2, C/2]
    border = G[..., 0, -1:, :]
    since = (G[..., 1, :, :] - border).exp()
    until = (border - G[..., 0, :, :]).exp()
    across = (x[..., 1, :, :] * since) @ (k[..., 0, :, :] * until).mT
    top, bottom = F.pad(early, (0, C // 2)), torch.cat([across, late], dim=-1)
    return torch.cat([top, bottom], dim=-2)


class KDA(nn.Module):
    """One layer: Kimi Delta Attention. Position comes from the order of the updates and
    from the convolution; there is no RoPE."""

    def __init__(self, config: LMConfig):
        super().__init__()
        d, self.n_heads = config.d_model, config.n_heads
        self.norm = RMSNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.conv = nn.Parameter(torch.randn(3 * d, WIDTH) * WIDTH**-0.5)
        self.forget = ForgetGate(config)
        self.beta = nn.Linear(d, self.n_heads, bias=False)
        self.gate = low_rank(d, config.d_head)
        self.head_norm = RMSNorm(config.d_head)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return self.advance(h)[0]

    def advance(self, h: Tensor, past=None) -> tuple[Tensor, tuple]:
        """h [B, T, d] that follows what `past` comes from -> output, the next past: the
        latest inputs of the convolution [B, 3, 3 d] and the state [B, H, K, V]."""
        x = self.norm(h)
        new = self.qkv(x)                                             # [B, T, 3 d]
        nothing = new.new_zeros(len(new), WIDTH - 1, new.shape[-1]), None
        latest, state = nothing if past is None else past
        latest = torch.cat([latest, new], dim=1)                      # [B, 3 + T, 3 d]
        qkv = F.conv1d(latest.mT, self.conv.unsqueeze(1), groups=len(self.conv))
        q, k, v = self.heads(F.silu(qkv.mT)).chunk(3, dim=-1)         # [B, H, T, K] each
        g, beta = self.heads(self.forget(x)), self.beta(x).mT      # [B, H, T, K], [B, H, T]
        with no_autocast(x):
            q, k, v, beta = (y.to(g.dtype) for y in (q, k, v, beta))
            q = F.normalize(q, dim=-1) * q.shape[-1] ** -0.5
            k = F.normalize(k, dim=-1)
            mix = kda_recurrent if h.shape[1] == 1 else kda_chunked
            o, state = mix(q, k, v, g, beta.sigmoid(), state)
        o = self.head_norm(o.to(x.dtype)) * self.heads(self.gate(x)).sigmoid()
        return self.out(o.transpose(1, 2).flatten(2)), (latest[:, 1 - WIDTH :], state)

    def heads(self, x: Tensor) -> Tensor:
        """[B, T, H w] -> [B, H, T, w]."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class ForgetGate(nn.Module):
    """g = -exp(A) softplus(W_f x + bias) <= 0, in float32 or wider: [B, T, d] -> [B, T, d].

    A is one number a head, so exp(A) sets how fast a head forgets; bias is one a channel,
    and W_f goes through d_head numbers. A and bias are vectors: they keep this start in
    LM.initialise, and have no weight decay.
    """

    def __init__(self, config: LMConfig):
        super().__init__()
        self.low_rank = low_rank(config.d_model, config.d_head)
        self.A = nn.Parameter(torch.empty(config.n_heads).uniform_(1, 16).log())
        slow, fast = math.log(1e-3), math.log(1e-1)
        start = torch.empty(config.d_model).uniform_(slow, fast).exp()
        self.bias = nn.Parameter(start.expm1().log())               # softplus(bias) = start

    def forward(self, x: Tensor) -> Tensor:
        logit = self.low_rank(x)
        with no_autocast(x):
            rate = F.softplus(widened(logit) + self.bias)
            per_head = x.shape[-1] // len(self.A)
            speed = widened(self.A).exp().repeat_interleave(per_head)
            return -speed * rate


def low_rank(d: int, rank: int) -> nn.Sequential:
    """A map of d channels that has to go through `rank` of them."""
    return nn.Sequential(nn.Linear(d, rank, bias=False), nn.Linear(rank, d, bias=False))
