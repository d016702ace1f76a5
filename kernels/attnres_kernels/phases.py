"""`phase_one` and `phase_two` of two-phase inference (Alg. 1), fused."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attnres_kernels import kernels, launch
from attnres_kernels.depth import contiguous
from attnres_kernels.interpret import check_device


class Read(NamedTuple):
    """A finished softmax over some sources, with what it takes to join another; the
    fields of attnres_ref.inference.two_phase.Read."""

    mean: Tensor           # [..., d], in the sources' dtype
    lse: Tensor            # [..., 1] float32, log of the sum of exponentials


def phase_one(queries: Tensor, sources: Sequence[Tensor], eps: float = 1e-5) -> list[Read]:
    """Every query over all sources: S reads of [..., d].

    queries: [S, d], key-norm weight folded in; sources: n >= 1 tensors [..., d].
    As attnres_ref.inference.two_phase.phase_one, but the means come in the sources'
    dtype: they are normalised, so float16 does not overflow, and it halves what phase 2
    reads.
    Differentiable, by plain PyTorch run again. Raises as `depth_attention` does.
    """
    launch.check_inputs(sources, queries=queries)
    check_device(sources[0])
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
    Differentiable, by plain PyTorch run again. Raises as `depth_attention` does, and
    ValueError for `output` beside several sources and for tensors of another shape.
    """
    query = query.flatten() if query.dim() == 2 and len(query) == 1 else query
    launch.check_inputs(sources, query=query, out_norm_weight=out_norm_weight)
    shape = sources[0].shape
    if output is not None and len(sources) != 1:
        raise ValueError(
            f"output is given beside {len(sources)} sources: it is added to the partial "
            "sum, so pass that alone as sources=[partial]"
        )
    expected = dict(mean=(first.mean, shape), lse=(first.lse, (*shape[:-1], 1)))
    expected |= {} if output is None else dict(output=(output, shape))
    for name, (tensor, wanted) in expected.items():
        if tensor.shape != wanted:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}: sources of shape {list(shape)} "
                f"need {list(wanted)}"
            )
    check_device(sources[0])
    h, partial = phase_two_op(
        first.mean, first.lse, list(sources), output, query, out_norm_weight, eps, out_eps
    )
    return h if output is None else (h, partial)


@torch.library.custom_op("attnres::phase_one", mutates_args=())
def phase_one_op(
    sources: list[Tensor], queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """-> means [S, ..., d] in the sources' dtype and lses [S, ..., 1] in float32."""
    first, n_queries = sources[0], len(queries)
    d = first.shape[-1]
    means = first.new_empty((n_queries, *first.shape))
    lses = first.new_empty((n_queries, *first.shape[:-1], 1), dtype=torch.float32)
    if n_tokens := first.numel() // d:
        options = launch.tiles(len(sources), d)
        # About 16k accumulators fit into a program's registers.
        fitting = max(1, min(8, 16384 // options["BLOCK_D"]))
        block_s = min(fitting, launch.power_of_two(n_queries))
        n_tiles = -(-n_queries // block_s)
        kernels.phase_one_kernel[(n_tokens * n_tiles,)](
            launch.padded(sources), queries.contiguous(), means, lses,
            len(sources), n_tokens, n_queries, eps, BLOCK_S=block_s, **options,
        )
    return means, lses


@phase_one_op.register_fake
def _(sources, queries, eps):
    first, n_queries = sources[0], queries.shape[0]
    lses = first.new_empty((n_queries, *first.shape[:-1], 1), dtype=torch.float32)
    return first.new_empty((n_queries, *first.shape)), lses


@torch.library.custom_op("attnres::phase_two", mutates_args=())
def phase_two_op(
    mean: Tensor, lse: Tensor, sources: list[Tensor], output: Tensor | None,
    query: Tensor, gain: Tensor | None, eps: float, out_eps: float,
) -> tuple[Tensor, Tensor]:
    """-> h [..., d], and the new partial sum [..., d] (empty without `output`)."""
    first = sources[0]
    d = first.shape[-1]
    h = torch.empty_like(first, memory_format=torch.contiguous_format)
    partial = first.new_empty(first.shape if output is not None else 0)
    if n_tokens := first.numel() // d:
        kernels.phase_two_kernel[(n_tokens,)](
            mean.contiguous(), lse.contiguous(), launch.padded(sources),
            contiguous(output), query.contiguous(), contiguous(gain), h, partial,
            len(sources), eps, out_eps, **launch.tiles(len(sources), d),
        )
    return h, partial


@phase_two_op.register_fake
def _(mean, lse, sources, output, query, gain, eps, out_eps):
    first = sources[0]
    h = torch.empty_like(first, memory_format=torch.contiguous_format)
    return h, first.new_empty(first.shape if output is not None else 0)


# --- gradients: inference has none to compute, so plain PyTorch is enough ------------


def plain_scores(query: Tensor, values: Tensor, eps: float) -> Tensor:
    """query [d], values [n, ..., d], both float32 -> scores [n, ...] (Eq. 2)."""
    return (values @ query) * (values.square().mean(-1) + eps).rsqrt()


def plain_phase_one(sources, queries, eps):
    values = torch.stack(sources).float()                            # [n, ..., d]
    scores = torch.stack([plain_scores(q, values, eps) for q in queries.float()])
    weights = scores.softmax(1).unsqueeze(-1)                        # [S, n, ..., 1]
    means = (weights * values).sum(1)
    return means.to(sources[0].dtype), scores.logsumexp(1).unsqueeze(-1)


def plain_phase_two(mean, lse, sources, output, query, gain, eps, out_eps):
    dtype = sources[0].dtype
    partial = sources[0].new_empty(0)
    if output is not None:
        partial = sources[0] + output
        sources = [partial]
    values = torch.stack(sources).float()
    scores = plain_scores(query.float(), values, eps)                # [n, ...]
    scores = torch.cat([lse.float().squeeze(-1).unsqueeze(0), scores])
    values = torch.cat([mean.float().unsqueeze(0), values])
    h = (scores.softmax(0).unsqueeze(-1) * values).sum(0)
    if gain is not None:
        h = torch.nn.functional.rms_norm(h, h.shape[-1:], gain.float(), out_eps)
    return h.to(dtype), partial


def keep_phase_one(ctx, inputs, output):
    sources, queries, ctx.eps = inputs
    ctx.save_for_backward(queries, *sources)


def backward_phase_one(ctx, dmeans, dlses):
    queries, *sources = ctx.saved_tensors
    again = lambda queries, *sources: plain_phase_one(sources, queries, ctx.eps)
    _, vjp = torch.func.vjp(again, queries, *sources)
    dqueries, *dsources = vjp((dmeans, dlses))
    return dsources, dqueries, None


def keep_phase_two(ctx, inputs, output):
    mean, lse, sources, newest, query, gain, ctx.eps, ctx.out_eps = inputs
    ctx.save_for_backward(mean, lse, newest, query, gain, *sources)


def backward_phase_two(ctx, dh, dpartial):
    saved = ctx.saved_tensors              # newest and gain may be None

    def again(*tensors):
        it = iter(tensors)
        arguments = [x if x is None else next(it) for x in saved]
        mean, lse, newest, query, gain, *sources = arguments
        eps = ctx.eps, ctx.out_eps
        return plain_phase_two(mean, lse, sources, newest, query, gain, *eps)

    _, vjp = torch.func.vjp(again, *[x for x in saved if x is not None])
    gradients = iter(vjp((dh, dpartial)))
    gradients = [x if x is None else next(gradients) for x in saved]
    dmean, dlse, dnewest, dquery, dgain, *dsources = gradients
    return dmean, dlse, dsources, dnewest, dquery, dgain, None, None


phase_one_op.register_autograd(backward_phase_one, setup_context=keep_phase_one)
phase_two_op.register_autograd(backward_phase_two, setup_context=keep_phase_two)
