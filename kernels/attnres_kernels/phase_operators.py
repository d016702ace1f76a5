"""Both phases as operators of PyTorch, with rules for shapes and for gradients.

A source's gradient, and a mean, is a tensor of its own, never a slice of a larger one: a
slice keeps the whole in memory, and autograd would stack the means' gradients.
"""

import torch
from torch import Tensor

from attnres_kernels import launch, phase_backward, phase_kernels

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
) -> tuple[list[Tensor], Tensor]:
    """-> n dvs [..., d] in the sources' dtype and dw [S, d] in float32."""
    dvs, dw = empty_gradients(dmeans, dlses, sources, queries)
    n, (n_queries, d) = len(sources), queries.shape
    n_tokens = dlses.numel() // n_queries
    if n_tokens == 0:
        return dvs, dw.zero_()
    pointers = launch.padded(sources), launch.padded(dvs)
    for some in query_tiles(n_queries, d):
        options = backward_tiles(n, len(dmeans[some]), d)
        block_n, block_s = options["BLOCK_N"], options["BLOCK_S"]
        vectors = launch.ready(queries[some]), launch.ready(dlses[some])
        rows = [
            (torch.float32, dw[some].numel()), (torch.int64, 2 * block_n + block_s),
            (torch.float32, block_n * (2 * block_s + 1)),
        ]
        sums, *_ = launch.walk(
            phase_backward.phase_one_backward_kernel, n_tokens,
            (*pointers, launch.padded(dmeans[some]), *vectors), rows,
            (n, len(dmeans[some]), eps), options | dict(ADD=some.start > 0),
        )
        dw[some] = sums.sum(0).view(-1, d)
    return dvs, dw


def query_tiles(n_queries: int, d: int) -> list[slice]:
    """The queries that one launch of the backward kernel takes. w, dmean and dw stay in
    registers, so that wide sources allow fewer. Never more than four, because more queries
    need more warps, and every warp takes part in the sums over d, two for each query.
    Every further launch reads sources and gradients and writes gradients, 3 n u.
    """
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
    dvs = [source.new_empty(source.shape) for source in sources]
    return dvs, queries.new_empty(queries.shape, dtype=torch.float32)


def keep_phase_one(ctx, inputs, output):
    sources, queries, ctx.eps = inputs
    ctx.save_for_backward(queries, *sources)


def phase_one_backward(ctx, dmeans, dlses):
    queries, *sources = ctx.saved_tensors
    dvs, dw = phase_one_backward_op(dmeans, dlses, sources, queries, ctx.eps)
    return dvs, dw.to(queries.dtype), None


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
) -> tuple[list[Tensor], Tensor, Tensor]:
    """-> 1 + n dvs [..., d], of mean and sources, in the sources' dtype; dlse [..., 1] and
    dw [d] in float32."""
    dvs, dlse, dw = empty_phase_two_gradients(dh, mean, lse, sources, query)
    n, d = len(dvs), len(query)
    n_tokens = dh.numel() // d
    if n_tokens == 0:
        return dvs, dlse, dw.zero_()
    options = launch.tiles(n, d, launch.BACKWARD)
    block_n = options["BLOCK_N"]
    pointers = launch.padded([mean.to(dh.dtype), *sources]), launch.padded(dvs)
    vectors = launch.ready(lse), launch.ready(query), launch.ready(dh), dlse
    rows = (torch.float32, d), (torch.int64, 2 * block_n), (torch.float32, 3 * block_n)
    sums, *_ = launch.walk(
        phase_backward.phase_two_backward_kernel, n_tokens, (*pointers, *vectors), rows,
        (n, eps), options,
    )
    return dvs, dlse, sums.sum(0)


@phase_two_backward_op.register_fake
def empty_phase_two_gradients(dh, mean, lse, sources, query, *eps):
    dvs = [source.new_empty(source.shape) for source in (sources[0], *sources)]
    dlse = lse.new_empty(lse.shape, dtype=torch.float32)
    return dvs, dlse, query.new_empty(query.shape, dtype=torch.float32)


def keep_phase_two(ctx, inputs, output):
    mean, lse, sources, _, query, _, ctx.eps, _ = inputs
    ctx.save_for_backward(mean, lse, query, *sources)


def phase_two_backward(ctx, dh, _):
    mean, lse, query, *sources = ctx.saved_tensors
    gradients = phase_two_backward_op(dh, mean, lse, sources, query, ctx.eps)
    (dmean, *dvs), dlse, dw = gradients
    return (dmean.to(mean.dtype), dlse.to(lse.dtype), dvs, None, dw.to(query.dtype),
            None, None, None)


phase_two_op.register_autograd(phase_two_backward, setup_context=keep_phase_two)
