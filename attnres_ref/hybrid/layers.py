"""MLA and MoE, and the names by which LMConfig knows the layers of a hybrid.

MLA: attention whose keys and values come from one small latent per token; MoE: many
small MLPs of which each token uses a few.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import no_autocast, widened
from attnres_ref.hybrid.kda import KDA
from attnres_ref.model import LAYERS, MIXERS, LMConfig, RMSNorm, known_values
from attnres_ref.training.distributed import Processes

NUDGE = 0.01                           # how far a balancing bias moves after each step


class MLA(nn.Module):
    """One layer: multi-head latent attention, causal, without positions (NoPE).

    Keys and values are up-projected from one latent per token, which is all that a
    cache has to keep: d / 4 numbers in the place of 2 d.
    """

    def __init__(self, config: LMConfig):
        super().__init__()
        d, self.n_heads = config.d_model, config.n_heads
        d_latent = math.ceil(d / 4)
        self.norm = RMSNorm(d)
        self.query = nn.Linear(d, d, bias=False)
        self.down = nn.Linear(d, d_latent, bias=False)
        self.latent_norm = RMSNorm(d_latent)
        self.up = nn.Linear(d_latent, 2 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return self.advance(h)[0]

    def advance(self, h: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h [B, T, d] that follows tokens with the latents `past` [B, T0, d_latent] ->
        output, the latents of all T0 + T."""
        x = self.norm(h)
        latent, mask = self.latent_norm(self.down(x)), None           # [B, T, d_latent]
        if past is not None:
            latent = torch.cat([past, latent], dim=1)
            shape = h.shape[1], latent.shape[1]
            mask = torch.ones(shape, dtype=torch.bool, device=h.device).tril(past.shape[1])
        q = self.query(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        kv = self.up(latent).unflatten(-1, (2, self.n_heads, -1))
        k, v = kv.transpose(1, 3).unbind(2)                           # [B, H, T, d_head]
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=past is None)
        return self.out(mixed.transpose(1, 2).flatten(2)), latent     # [B, T, d]


class MoE(nn.Module):
    """One layer: a mixture of experts. A token uses the k experts that score highest,
    and a shared one. No token is dropped, however many want the same expert.

    `bias` is added to the scores for the choice alone, not to the weights. `balance`
    moves it toward equal load; a forward pass only notes its `load`, the share of the
    routed tokens that each expert got, so that looking at a model changes nothing.
    """

    def __init__(self, config: LMConfig):
        super().__init__()
        E, self.n_chosen = config.n_experts, config.experts_per_token     # k
        self.norm = RMSNorm(config.d_model)
        self.router = nn.Linear(config.d_model, E, bias=False)
        self.experts = nn.ModuleList(Expert(config) for _ in range(E))
        self.shared = Expert(config)
        self.register_buffer("bias", torch.zeros(E))
        self.load = None               # of the latest forward pass

    def forward(self, h: Tensor) -> Tensor:
        x = self.norm(h).flatten(0, 1)                                # [B T, d]
        chosen, weights = self.route(x)                               # [B T, k] each
        counts = counted(chosen, len(self.experts))                   # [E]
        if (sizes := known_values(counts)) is None:
            return all_experts(self, x, chosen, weights).view_as(h)
        self.load = [size / chosen.numel() for size in sizes]
        order = chosen.flatten().argsort(stable=True)                 # by expert
        token = order // self.n_chosen                                # [B T k]
        pieces = x[token].split(sizes)
        y = torch.cat([f(piece) for f, piece in zip(self.experts, pieces)])
        y = y * weights.flatten()[order].unsqueeze(-1).to(y.dtype)
        return self.shared(x).index_add(0, token, y).view_as(h)       # [B, T, d]

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's experts and their weights, which sum to one: [B T, k] both."""
        scores = self.scores(x)
        chosen = (scores + self.bias).topk(self.n_chosen).indices
        weights = scores.gather(-1, chosen)
        return chosen, weights / weights.sum(-1, keepdim=True)

    def scores(self, x: Tensor) -> Tensor:
        """Of normalised x [B T, d], between 0 and 1, in float32 or wider: [B T, E]."""
        with no_autocast(x):
            return F.linear(widened(x), widened(self.router.weight)).sigmoid()

    @torch.no_grad()
    def balance(self) -> None:
        """After an optimiser step: experts that the latest forward pass overworked are
        chosen a little less. All processes count as one."""
        load = torch.as_tensor(self.load, device=self.bias.device)
        load = Processes().mean(load)
        self.bias += NUDGE * (load.mean() - load).sign()


def counted(chosen: Tensor, n_experts: int) -> Tensor:
    """How many of the choices [B T, k] fell on each expert: [E]."""
    experts = torch.arange(n_experts, device=chosen.device)
    return (chosen.unsqueeze(-1) == experts).sum((0, 1))


def all_experts(layer: MoE, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """What the layer gives for normalised x [B T, d], by every expert on every token: E / k
    times the work, but no shape depends on the routes, as torch.compile needs it."""
    share = weights.new_zeros(len(x), len(layer.experts)).scatter(1, chosen, weights)
    if torch.compiler.is_compiling():
        layer.load = counted(chosen, len(layer.experts)) / chosen.numel()
    y = layer.shared(x)
    for f, weight in zip(layer.experts, share.to(y.dtype).split(1, dim=1)):
        y = y + weight * f(x)
    return y


class Expert(nn.Module):
    """A small SwiGLU without a norm of its own."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.gate = nn.Linear(config.d_model, expert_width(config), bias=False)
        self.up = nn.Linear(config.d_model, expert_width(config), bias=False)
        self.out = nn.Linear(expert_width(config), config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.gate(x)) * self.up(x))


def expert_width(config: LMConfig) -> int:
    """Width inside an expert: the shared one and the routed ones that a token uses are
    together about as wide as the MLP; a multiple of 8."""
    return 8 * math.ceil(config.d_hidden / (1 + config.experts_per_token) / 8)


# The residual stream knows none of them.
LAYERS.update(kda=KDA, mla=MLA, moe=MoE)
MIXERS.update({"kda", "mla"})
