"""`phase_one` and `phase_two` of Algorithm 1, fused, with their gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnres_kernels import launch, phase_backward, phase_kernels
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
    means, lses = phase_one_op(list(sources), queries, eps)
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
    Differentiable as `phase_one` is, without the two additions: with one of them,
    RuntimeError where a gradient is asked for.
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
    if output is not None or out_norm_weight is not None:
        check_no_gradient(
            sources, mean=first.mean, lse=first.lse, query=query, output=output,
            out_norm_weight=out_norm_weight,
        )
    h, partial = phase_two_op(
        first.mean, first.lse, list(sources), output, query, out_norm_weight, eps, out_eps
    )
    return h if output is None else (h, partial)


def check_no_gradient(sources: Sequence[Tensor], **others: Tensor | None) -> None:
    """Raise RuntimeError where autograd would expect a gradient of a fused addition."""
    named = {f"sources[{i}]": source for i, source in enumerate(sources)} | others
    for name, tensor in named.items():
        if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad:
            raise RuntimeError(
                f"{name} requires a gradient, but phase_two computes none with output or "
                "out_norm_weight: call it under torch.no_grad(), or without them, and add "
                "and norm outside"
            )


# ---- Phase 1 ---------------------------------------------------------------------------


@torch.library.custom_op("attnres::phase_one", mutates_args=())
def phase_one_op(
    sources: list[Tensor], queries: Tensor, eps: float
) -> tuple[list[Tensor], Tensor]:
    """-> S means [..., d] in the sources' dtype and lses [S, ..., 1] in float32."""
    means, lses = empty_reads(sources, queries)
    n_queries, d = queries.shape
    if n_tokens := means[0].numel() // d:
        options = launch.tiles(len(sources), d)
        # About 16k accumulators fit into a program's registers.
        fitting = max(1, min(8, 16384 // options["BLOCK_D"]))
        block_s = min(fitting, launch.power_of_two(n_queries))
        n_tiles = -(-n_queries // block_s)
        with torch.cuda.device_of(lses):
            phase_kernels.phase_one_kernel[(n_tokens * n_tiles,)](
                launch.padded(sources), launch.padded(means), launch.ready(queries), lses,
                len(sources), n_tokens, n_queries, eps,
                N_MEANS=launch.power_of_two(n_queries), BLOCK_S=block_s, **options,
            )
    return means, lses


@phase_one_op.register_fake
def empty_reads(sources, queries, *eps):
    source, n_queries = sources[0], queries.shape[0]
    means = [source.new_empty(source.shape) for _ in range(n_queries)]
    lses = source.new_empty((n_queries, *source.shape[:-1], 1), dtype=torch.float32)
    return means, lses


@torch.library.custom_op("attnres::phase_one_backward", mutates_args=())
def phase_one_backward_op(
    dmeans: list[Tensor], dlses: Tensor, sources: list[Tensor], queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """-> dv [n, ..., d] in the sources' dtype and dw [S, d] in float32."""
    dv, dw = empty_gradients(dmeans, dlses, sources, queries)
    n, (n_queries, d) = len(sources), queries.shape
    n_tokens = dlses.numel() // n_queries
    if n_tokens == 0:
        return dv, dw.zero_()
    sources = launch.padded(sources)
    for some in query_tiles(n_queries, d):
        options = backward_tiles(n, len(dmeans[some]), d)
        block_n, block_s = options["BLOCK_N"], options["BLOCK_S"]
        vectors = launch.ready(queries[some]), launch.ready(dlses[some])
        rows = [
            (torch.float32, dw[some].numel()), (torch.int64, block_n + block_s),
            (torch.float32, block_n * (2 * block_s + 1)),
        ]
        sums, *_ = launch.walk(
            phase_backward.phase_one_backward_kernel, n_tokens,
            (sources, launch.padded(dmeans[some]), *vectors, dv), rows,
            (n, len(dmeans[some]), eps), options | dict(ADD=some.start > 0),
        )
        dw[some] = sums.sum(0).view(-1, d)
    return dv, dw


def query_tiles(n_queries: int, d: int) -> list[slice]:
    """The queries that one launch of the backward kernel takes: at most four, since the
    sums over d, two for each query, take every warp's time, and more queries need more
    warps; fewer for wide sources, as dw, dmean and w must stay in registers. Each further
    launch reads sources and their gradients once more, 2 n u, and writes them, n u."""
    most = max(1, min(4, 8192 // launch.power_of_two(d)))
    ends = range(most, n_queries + most, most)
    return [slice(end - most, min(end, n_queries)) for end in ends]


def backward_tiles(n: int, n_queries: int, d: int) -> dict[str, int]:
    """Launch options of one of `query_tiles`."""
    options = launch.tiles(n, d)
    block_s = launch.power_of_two(n_queries)
    warps = max(1, block_s * options["BLOCK_D"] // 1024)
    return options | dict(BLOCK_S=block_s, num_warps=warps)


@phase_one_backward_op.register_fake
def empty_gradients(dmeans, dlses, sources, queries, *eps):
    dv = dlses.new_empty((len(sources), *sources[0].shape), dtype=sources[0].dtype)
    return dv, queries.new_empty(queries.shape, dtype=torch.float32)


def keep_phase_one(ctx, inputs, output):
    sources, queries, ctx.eps = inputs
    ctx.save_for_backward(queries, *sources)


def phase_one_backward(ctx, dmeans, dlses):
    queries, *sources = ctx.saved_tensors
    dv, dw = phase_one_backward_op(dmeans, dlses, sources, queries, ctx.eps)
    return list(dv.unbind(0)), dw.to(queries.dtype), None


phase_one_op.register_autograd(phase_one_backward, setup_context=keep_phase_one)


# ---- Phase 2 ---------------------------------------------------------------------------


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


@torch.library.custom_op("attnres::phase_two_backward", mutates_args=())
def phase_two_backward_op(
    dh: Tensor, mean: Tensor, lse: Tensor, sources: list[Tensor], query: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-> dv [1 + n, ..., d] of mean and sources in the sources' dtype, dlse [..., 1] and
    dw [d] in float32."""
    dv, dlse, dw = empty_phase_two_gradients(dh, mean, lse, sources, query)
    n, d = len(dv), len(query)
    n_tokens = dh.numel() // d
    if n_tokens == 0:
        return dv, dlse, dw.zero_()
    options = launch.tiles(n, d, launch.BACKWARD)
    block_n = options["BLOCK_N"]
    padded = launch.padded([mean.to(dh.dtype), *sources])
    vectors = launch.ready(lse), launch.ready(query), launch.ready(dh)
    rows = (torch.float32, d), (torch.int64, block_n), (torch.float32, 3 * block_n)
    sums, *_ = launch.walk(
        phase_backward.phase_two_backward_kernel, n_tokens, (padded, *vectors, dlse, dv),
        rows, (n, eps), options,
    )
    return dv, dlse, sums.sum(0)


@phase_two_backward_op.register_fake
def empty_phase_two_gradients(dh, mean, lse, sources, query, *eps):
    dv = dh.new_empty((1 + len(sources), *sources[0].shape))
    dlse = lse.new_empty(lse.shape, dtype=torch.float32)
    return dv, dlse, query.new_empty(query.shape, dtype=torch.float32)


def keep_phase_two(ctx, inputs, output):
    mean, lse, sources, _, query, _, ctx.eps, _ = inputs
    ctx.save_for_backward(mean, lse, query, *sources)


def phase_two_backward(ctx, dh, _):
    mean, lse, query, *sources = ctx.saved_tensors
    dv, dlse, dw = phase_two_backward_op(dh, mean, lse, sources, query, ctx.eps)
    dmean, *dv = dv.unbind(0)
    return (dmean.to(mean.dtype), dlse.to(lse.dtype), dv, None, dw.to(query.dtype),
            None, None, None)


phase_two_op.register_autograd(phase_two_backward, setup_context=keep_phase_two)
