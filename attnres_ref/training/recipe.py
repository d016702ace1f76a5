"""The recipe: how fast each parameter learns, and when."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from attnres_ref.fields import check_bounds, check_types


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Raises ValueError for a field that does not fit."""

    steps: int = 300               # optimiser steps, and the length of the schedule
    batch_size: int = 16           # sequences of LMConfig.context tokens a step
    lr: float = 4e-3               # peak learning rate
    query_lr_scale: float = 1.0    # times lr, for what the stream learns: queries and such
    warmup_steps: int = 40         # linear rise to the peak
    final_lr: float = 0.1          # the cosine ends at this fraction of the peak
    weight_decay: float = 0.1      # on all matrices outside the stream; never on norms
    query_weight_decay: float = 0.0  # on what the stream learns
    clip: float = 1.0              # largest gradient norm
    seed: int = 0                  # of the initialisation and of the batches
    eval_every: int = 100          # steps between validations (the last step has one)
    eval_windows: int = 64         # fixed validation windows of LMConfig.context tokens
    checkpoint_every: int = 50     # steps between checkpoints, where a folder is given

    def __post_init__(self):
        check_types(self)
        whole = ("steps", "batch_size", "eval_every", "eval_windows", "checkpoint_every")
        decays = ("weight_decay", "query_weight_decay")
        factors = ("query_lr_scale", "warmup_steps", "final_lr", "seed", *decays)
        check_bounds(self, whole, 1)
        check_bounds(self, ("lr", "clip"), 0, above=True)
        check_bounds(self, factors, 0)
        if self.seed >= 2**64:
            raise ValueError(f"seed is {self.seed}: torch takes seeds below 2**64")


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine from the peak down to final_lr * peak."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in three groups: matrices decay, norms do not, and what the residual stream
    learns (pseudo-queries are 2-D, but no matrices) has a decay and a rate of its own."""
    stream, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if "stream" in name.split("."):        # also of a decoder inside another module
            stream.append(parameter)
        elif parameter.dim() >= 2:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    scale, decay = config.query_lr_scale, config.query_weight_decay
    groups = [
        dict(params=matrices, weight_decay=config.weight_decay, lr_scale=1.0),
        dict(params=vectors, weight_decay=0.0, lr_scale=1.0),
        dict(params=stream, weight_decay=decay, lr_scale=scale),
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)


def after_step(model: nn.Module) -> None:
    """What follows a step of the optimiser: a layer that keeps itself in balance without
    gradients, as a mixture of experts does, has a method `balance` for it."""
    for layer in model.layers:
        if hasattr(layer, "balance"):
            layer.balance()


def half_precision(device: torch.device) -> torch.dtype | None:
    """bf16 from sm80, fp16 below (a T4 has no bf16), None (float32) without CUDA."""
    if device.type != "cuda":
        return None
    ampere_or_newer = torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if ampere_or_newer else torch.float16
