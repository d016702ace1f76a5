"""What the routers of a model do with some tokens."""

import math

import torch
from torch import Tensor, nn

from attnres_ref.hybrid.layers import MoE, counted
from attnres_ref.study.probes import trace


@torch.no_grad()
def router_statistics(model: nn.Module, tokens: Tensor) -> dict[str, list]:
    """What the routers do with int64 tokens [B, T], one entry per MoE layer, as JSON:

    expert_load     share of the routed tokens that each expert gets, [E], sums to one
    load_variation  its coefficient of variation; 0 is equal load
    router_entropy  of a token's scores over the experts, as a share of log E, averaged:
                    1 means that the router has no preference
    top_weight      weight of a token's first expert among its k, averaged; 1 / k is even
    """
    found = dict(expert_load=[], load_variation=[], router_entropy=[], top_weight=[])
    for h, layer in zip(trace(model, tokens).inputs, model.layers):
        if not isinstance(layer, MoE):
            continue
        x = layer.norm(h).flatten(0, 1)
        share = layer.scores(x)
        share = share / share.sum(-1, keepdim=True)                   # [B T, E]
        entropy = torch.special.entr(share).sum(-1).mean()
        entropy /= math.log(max(2, share.shape[1]))
        chosen, weights = layer.route(x)
        load = counted(chosen, len(layer.experts)) / chosen.numel()   # [E]
        found["expert_load"].append(load.tolist())
        variation = load.std(correction=0) / load.mean()
        found["load_variation"].append(variation.item())
        found["router_entropy"].append(entropy.item())
        found["top_weight"].append(weights.amax(-1).mean().item())
    return found
