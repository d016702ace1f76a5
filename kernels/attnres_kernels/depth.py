"""`depth_attention`, fused: Eq. 2-4 in one pass over the sources, and its gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnres_kernels import kernels, launch
from attnres_kernels.eager import shortest
from attnres_ref import depth as reference


def depth_attention(
    query: Tensor,
    sources: Sequence[Tensor],
    norm_weight: Tensor | None = None,
    eps: float = 1e-5,
    return_weights: bool = False,
    *,
    out_norm_weight: Tensor | None = None,
    out_eps: float = 1e-5,
) -> Tensor:
    """Read one layer's input from what earlier layers wrote (Eq. 2-4).

    As attnres_ref.depth_attention: query [d], sources n >= 1 tensors [..., d],
    norm_weight [d] or None -> [..., d] in the sources' dtype, computed in float32.
    out_norm_weight [d]: return RMSNorm(h) with this weight and `out_eps` in place of h,
    in the same pass; the norm sees h before it is rounded.
    float32, float16 and bfloat16; 1 <= d <= 8192. Differentiable once in every tensor
    argument (a second derivative lacks the read's part; attnres_ref.depth_attention has
    it); only the arguments are kept for backward. Two backward passes give identical bits.
    Raises ValueError for sources or vectors that do not fit or are not supported, and
    for return_weights, since the weights never leave the registers; ImportError where
    Triton is missing.
    """
    if return_weights:
        raise ValueError(
            "return_weights is True: the kernel never stores the weights; "
            "attnres_ref.depth_attention returns them"
        )
    vectors = dict(query=query, norm_weight=norm_weight, out_norm_weight=out_norm_weight)
    launch.check_inputs(sources, eps, **vectors)
    launch.check_out_eps(out_eps)
    w = reference.fold(query, norm_weight, sources[0])
    if torch.compiler.is_compiling():
        return read_op(list(sources), w, out_norm_weight, eps, out_eps)
    return Read.apply(w, out_norm_weight, float(eps), float(out_eps), *sources)


depth_attention.same_as = reference.depth_attention    # two phases may take its place


def read(
    sources: list[Tensor], w: Tensor, gain: Tensor | None, eps: float, out_eps: float
) -> Tensor:
    n, d = len(sources), w.shape[0]
    h = torch.empty_like(sources[0], memory_format=torch.contiguous_format)
    n_tokens = h.numel() // d
    if n_tokens == 0:
        return h
    options = launch.tiles(n, d, launch.FORWARD)
    tensors = launch.padded(sources), launch.ready(w), launch.ready(gain), h
    addresses = torch.int64, options["BLOCK_N"]
    launch.walk(
        kernels.forward_kernel, n_tokens, tensors, [addresses], (n, eps, out_eps), options
    )
    return h


read_op = torch.library.custom_op("attnres::read", read, mutates_args=())


@read_op.register_fake
def _(sources, w, gain, eps, out_eps):
    return torch.empty_like(sources[0], memory_format=torch.contiguous_format)


def read_backward(
    dh: Tensor, sources: list[Tensor], w: Tensor, gain: Tensor | None,
    eps: float, out_eps: float,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """-> n dvs [..., d] in the sources' dtype, each a tensor of its own; dw [d] and dgain
    [d] (empty without `gain`) in float32."""
    dvs, dw, dgain = empty_gradients(dh, sources, w, gain)
    n, d = len(sources), w.shape[0]
    n_tokens = dh.numel() // d
    if n_tokens == 0:
        return dvs, dw.zero_(), dgain.zero_()
    if launch.in_ring(sources, gain):
        from attnres_kernels import ring  # experimental parts of Triton: only if asked for

        pointers = tuple(map(launch.ready, sources)), tuple(dvs)
        tensors = *pointers, launch.ready(w), launch.ready(dh)
        dw, = launch.walk(
            ring.backward_ring_kernel, n_tokens, tensors, [(torch.float32, d)], (eps,),
            launch.ring_options(n, d),
        )
        return dvs, dw.sum(0), dgain
    options = launch.tiles(n, d, launch.BACKWARD)
    pointers = launch.padded(sources), launch.padded(dvs)
    tensors = *pointers, launch.ready(w), launch.ready(gain), launch.ready(dh)
    sums = (torch.float32, d), (torch.float32, len(dgain))
    block_n = options["BLOCK_N"]
    scratch = (torch.int64, 2 * block_n), (torch.float32, 3 * block_n)
    dw, dgain, *_ = launch.walk(
        kernels.backward_kernel, n_tokens, tensors, [*sums, *scratch],
        (n, eps, out_eps), options,
    )
    return dvs, dw.sum(0), dgain.sum(0)


read_backward_op = torch.library.custom_op(
    "attnres::read_backward", read_backward, mutates_args=()
)


@read_backward_op.register_fake
def empty_gradients(dh, sources, w, gain, *eps):
    dvs = [source.new_empty(source.shape) for source in sources]
    dw = w.new_empty(w.shape, dtype=torch.float32)
    return dvs, dw, dw.new_empty(0 if gain is None else w.shape)


def keep_inputs(ctx, inputs, output):
    sources, w, gain, ctx.eps, ctx.out_eps = inputs
    ctx.save_for_backward(w, gain, *sources)


def through_read(ctx, dh):
    w, gain, *sources = ctx.saved_tensors
    run = shortest(read_backward, read_backward_op, dh)
    dvs, dw, dgain = run(dh, sources, w, gain, ctx.eps, ctx.out_eps)
    dgain = None if gain is None else dgain.to(gain.dtype)
    return dvs, dw.to(w.dtype), dgain, None, None


read_op.register_autograd(through_read, setup_context=keep_inputs)


class Read(torch.autograd.Function):
    """`read_op` for eager mode: what torch.library does for autograd at each call may take
    longer than the kernel."""

    @staticmethod
    def forward(ctx, w, gain, eps, out_eps, *sources):
        inputs = list(sources), w, gain, eps, out_eps
        keep_inputs(ctx, inputs, None)
        return shortest(read, read_op, sources[0])(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, dh):
        dvs, *others = through_read(ctx, dh)
        return *others, *dvs
