"""What the routers of a model do with some tokens."""

import math

import torch
from torch import Tensor, nn

from attnres_ref.hybrid.layers import MoE
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
    inputs = trace(model, tokens).inputs
    mixtures = [(h, f) for h, f in zip(inputs, model.layers) if isinstance(f, MoE)]
    found = dict(expert_load=[], load_variation=[], router_entropy=[], top_weight=[])
    for h, layer in mixtures:
        x = layer.norm(h).flatten(0, 1)
        share = layer.scores(x)
        share = share / share.sum(-1, keepdim=True)                   # [B T, E]
        entropy = torch.special.entr(share).sum(-1).mean()
        entropy /= math.log(max(2, share.shape[1]))
        _, weights = layer.route(x)
        found["expert_load"].append(layer.load.tolist())
        found["load_variation"].append(variation(layer.load))
        found["router_entropy"].append(entropy.item())
        found["top_weight"].append(weights.amax(-1).mean().item())
    return found


def variation(load: Tensor) -> float:
    """Coefficient of variation: standard deviation over mean."""
    return (load.std(correction=0) / load.mean()).item()
