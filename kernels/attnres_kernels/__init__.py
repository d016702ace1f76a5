"""Attention over depth in Triton: the same functions as attnres_ref, fused.

    LM(config, attend=attnres_kernels.depth_attention)
    with_parts(model, stream=attnres_kernels.TwoPhase(model.stream))
    attnres_kernels.fused(model)       # two phases, and the layers' norms with them

On a machine without a CUDA device the kernels run in Triton's interpreter; without
Triton everything imports, and a call raises ImportError (see attnres_kernels.interpret).
"""

from attnres_kernels.depth import depth_attention
from attnres_kernels.interpret import available, interpreting
from attnres_kernels.phases import phase_one, phase_two
from attnres_kernels.two_phase import TwoPhase, fused

__all__ = [
    "TwoPhase", "available", "depth_attention", "fused", "interpreting", "phase_one",
    "phase_two",
]
