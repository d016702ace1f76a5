"""The models that are timed whole: 151M parameters over each residual stream."""

import torch
import torch.nn.functional as F

import attnres_kernels
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


def as_it_is(net: LM) -> LM:
    return net


def in_layers_dtype(net: LM) -> LM:
    """PreNorm's stream in the precision of its layers, as Block's and Full's is. Under
    autocast it would be float32, so it would move twice the bytes and flatter our ratio."""
    return with_parts(net, stream=with_parts(net.stream, begin=in_layer_dtype))


def in_two_phases(net: LM) -> LM:
    return with_parts(net, stream=TwoPhase(net.stream))


def in_phases_of_4(net: LM) -> LM:
    """What moves least for 24 layers at this width: see attnres_kernels.traffic."""
    return with_parts(net, stream=TwoPhase(net.stream, groups_of_4(net)))


def fused(net: LM) -> LM:
    return attnres_kernels.fused(net)


def fused_by_4(net: LM) -> LM:
    return attnres_kernels.fused(net, groups_of_4(net))


def groups_of_4(net: LM) -> int:
    return min(4, len(net.layers))


BASE = "PreNorm"
CASES = {                              # name: residual, depth operator, how it is seen
    BASE: ("prenorm", reference, in_layers_dtype),
    "Block, fused": ("block", depth_attention, fused),
    "Full, fused": ("full", depth_attention, fused_by_4),
    "Block, kernels in two phases": ("block", depth_attention, in_two_phases),
    "Full, kernels in two phases": ("full", depth_attention, in_phases_of_4),
    "Block, kernels": ("block", depth_attention, as_it_is),
    "PreNorm, float32 stream": ("prenorm", reference, as_it_is),
    "Block, reference": ("block", reference, as_it_is),
    "Full, reference": ("full", reference, as_it_is),
}
ONLY_EAGER = ("Block, reference", "Full, reference")
COMPILED = tuple(case for case in CASES if case not in ONLY_EAGER)


def training_step(case: str, device, compiled: bool = False):
    """A function that runs forward and backward of a case of CASES and returns the loss.
    Models of all cases start from the same weights and see the same tokens. It can be
    captured as a CUDA graph."""
    residual, attend, seen_as = CASES[case]
    torch.manual_seed(0)
    with device:                           # a CPU takes seconds to draw the weights
        net = seen_as(LM(LMConfig(residual=residual, **SIZE[device.type]), attend))
    forward = clock.compiled(net, device) if compiled else net
    shape = BATCH[device.type], net.config.context
    tokens = torch.randint(256, shape, device=device)

    def step() -> torch.Tensor:
        net.zero_grad(set_to_none=True)    # a graph must make its gradients anew
        with half(device):
            logits = forward(tokens)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())
        loss.backward()
        return loss.detach()

    return step


def half(device):
    """Autocast as in training, but weights in half precision are not kept: a graph would
    have to make them itself. As every weight is used once in a step, that costs nothing."""
    dtype, on = half_precision(device), half_precision(device) is not None
    return torch.autocast(device.type, dtype, enabled=on, cache_enabled=False)
