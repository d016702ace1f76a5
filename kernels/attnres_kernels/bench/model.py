"""The models that are timed whole: 151M parameters over each residual stream."""

import torch
import torch.nn.functional as F

from attnres_kernels.bench import clock
from attnres_kernels.depth import depth_attention
from attnres_kernels.two_phase import TwoPhase
from attnres_ref import LM, LMConfig
from attnres_ref import depth_attention as reference
from attnres_ref.streams import in_layer_dtype
from attnres_ref.training import half_precision
from attnres_ref.views import with_parts

SIZE = dict(
    cuda=dict(d_model=1024, n_layers=24, n_heads=16, context=1024, block_size=4),
    cpu=dict(d_model=8, n_layers=2, n_heads=2, context=2, block_size=2),
)
BATCH = dict(cuda=8, cpu=1)


def as_it_is(stream):
    return stream


def in_layers_dtype(stream):
    """PreNorm's stream in the precision of its layers, as Block's and Full's is. Under
    autocast it would be float32, so it would move twice the bytes and flatter our ratio."""
    return with_parts(stream, begin=in_layer_dtype)


def in_phases_of_4(stream):
    """What moves least for 24 layers at this width: see attnres_kernels.traffic."""
    return TwoPhase(stream, min(4, len(stream.queries) - 1))


BASE = "PreNorm"
CASES = {                              # name: residual, depth operator, how it is seen
    BASE: ("prenorm", reference, in_layers_dtype),
    "PreNorm, float32 stream": ("prenorm", reference, as_it_is),
    "Block, kernels": ("block", depth_attention, as_it_is),
    "Block, kernels in two phases": ("block", depth_attention, TwoPhase),
    "Full, kernels": ("full", depth_attention, as_it_is),
    "Full, kernels in two phases": ("full", depth_attention, in_phases_of_4),
    "Block, reference": ("block", reference, as_it_is),
    "Full, reference": ("full", reference, as_it_is),
}


def training_step(case: str, device, compiled: bool = False):
    """A function that runs forward and backward of a case of CASES and returns the loss.
    Models of all cases start from the same weights and see the same tokens."""
    residual, attend, seen_as = CASES[case]
    torch.manual_seed(0)
    with device:                           # a CPU takes seconds to draw the weights
        net = LM(LMConfig(residual=residual, **SIZE[device.type]), attend)
    net = with_parts(net, stream=seen_as(net.stream))
    forward = clock.compiled(net, device) if compiled else net
    shape = BATCH[device.type], net.config.context
    tokens = torch.randint(256, shape, device=device)

    def step() -> torch.Tensor:
        net.zero_grad(set_to_none=True)
        with half(device):
            logits = forward(tokens)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())
        loss.backward()
        return loss.detach()

    return step


def half(device):
    dtype = half_precision(device)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
