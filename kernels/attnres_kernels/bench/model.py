"""Whole models on the kernels, relative to PreNorm: a training step, and inference."""

from functools import partial

import torch
import torch.nn.functional as F

from attnres_kernels.depth import depth_attention
from attnres_kernels.phases import phase_one, phase_two
from attnres_ref import LM, LMConfig
from attnres_ref.bench.timing import interleaved, now, paired_ratio
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.training import half_precision
from attnres_ref.views import with_parts

# 151M parameters in the layers.
SIZE = dict(d_model=1024, n_layers=24, n_heads=16, context=1024, block_size=4)
BASES = {                              # case: what its time is divided by
    "Block training": "PreNorm training",
    "Full training": "PreNorm training",
    "Block inference, two phases": "PreNorm inference",
}


class KernelPhases(TwoPhase):
    """Algorithm 1 with both phases on the kernels."""

    phase_one = staticmethod(phase_one)
    phase_two = staticmethod(phase_two)


def model_ratios(rounds, device, batch=8, attend=depth_attention, **size) -> dict:
    """Time relative to PreNorm, median of paired rounds: a training step of Block and
    Full, and a forward pass without gradients of Block in two phases."""
    config = SIZE | size
    tokens = torch.randint(256, (batch, config["context"]), device=device)
    models = {}
    for residual in ("prenorm", "block", "full"):
        torch.manual_seed(0)
        models[residual] = LM(LMConfig(residual=residual, **config), attend).to(device)

    def step(model):
        model.zero_grad(set_to_none=True)
        with half(device):
            logits = model(tokens)
        F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten()).backward()

    @torch.no_grad()
    def infer(model):
        with half(device):
            model(tokens)

    def infer_in_two_phases(model):
        infer(with_parts(model, stream=KernelPhases(model.stream)))

    cases = {
        "PreNorm training": lambda: step(models["prenorm"]),
        "Block training": lambda: step(models["block"]),
        "Full training": lambda: step(models["full"]),
        "PreNorm inference": lambda: infer(models["prenorm"]),
        "Block inference, two phases": lambda: infer_in_two_phases(models["block"]),
    }
    seconds = interleaved([*cases.items()], rounds, partial(now, device))
    return {
        name: paired_ratio(seconds[name], seconds[base]) for name, base in BASES.items()
    }


def half(device):
    dtype = half_precision(device)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
