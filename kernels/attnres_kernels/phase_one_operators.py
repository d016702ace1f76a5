"""Phase 1 as an operator of PyTorch, with rules for shapes and for gradients.

A source's gradient, and a mean, is a tensor of its own, never a slice of a larger one: a
slice keeps the whole in memory, and autograd would stack the means' gradients.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnres_kernels import launch, phase_backward, phase_kernels
from attnres_kernels.eager import shortest

QUERIES = {4096: 2, 8192: 1}           # that a program of phase 1 takes, by BLOCK_D


def read_all(
    sources: list[Tensor], queries: Tensor, eps: float
) -> tuple[list[Tensor], Tensor]:
    """-> S means [..., d] in the sources' dtype and lses [S, ..., 1] in float32."""
    means, lses = empty_reads(sources, queries)
    n_queries, d = queries.shape
    if n_tokens := means[0].numel() // d:
        options = forward_tiles(len(sources), n_queries, d)
        n_means = options["N_MEANS"]
        tensors = launch.padded(sources), launch.padded(means), launch.ready(queries), lses
        launch.walk(
            phase_kernels.phase_one_kernel, n_tokens, tensors,
            [(torch.int64, options["BLOCK_N"] + n_means)], (len(sources), n_queries, eps),
            options, n_tiles=-(-n_queries // options["BLOCK_S"]),
        )
    return means, lses


def forward_tiles(n: int, n_queries: int, d: int) -> dict[str, int]:
    """Launch options of phase 1. More queries in a program would share its loads, but then
    it needs more warps, and every warp takes part in every sum over d."""
    options, n_means = launch.tiles(n, d, launch.FORWARD), launch.power_of_two(n_queries)
    block_d = options["BLOCK_D"]
    most = next(most for width, most in QUERIES.items() if block_d <= width)
    block_s = min(most, n_means)
    warps = max(1, block_s * block_d // 2048)      # 64 sums, and as much of w, a thread
    return options | dict(N_MEANS=n_means, BLOCK_S=block_s, num_warps=warps)


phase_one_op = torch.library.custom_op("attnres::phase_one", read_all, mutates_args=())


@phase_one_op.register_fake
def empty_reads(sources, queries, *eps):
    source, n_queries = sources[0], queries.shape[0]
    means = [source.new_empty(source.shape) for _ in range(n_queries)]
    lses = source.new_empty((n_queries, *source.shape[:-1], 1), dtype=torch.float32)
    return means, lses


def read_all_backward(
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
    options = launch.tiles(n, d, launch.FORWARD)
    block_s = launch.power_of_two(n_queries)
    warps = max(1, block_s * options["BLOCK_D"] // 2048)
    return options | dict(BLOCK_S=block_s, num_warps=warps)


phase_one_backward_op = torch.library.custom_op(
    "attnres::phase_one_backward", read_all_backward, mutates_args=()
)


@phase_one_backward_op.register_fake
def empty_gradients(dmeans, dlses, sources, queries, *eps):
    dvs = [source.new_empty(source.shape) for source in sources]
    return dvs, queries.new_empty(queries.shape, dtype=torch.float32)


def keep_phase_one(ctx, inputs, output):
    sources, queries, ctx.eps = inputs
    ctx.save_for_backward(queries, *sources)


def phase_one_backward(ctx, dmeans, dlses):
    queries, *sources = ctx.saved_tensors
    run = shortest(read_all_backward, phase_one_backward_op, dlses)
    dvs, dw = run(dmeans, dlses, sources, queries, ctx.eps)
    return dvs, dw.to(queries.dtype), None


phase_one_op.register_autograd(phase_one_backward, setup_context=keep_phase_one)


class PhaseOne(torch.autograd.Function):
    """`phase_one_op` for eager mode: see attnres_kernels.depth.Read."""

    @staticmethod
    def forward(ctx, queries, eps, *sources):
        keep_phase_one(ctx, (sources, queries, eps), None)
        run = shortest(read_all, phase_one_op, sources[0])
        means, lses = run(list(sources), queries, eps)
        return *means, lses

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        *dmeans, dlses = gradients
        dvs, dw, _ = phase_one_backward(ctx, dmeans, dlses)
        return dw, None, *dvs
