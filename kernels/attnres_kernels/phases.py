"""`phase_one` and `phase_two` of two-phase inference (Alg. 1), fused; forward only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnres_kernels import launch, phase_kernels
from attnres_ref.inference.two_phase import Read


def phase_one(queries: Tensor, sources: Sequence[Tensor], eps: float = 1e-5) -> list[Read]:
    """Every query over all sources: S reads of [..., d].

    queries: [S, d], key-norm weight folded in; sources: n >= 1 tensors [..., d].
    As attnres_ref.inference.two_phase.phase_one, but the means come in the sources'
    dtype: they are normalised, so float16 does not overflow, and it halves what phase 2
    reads. The lse [..., 1] stays in float32.
    Raises as `depth_attention` does, and RuntimeError if a gradient is asked for.
    """
    launch.check_inputs(sources, eps, queries=queries)
    check_no_gradient(sources, queries=queries)
    means, lses = phase_one_op(list(sources), queries, eps)
    return [Read(*read) for read in zip(means.unbind(0), lses.unbind(0))]


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
    check_no_gradient(
        sources, mean=first.mean, lse=first.lse, query=query, output=output,
        out_norm_weight=out_norm_weight,
    )
    h, partial = phase_two_op(
        first.mean, first.lse, list(sources), output, query, out_norm_weight, eps, out_eps
    )
    return h if output is None else (h, partial)


def check_no_gradient(sources: Sequence[Tensor], **others: Tensor | None) -> None:
    """Raise RuntimeError where autograd would expect a gradient of a phase."""
    named = {f"sources[{i}]": source for i, source in enumerate(sources)} | others
    for name, tensor in named.items():
        if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad:
            raise RuntimeError(
                f"{name} requires a gradient, but the phases compute forward only: "
                "call them under torch.no_grad(), or train with depth_attention, or with "
                "the phases of attnres_ref.inference.two_phase"
            )


@torch.library.custom_op("attnres::phase_one", mutates_args=())
def phase_one_op(
    sources: list[Tensor], queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """-> means [S, ..., d] in the sources' dtype and lses [S, ..., 1] in float32."""
    source, n_queries = sources[0], len(queries)
    d = source.shape[-1]
    means = source.new_empty((n_queries, *source.shape))
    lses = source.new_empty((n_queries, *source.shape[:-1], 1), dtype=torch.float32)
    if n_tokens := source.numel() // d:
        options = launch.tiles(len(sources), d)
        # About 16k accumulators fit into a program's registers.
        fitting = max(1, min(8, 16384 // options["BLOCK_D"]))
        block_s = min(fitting, launch.power_of_two(n_queries))
        n_tiles = -(-n_queries // block_s)
        with torch.cuda.device_of(source):
            phase_kernels.phase_one_kernel[(n_tokens * n_tiles,)](
                launch.padded(sources), launch.ready(queries), means, lses,
                len(sources), n_tokens, n_queries, eps, BLOCK_S=block_s, **options,
            )
    return means, lses


@phase_one_op.register_fake
def _(sources, queries, eps):
    source, n_queries = sources[0], queries.shape[0]
    lses = source.new_empty((n_queries, *source.shape[:-1], 1), dtype=torch.float32)
    return source.new_empty((n_queries, *source.shape)), lses


@torch.library.custom_op("attnres::phase_two", mutates_args=())
def phase_two_op(
    mean: Tensor, lse: Tensor, sources: list[Tensor], output: Tensor | None,
    query: Tensor, gain: Tensor | None, eps: float, out_eps: float,
) -> tuple[Tensor, Tensor]:
    """-> h [..., d], and the new partial sum [..., d] (empty without `output`)."""
    source = sources[0]
    d = source.shape[-1]
    h = torch.empty_like(source, memory_format=torch.contiguous_format)
    partial = source.new_empty(source.shape if output is not None else 0)
    if n_tokens := source.numel() // d:
        with torch.cuda.device_of(source):
            phase_kernels.phase_two_kernel[(n_tokens,)](
                launch.ready(mean), launch.ready(lse), launch.padded(sources),
                launch.ready(output), launch.ready(query), launch.ready(gain),
                h, partial, len(sources), eps, out_eps, **launch.tiles(len(sources), d),
            )
    return h, partial


@phase_two_op.register_fake
def _(mean, lse, sources, output, query, gain, eps, out_eps):
    source = sources[0]
    h = torch.empty_like(source, memory_format=torch.contiguous_format)
    return h, source.new_empty(source.shape if output is not None else 0)
