"""Phase 2 as an operator of PyTorch, with rules for shapes and for gradients."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnres_kernels import launch, phase_backward, phase_kernels
from attnres_kernels.eager import shortest


def read_rest(
    mean: Tensor, lse: Tensor, sources: list[Tensor], output: Tensor | None,
    query: Tensor, gain: Tensor | None, eps: float, out_eps: float,
) -> tuple[Tensor, Tensor]:
    """-> h [..., d], and the new partial sum [..., d] (empty without `output`)."""
    source = sources[0]
    d = source.shape[-1]
    h = torch.empty_like(source, memory_format=torch.contiguous_format)
    partial = source.new_empty(source.shape if output is not None else 0)
    if n_tokens := source.numel() // d:
        others = map(launch.ready, (mean, lse, output, query, gain))
        launch.walk(
            phase_kernels.phase_two_kernel, n_tokens,
            (launch.padded(sources), *others, partial, h), [],
            (len(sources), eps, out_eps), launch.tiles(len(sources), d, launch.FORWARD),
        )
    return h, partial


phase_two_op = torch.library.custom_op("attnres::phase_two", read_rest, mutates_args=())


@phase_two_op.register_fake
def _(mean, lse, sources, output, query, gain, eps, out_eps):
    source = sources[0]
    h = torch.empty_like(source, memory_format=torch.contiguous_format)
    return h, source.new_empty(source.shape if output is not None else 0)


def read_rest_backward(
    dh: Tensor, dpartial: Tensor | None, mean: Tensor, lse: Tensor, sources: list[Tensor],
    query: Tensor, gain: Tensor | None, eps: float, out_eps: float,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """-> 1 + n dvs [..., d], of mean and sources, in the sources' dtype; dlse [..., 1], dw
    [d] and dgain [d] (empty without `gain`) in float32."""
    made = empty_phase_two_gradients(dh, dpartial, mean, lse, sources, query, gain)
    dvs, dlse, dw, dgain = made
    n, d = len(dvs), len(query)
    n_tokens = dh.numel() // d
    if n_tokens == 0:
        return dvs, dlse, dw.zero_(), dgain.zero_()
    pointers = tuple(map(launch.ready, (mean.to(dh.dtype), *sources))), tuple(dvs)
    vectors = *map(launch.ready, (lse, query, gain, dpartial)), dlse, launch.ready(dh)
    dw, dgain = launch.walk(
        phase_backward.phase_two_backward_kernel, n_tokens, (*pointers, *vectors),
        [(torch.float32, d), (torch.float32, len(dgain))], (eps, out_eps),
        register_tiles(n, d, dh.element_size()),
    )
    return dvs, dlse, dw.sum(0), dgain.sum(0)


def register_tiles(n: int, d: int, size: int = 2) -> dict[str, int]:
    """Launch options of phase 2's backward for sources of `size` bytes a number. A thread
    holds its part of n sources and of six other vectors: so many warps that these are at
    most 192 numbers. The next two tokens' loads are under way, as far as they fit."""
    block_d = launch.power_of_two(d)
    warps = launch.power_of_two(-(-(n + 6) * block_d // 6144))
    stages = 1 + min(2, (96 << 10) // ((n + 2) * block_d * size))
    return dict(D=d, N=n, BLOCK_D=block_d, STAGES=stages, num_warps=min(16, warps))


phase_two_backward_op = torch.library.custom_op(
    "attnres::phase_two_backward", read_rest_backward, mutates_args=()
)


@phase_two_backward_op.register_fake
def empty_phase_two_gradients(dh, dpartial, mean, lse, sources, query, gain, *eps):
    dvs = [source.new_empty(source.shape) for source in (sources[0], *sources)]
    dlse = lse.new_empty(lse.shape, dtype=torch.float32)
    dw = query.new_empty(query.shape, dtype=torch.float32)
    return dvs, dlse, dw, dw.new_empty(0 if gain is None else dw.shape)


def keep_phase_two(ctx, inputs, output):
    mean, lse, sources, added, query, gain, ctx.eps, ctx.out_eps = inputs
    ctx.added = added is not None
    if ctx.added:                          # then the new partial sum is what was read
        sources = output[1:]
    ctx.set_materialize_grads(False)       # nobody may use the last partial sum
    ctx.save_for_backward(mean, lse, query, gain, *sources)


def phase_two_backward(ctx, dh, dpartial):
    mean, lse, query, gain, *sources = ctx.saved_tensors
    dh = torch.zeros_like(sources[0]) if dh is None else dh
    run = shortest(read_rest_backward, phase_two_backward_op, dh)
    (dmean, *dvs), dlse, dw, dgain = run(
        dh, dpartial if ctx.added else None, mean, lse, sources, query, gain, ctx.eps,
        ctx.out_eps,
    )
    return (dmean.to(mean.dtype), dlse.to(lse.dtype), dvs, dvs[0] if ctx.added else None,
            dw.to(query.dtype), None if gain is None else dgain.to(gain.dtype), None, None)


phase_two_op.register_autograd(phase_two_backward, setup_context=keep_phase_two)


class PhaseTwo(torch.autograd.Function):
    """`phase_two_op` for eager mode: see attnres_kernels.depth.Read."""

    @staticmethod
    def forward(ctx, mean, lse, output, query, gain, eps, out_eps, *sources):
        inputs = mean, lse, list(sources), output, query, gain, eps, out_eps
        made = shortest(read_rest, phase_two_op, mean)(*inputs)
        keep_phase_two(ctx, inputs, made)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx, dh, dpartial):
        dmean, dlse, dvs, doutput, *others = phase_two_backward(ctx, dh, dpartial)
        return dmean, dlse, doutput, *others, *dvs
