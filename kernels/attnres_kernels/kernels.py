"""The Triton kernels, one program per token. Nothing here knows about autograd.

Symbols: n sources v_i [T, d]; w [d], the pseudo-query times the key-norm weight; scores
s_i = w . v_i / rms(v_i); weights alpha = softmax(s); h = sum_i alpha_i v_i (Eq. 2-4).
u = T d elements, one pass over a source; `bytes` below count such passes through DRAM.

A vector of width D lies in a tile of BLOCK_D >= D lanes, a power of two; lanes beyond
D load zeros. All arithmetic is float32, whatever is stored. Offsets are int64: n T d
passes 2^31 early. `sources` is a tuple of BLOCK_N pointers, the first n of which count.
"""

from attnres_kernels.interpret import device_function, interpreting, tl, triton

INTERPRETING = tl.constexpr(interpreting())
# The one combine function that the interpreter's tl.reduce hands to NumPy; it calls any
# other from Python, once per lane.
ADD = tl.standard._sum_combine if interpreting() else None


@device_function
def pick(sources, i, BLOCK_N: tl.constexpr):
    """sources[i] for an i known only at run time. So the loop over sources stays a
    loop, compiled once for all n up to BLOCK_N, and its loads can be pipelined."""
    if INTERPRETING:
        return sources[i]
    else:
        chosen = sources[0]
        for j in tl.static_range(1, BLOCK_N):
            chosen = tl.where(i == j, sources[j], chosen)
        return chosen


@device_function
def load(sources, i, at, inside, BLOCK_N: tl.constexpr):
    """Elements `at` of source i in float32, zero outside."""
    return tl.load(pick(sources, i, BLOCK_N) + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def add2(a0, a1, b0, b1):
    return a0 + b0, a1 + b1


@triton.jit
def add3(a0, a1, a2, b0, b1, b2):
    return a0 + b0, a1 + b1, a2 + b2


@device_function
def sum2(a, b):
    """Both sums in one reduction, which pays for its barriers once."""
    if INTERPRETING:
        return tl.reduce(a, 0, ADD), tl.reduce(b, 0, ADD)
    else:
        return tl.reduce((a, b), 0, add2)


@device_function
def sum3(a, b, c):
    if INTERPRETING:
        return tl.reduce(a, 0, ADD), tl.reduce(b, 0, ADD), tl.reduce(c, 0, ADD)
    else:
        return tl.reduce((a, b, c), 0, add3)


@device_function
def join(acc, m, l, v, w, eps, D: tl.constexpr):
    """Online softmax: one more source v joins acc = sum e^(s-m) v, m = max s and
    l = sum e^(s-m)."""
    squares, product = sum2(v * v, v * w)
    s = product * tl.rsqrt(squares / D + eps)
    larger = tl.maximum(m, s)
    shrink, p = tl.exp(m - larger), tl.exp(s - larger)
    return acc * shrink + p * v, larger, l * shrink + p


@device_function
def mix(sources, n, at, inside, w, eps, D: tl.constexpr, BLOCK_N: tl.constexpr,
        BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """h of one token, each source loaded once; STAGES loads are under way at a time."""
    acc = tl.zeros([BLOCK_D], tl.float32)
    m, l = tl.full([], -float("inf"), tl.float32), tl.full([], 0.0, tl.float32)
    for i in tl.range(0, n, num_stages=STAGES):
        v = load(sources, i, at, inside, BLOCK_N)
        acc, m, l = join(acc, m, l, v, w, eps, D)
    return acc / l


@device_function
def rms_norm(h, gain_ptr, lanes, inside, eps, D: tl.constexpr):
    """RMSNorm of h with weight `gain`; also the weight and 1 / rms."""
    gain = tl.load(gain_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    inverse_rms = tl.rsqrt(tl.sum(h * h, 0) / D + eps)
    return h * inverse_rms * gain, gain, inverse_rms


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


@triton.jit
def phase_one_kernel(sources, w_ptr, mean_ptr, lse_ptr, n, T, S, eps, D: tl.constexpr,
                     BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
                     STAGES: tl.constexpr):
    """BLOCK_S of S queries read the n completed sources of one token (Alg. 1).

    w [S, d] -> mean [S, T, d] = sum_i alpha_i v_i and lse [S, T] = log sum_i e^(s_i).
    bytes: n u read, S u written. Tiles of one token run side by side, so that all but
    the first find its sources in the cache.
    """
    n_tiles = tl.cdiv(S, BLOCK_S)
    tile, t = tl.program_id(0) % n_tiles, (tl.program_id(0) // n_tiles).to(tl.int64)
    lanes, query = tl.arange(0, BLOCK_D), tile * BLOCK_S + tl.arange(0, BLOCK_S)
    inside, at = lanes < D, t * D + lanes
    both = (query < S)[:, None] & inside[None, :]                 # [BLOCK_S, BLOCK_D]
    at_w = query[:, None] * D + lanes[None, :]
    w = tl.load(w_ptr + at_w, mask=both, other=0.0).to(tl.float32)
    acc = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    m = tl.full([BLOCK_S], -float("inf"), tl.float32)
    l = tl.zeros([BLOCK_S], tl.float32)
    for i in tl.range(0, n, num_stages=STAGES):
        v = load(sources, i, at, inside, BLOCK_N)
        s = tl.sum(w * v[None, :], 1) * tl.rsqrt(tl.sum(v * v, 0) / D + eps)
        larger = tl.maximum(m, s)
        shrink, p = tl.exp(m - larger), tl.exp(s - larger)
        acc = acc * shrink[:, None] + p[:, None] * v[None, :]
        m, l = larger, l * shrink + p
    row = query.to(tl.int64) * T + t
    mean = (acc / l[:, None]).to(mean_ptr.dtype.element_ty)
    tl.store(mean_ptr + row[:, None] * D + lanes[None, :], mean, mask=both)
    tl.store(lse_ptr + row, m + tl.log(l), mask=query < S)


@triton.jit
def phase_two_kernel(mean_ptr, lse_ptr, sources, output_ptr, w_ptr, gain_ptr, h_ptr,
                     partial_ptr, n, eps, out_eps, D: tl.constexpr, BLOCK_N: tl.constexpr,
                     BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """Sources written since phase 1 join its (mean, lse), which is (mean, m=lse, l=1).

    With `output`, the one source is a partial sum that lacks the newest output: add it
    and store the new partial sum. With `gain`, the next layer's RMSNorm of h.
    bytes: n + 1 u read and 1 u written; with `output` 3 u read and 2 u written.
    """
    t = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK_D)
    inside, at = lanes < D, t * D + lanes
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    acc = tl.load(mean_ptr + at, mask=inside, other=0.0).to(tl.float32)
    m, l = tl.load(lse_ptr + t), tl.full([], 1.0, tl.float32)
    if output_ptr is not None:
        partial = load(sources, 0, at, inside, BLOCK_N)
        partial += tl.load(output_ptr + at, mask=inside, other=0.0).to(tl.float32)
        rounded = partial.to(partial_ptr.dtype.element_ty)     # what later layers will see
        tl.store(partial_ptr + at, rounded, mask=inside)
        acc, m, l = join(acc, m, l, rounded.to(tl.float32), w, eps, D)
    else:
        for i in tl.range(0, n, num_stages=STAGES):
            v = load(sources, i, at, inside, BLOCK_N)
            acc, m, l = join(acc, m, l, v, w, eps, D)
    h = acc / l
    if gain_ptr is not None:
        h, _, _ = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
    tl.store(h_ptr + at, h.to(h_ptr.dtype.element_ty), mask=inside)
