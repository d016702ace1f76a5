"""`phase_one` and `phase_two` of Algorithm 1, fused, with their gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnres_kernels import launch
from attnres_kernels.phase_one_operators import PhaseOne, phase_one_op
from attnres_kernels.phase_two_operators import PhaseTwo, phase_two_op
from attnres_ref.inference.two_phase import Read


def phase_one(queries: Tensor, sources: Sequence[Tensor], eps: float = 1e-5) -> list[Read]:
    """Every query over all sources: S reads of [..., d].

    queries: [S, d], key-norm weight folded in; sources: n >= 1 tensors [..., d].
    As attnres_ref.inference.two_phase.phase_one, but the means come in the sources'
    dtype: they are normalised, so float16 does not overflow, and it halves what phase 2
    reads. The lse [..., 1] stays in float32.
    Differentiable once, from means and lses; only the arguments are kept for backward.
    Raises as `depth_attention` does.
    """
    launch.check_inputs(sources, eps, queries=queries)
    if torch.compiler.is_compiling():
        means, lses = phase_one_op(list(sources), queries, eps)
    else:
        *means, lses = PhaseOne.apply(queries, float(eps), *sources)
    return [Read(*read) for read in zip(means, lses.unbind(0))]


def phase_two(
    first: Read,
    query: Tensor,
    sources: Sequence[Tensor],
    eps: float = 1e-5,
    *,
    output: Tensor | None = None,
    out_norm_weight: Tensor | None = None,
    out_eps: float = 1e-5,
) -> Tensor | tuple[Tensor, Tensor]:
    """One query's read over the sources behind `first` and these: h [..., d].

    first: a Read of `phase_one`; query: [1, d] or [d]; sources: n >= 1 tensors [..., d].
    As attnres_ref.inference.two_phase.phase_two, in the sources' dtype. Two additions
    save a pass each, and may be combined:
    out_norm_weight [d]: return RMSNorm(h), as in `depth_attention`;
    output [..., d]: what the last layer wrote, not yet part of the partial sum, which is
    the one source. Returns (h, partial + output).
    Differentiable as `phase_one` is.
    Raises as `phase_one` does, and ValueError for `output` beside several sources and
    for tensors of another shape.
    """
    query = query.flatten() if query.dim() == 2 and len(query) == 1 else query
    launch.check_inputs(sources, eps, query=query, out_norm_weight=out_norm_weight)
    launch.check_out_eps(out_eps)
    shape, device = sources[0].shape, sources[0].device
    if output is not None and len(sources) != 1:
        raise ValueError(
            f"output is given beside {len(sources)} sources: it is added to the partial "
            "sum, so pass that alone as sources=[partial]"
        )
    expected = dict(mean=(first.mean, shape), lse=(first.lse, (*shape[:-1], 1)))
    expected |= {} if output is None else dict(output=(output, shape))
    for name, (tensor, wanted) in expected.items():
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device}, sources on {device}: move it")
        if tensor.shape != wanted:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}: sources of shape {list(shape)} "
                f"need {list(wanted)}"
            )
    vectors = output, query, out_norm_weight, float(eps), float(out_eps)
    if torch.compiler.is_compiling():
        h, partial = phase_two_op(*first, list(sources), *vectors)
    else:
        h, partial = PhaseTwo.apply(*first, *vectors, *sources)
    return h if output is None else (h, partial)
