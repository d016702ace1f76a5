"""The read's kernels, forward and backward. Nothing here knows about autograd.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count. A program
walks over tokens: it loads w once, and writes the addresses of the sources (in backward
those of their gradients, too) once, to a row of `addresses` that is its own.
"""

from attnres_kernels.interpret import device_function, kernel, tl
from attnres_kernels.parts import load_from, mix, rms_norm, store_to, sum3, write_addresses


@kernel
def forward_kernel(sources, w_ptr, gain_ptr, h_ptr, addresses_ptr, T, n, eps, out_eps,
                   D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
                   STAGES: tl.constexpr):
    """h = sum_i alpha_i v_i; with `gain`, RMSNorm(h) in its place.

    bytes: n u read, 1 u written, which is the floor.
    """
    dtype: tl.constexpr = h_ptr.dtype.element_ty
    lanes = tl.arange(0, BLOCK_D)
    inside = lanes < D
    addresses = addresses_ptr + tl.program_id(0) * BLOCK_N
    write_addresses(sources, addresses, BLOCK_N)
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        h = mix(addresses, n, at, inside, w, eps, dtype, D, BLOCK_D, STAGES)
        if gain_ptr is not None:
            h, _, _ = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
        tl.store(h_ptr + at, h.to(dtype), mask=inside)


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


@device_function
def factors_of_sources(row, n, D: tl.constexpr, BLOCK_N: tl.constexpr):
    """`through_softmax` of the three numbers a source that `row` [3, BLOCK_N] holds; the
    three factors take their place. At a barrier every thread waits for all others, so
    that each reads what another has written."""
    i_lane = tl.arange(0, BLOCK_N)
    is_source = i_lane < n
    first, second, third = row + i_lane, row + BLOCK_N + i_lane, row + 2 * BLOCK_N + i_lane
    tl.debug_barrier()
    s = tl.load(first, mask=is_source, other=-float("inf"))   # no source: no weight
    inverse_rms = tl.load(second, mask=is_source, other=0.0)
    dalpha = tl.load(third, mask=is_source, other=0.0)
    alpha, to_w, to_v = through_softmax(s, inverse_rms, dalpha, is_source, D)
    tl.debug_barrier()
    tl.store(first, alpha)
    tl.store(second, to_w)
    tl.store(third, to_v)
    tl.debug_barrier()


@kernel
def backward_kernel(sources, dvs, w_ptr, gain_ptr, dh_ptr, dw_ptr, dgain_ptr,
                    addresses_ptr, row_ptr, T, n, eps, out_eps, D: tl.constexpr,
                    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """Gradients of `forward_kernel`: n dvs [T, d], and dw, dgain [programs, d].

    Every dv is a tensor of its own, and `dvs` a tuple of pointers as `sources` is. Were
    they slices of one tensor, autograd could free none of them before the last is used.
    A program sums dw over its tokens in registers; the host adds the programs up. So the
    order of every sum is fixed, and two passes give identical bits.
    bytes: n + 1 u read, n u written, the floor, if the second loop (and the first, after
    the norm's) finds in the L2 cache what the loop before it has read. Else 2 n + 1 u are
    read. On an H200 it seems to find little, even where the sources of all tokens at work
    would fit (19 MB at n = 9, d = 4096): the time is what 3 n + 1 passes take. Hence
    attnres_kernels.ring.
    """
    dtype: tl.constexpr = dh_ptr.dtype.element_ty
    lanes = tl.arange(0, BLOCK_D)
    inside = lanes < D
    addresses = addresses_ptr + tl.program_id(0) * 2 * BLOCK_N
    write_addresses(sources, addresses, BLOCK_N)
    write_addresses(dvs, addresses + BLOCK_N, BLOCK_N)
    row = row_ptr + tl.program_id(0) * 3 * BLOCK_N
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK_D], tl.float32)
    dgain = tl.zeros([BLOCK_D], tl.float32)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        dh = tl.load(dh_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if gain_ptr is not None:           # dh is the gradient of RMSNorm(h): go through
            h = mix(addresses, n, at, inside, w, eps, dtype, D, BLOCK_D, STAGES)
            _, gain, inverse_rms = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
            unit = h * inverse_rms
            dgain += dh * unit
            dh = inverse_rms * (dh * gain - unit * (tl.sum(dh * gain * unit, 0) / D))

        # Loop 1: three numbers a source. The softmax's gradient does not change if all
        # dalpha shift alike: (v - v_0) . dh in place of v . dh keeps the digits when
        # sources are nearly equal.
        v_0 = load_from(addresses, 0, at, inside, dtype)
        for i in tl.range(0, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            squares, product, dalpha = sum3(v * v, v * w, (v - v_0) * dh)
            inverse_rms = tl.rsqrt(squares / D + eps)
            tl.store(row + i, product * inverse_rms)
            tl.store(row + BLOCK_N + i, inverse_rms)
            tl.store(row + 2 * BLOCK_N + i, dalpha)
        factors_of_sources(row, n, D, BLOCK_N)

        # Loop 2: the sources again, and their gradients.
        for i in tl.range(0, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            to_w = tl.load(row + BLOCK_N + i)
            dv = tl.load(row + i) * dh + to_w * w + tl.load(row + 2 * BLOCK_N + i) * v
            store_to(addresses, BLOCK_N + i, at, inside, dv, dtype)
            dw += to_w * v
        tl.debug_barrier()                 # before the next token writes its numbers
    mine = tl.program_id(0).to(tl.int64) * D + lanes
    tl.store(dw_ptr + mine, dw, mask=inside)
    if gain_ptr is not None:
        tl.store(dgain_ptr + mine, dgain, mask=inside)
