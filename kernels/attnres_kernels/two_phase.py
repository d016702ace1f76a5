"""Algorithm 1's schedule on the kernels, for inference and for training."""

from attnres_kernels.phases import phase_one, phase_two
from attnres_ref.inference import two_phase


class TwoPhase(two_phase.TwoPhase):
    """An AttnRes stream read in two phases, both fused and differentiable.

        model = attnres_ref.views.with_parts(model, stream=TwoPhase(model.stream))

    In training a completed source has one reader for each later group and not one for each
    later layer, so that many fewer gradients of it are made and added. python -m
    attnres_kernels.traffic counts what that saves; of Full's group sizes 4 moves least at
    24 layers, because phase 1's backward takes at most four queries in one launch.
    Arguments, defaults and errors as for attnres_ref.inference.two_phase.TwoPhase; its
    reads raise, besides, what `attnres_kernels.phase_one` raises.
    """

    phase_one = staticmethod(phase_one)
    phase_two = staticmethod(phase_two)
