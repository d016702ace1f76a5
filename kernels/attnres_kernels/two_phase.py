"""Algorithm 1's schedule on the kernels, for inference and for training."""

from attnres_kernels.phases import phase_one, phase_two
from attnres_ref.inference import two_phase


class TwoPhase(two_phase.TwoPhase):
    """An AttnRes stream read in two phases, both fused and differentiable.

        model = attnres_ref.views.with_parts(model, stream=TwoPhase(model.stream))

    In training a completed source is read once for each later group and not once for each
    later layer, so autograd makes and adds that many fewer gradients of it
    (python -m attnres_kernels.traffic counts them).
    Arguments, defaults and errors as for attnres_ref.inference.two_phase.TwoPhase; on the
    sources' side those of `attnres_kernels.phase_one`.
    """

    phase_one = staticmethod(phase_one)
    phase_two = staticmethod(phase_two)
