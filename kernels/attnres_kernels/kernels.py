"""The read's kernels, forward and backward. Nothing here knows about autograd.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count.
"""

from attnres_kernels.interpret import device_function, tl, triton
from attnres_kernels.parts import load, mix, rms_norm, sum3


@triton.jit
def forward_kernel(sources, w_ptr, gain_ptr, h_ptr, n, eps, out_eps, D: tl.constexpr,
                   BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """h = sum_i alpha_i v_i of one token; with `gain`, RMSNorm(h) in its place.

    bytes: n u read, 1 u written, which is the floor.
    """
    t = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK_D)
    inside, at = lanes < D, t * D + lanes
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    h = mix(sources, n, at, inside, w, eps, D, BLOCK_N, BLOCK_D, STAGES)
    if gain_ptr is not None:
        h, _, _ = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
    tl.store(h_ptr + at, h.to(h_ptr.dtype.element_ty), mask=inside)


@device_function
def through_softmax(s, inverse_rms, dalpha, is_source, D: tl.constexpr):
    """dv_i = alpha_i dh + to_w_i w + to_v_i v_i: the three factors of every source.

    delta = sum alpha dalpha is made of float32 terms, never from a stored, rounded h.
    s = w . v / rms(v), so its gradient pulls v towards w, and scales v itself.
    """
    p = tl.exp(s - tl.max(s, 0))
    alpha = p / tl.sum(p, 0)
    ds = alpha * (dalpha - tl.sum(alpha * dalpha, 0))
    to_w = ds * inverse_rms
    s = tl.where(is_source, s, 0.0)                       # 0 * -inf would be NaN
    to_v = -to_w * s * inverse_rms / D
    return alpha, to_w, to_v


@triton.jit
def backward_kernel(sources, w_ptr, gain_ptr, dh_ptr, dv_ptr, dw_ptr, dgain_ptr,
                    T, n, eps, out_eps, D: tl.constexpr, BLOCK_N: tl.constexpr,
                    BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """Gradients of `forward_kernel`: dv [n, T, d], and dw, dgain [programs, d].

    A program walks over tokens and sums dw in registers; the host adds the programs up.
    So the order of every sum is fixed, and two passes give identical bits.
    bytes: n + 1 u read, n u written, the floor: the second loop's reads (and those of
    the norm's, if there is one) find the token's sources in the cache.
    """
    lanes, i_lane = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    inside = lanes < D
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK_D], tl.float32)
    dgain = tl.zeros([BLOCK_D], tl.float32)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        dh = tl.load(dh_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if gain_ptr is not None:           # dh is the gradient of RMSNorm(h): go through
            h = mix(sources, n, at, inside, w, eps, D, BLOCK_N, BLOCK_D, STAGES)
            _, gain, inverse_rms = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
            unit = h * inverse_rms
            dgain += dh * unit
            dh = inverse_rms * (dh * gain - unit * (tl.sum(dh * gain * unit, 0) / D))

        # Loop 1: three numbers per source, kept in lane i of three small tiles. The
        # softmax's gradient does not change if all dalpha shift alike: (v - v_0) . dh
        # in place of v . dh keeps the digits when sources are nearly equal.
        v_0 = load(sources, 0, at, inside, BLOCK_N)
        s = tl.full([BLOCK_N], -float("inf"), tl.float32)     # no source: no weight
        inverse_rms_of = tl.zeros([BLOCK_N], tl.float32)
        dalpha = tl.zeros([BLOCK_N], tl.float32)
        for i in tl.range(0, n, num_stages=STAGES):
            v = load(sources, i, at, inside, BLOCK_N)
            squares, product, along_dh = sum3(v * v, v * w, (v - v_0) * dh)
            inverse_rms = tl.rsqrt(squares / D + eps)
            here = i_lane == i
            s = tl.where(here, product * inverse_rms, s)
            inverse_rms_of = tl.where(here, inverse_rms, inverse_rms_of)
            dalpha = tl.where(here, along_dh, dalpha)

        alpha, to_w, to_v = through_softmax(s, inverse_rms_of, dalpha, i_lane < n, D)

        # Loop 2: the sources again, and their gradients.
        for i in tl.range(0, n, num_stages=STAGES):
            v = load(sources, i, at, inside, BLOCK_N)
            here = tl.where(i_lane == i, 1.0, 0.0)
            a, b, c = sum3(here * alpha, here * to_w, here * to_v)
            dv = a * dh + b * w + c * v
            row = tl.cast(i, tl.int64) * T * D
            tl.store(dv_ptr + row + at, dv.to(dv_ptr.dtype.element_ty), mask=inside)
            dw += b * v
    mine = tl.program_id(0).to(tl.int64) * D + lanes
    tl.store(dw_ptr + mine, dw, mask=inside)
    if gain_ptr is not None:
        tl.store(dgain_ptr + mine, dgain, mask=inside)
