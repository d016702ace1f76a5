"""Algorithm 1's schedule on the kernels, for inference and for training."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnres_kernels.phases import phase_one, phase_two
from attnres_ref.inference import two_phase
from attnres_ref.model import LM, MLP, Attention, RMSNorm
from attnres_ref.streams import Depth
from attnres_ref.views import with_parts

# Of attnres_ref.model.RMSNorm, which computes in float32, half precision too.
NORM_EPS = torch.finfo(torch.float32).eps


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


class Ready(NamedTuple):
    """The state of the schedule, and what the next layer will read from it."""

    scheduled: two_phase.Scheduled
    h: Tensor                          # [..., d], through that layer's RMSNorm


class NormedTwoPhase(nn.Module):
    """`TwoPhase`, whose reads return RMSNorm(h), by the norm of the layer that reads.

    A write knows which layer reads next. So the read happens there, and one kernel adds
    the new output to the partial sum, joins the sum to phase 1's mean, and norms what it
    read. PreNorm needs that addition and that norm as well, so that little is left which
    it does not do. norms: L + 1 RMSNorms, the last before the output head.
    """

    def __init__(self, stream: nn.Module, norms: list[nn.RMSNorm], group_size=None):
        super().__init__()
        self.schedule, self.norms = TwoPhase(stream, group_size), nn.ModuleList(norms)

    def begin(self, embedding: Tensor) -> Ready:
        return self.ready(self.schedule.begin(embedding), 0)

    def read(self, state: Ready, layer: int) -> Tensor:
        return state.h

    def write(self, state: Ready, layer: int, output: Tensor) -> Ready:
        scheduled, coming = state.scheduled, layer + 1
        # The one kernel joins one partial sum. A write that ends a group or a block leaves
        # none, and neither do blocks that phase 1 has not seen.
        ends = any(coming % size == 0 for size in (self.schedule.group_size,
                                                   self.schedule.stream.block_size))
        completed, partial = scheduled.depth
        if ends or partial is None or len(completed) > scheduled.n_seen:
            return self.ready(self.schedule.write(scheduled, layer, output), coming)
        h, partial = self.phase_two(scheduled, coming, (partial,), output=output)
        return Ready(scheduled._replace(depth=Depth(completed, partial)), h)

    def ready(self, scheduled: two_phase.Scheduled, layer: int) -> Ready:
        fresh = scheduled.depth.sources[scheduled.n_seen :]
        if fresh:
            return Ready(scheduled, self.phase_two(scheduled, layer, fresh))
        return Ready(scheduled, self.norms[layer](self.schedule.read(scheduled, layer)))

    def phase_two(self, scheduled, layer, fresh, **output):
        norm, first = self.norms[layer], scheduled.reads[layer - scheduled.first]
        return phase_two(
            first, scheduled.queries[layer], fresh, out_norm_weight=norm.weight,
            out_eps=NORM_EPS, **output,
        )


def fused(model: LM, group_size: int | None = None) -> LM:
    """A view of the model, to run or to train in its place: the same parameters, reads in
    two phases, and every layer's RMSNorm in the kernel of the read before it.

        logits = fused(model)(tokens)
        train(config, recipe, corpus, schedule=fused)

    model: an LM of attention and MLPs over Block or Full AttnRes; group_size as for
    `TwoPhase`. The norm sees h in float32, so that half precision differs from the model's
    by its rounding; hooks on norms are not called. Raises ValueError for other layers or
    norms, and as `TwoPhase` does.
    """
    for i, layer in enumerate(model.layers):
        if type(layer) not in (Attention, MLP):
            raise ValueError(
                f"model.layers[{i}] is a {type(layer).__name__}: fused knows where "
                "Attention and MLP have their norm; view other models' streams through "
                "TwoPhase"
            )
    norms = [*(layer.norm for layer in model.layers), model.norm]
    for i, norm in enumerate(norms):
        if type(norm) is not RMSNorm:
            raise ValueError(
                f"norm {i} of {len(norms)} is a {type(norm).__name__}: the kernel computes "
                "attnres_ref.model.RMSNorm; view the stream through TwoPhase"
            )
    layers = nn.ModuleList(with_parts(x, norm=nn.Identity()) for x in model.layers)
    stream = NormedTwoPhase(model.stream, norms, group_size)
    return with_parts(model, layers=layers, norm=nn.Identity(), stream=stream)
