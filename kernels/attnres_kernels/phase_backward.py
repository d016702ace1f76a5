"""The gradients of both phases (Alg. 1), for training by them.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count;
attnres_kernels.kernels has the same gradient for one query that reads all sources. As
there, nothing of the forward pass is stored but its arguments, every gradient of a source
is a tensor of its own, and the order of every sum is fixed: each program sums dw over its
tokens, the host sums the programs.
"""

from attnres_kernels.interpret import device_function, kernel, tl
from attnres_kernels.parts import load_from, rms_norm, store_to, sum2, write_addresses


@device_function
def factors_of_queries(scores, dalphas, inverses, dlse, n, D: tl.constexpr,
                       BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr):
    """dv_i = sum_j (alpha_ij dmean_j + to_w_ij w_j) + to_v_i v_i: the factors of all
    sources i and queries j. alpha takes the place of the scores [BLOCK_N, BLOCK_S], to_w
    that of dalpha, to_v that of 1 / rms [BLOCK_N]."""
    i = tl.arange(0, BLOCK_N)
    is_source = i < n
    at = i[:, None] * BLOCK_S + tl.arange(0, BLOCK_S)[None, :]
    tl.debug_barrier()                 # every thread has written before any reads
    s = tl.load(scores + at, mask=is_source[:, None], other=-float("inf"))
    dalpha = tl.load(dalphas + at, mask=is_source[:, None], other=0.0)
    inverse_rms = tl.load(inverses + i, mask=is_source, other=0.0)
    p = tl.exp(s - tl.max(s, 0)[None, :])
    alpha = p / tl.sum(p, 0)[None, :]
    # Through the softmax, and lse = log sum_i e^(s_i), whose gradient in s_i is alpha_i.
    ds = alpha * (dalpha - tl.sum(alpha * dalpha, 0)[None, :] + dlse[None, :])
    to_w = ds * inverse_rms[:, None]
    s = tl.where(is_source[:, None], s, 0.0)              # 0 * -inf would be NaN
    to_v = -tl.sum(to_w * s, 1) * inverse_rms / D
    tl.debug_barrier()
    tl.store(scores + at, alpha)
    tl.store(dalphas + at, to_w)
    tl.store(inverses + i, to_v)
    tl.debug_barrier()


@kernel
def phase_one_backward_kernel(sources, dvs, dmeans, w_ptr, dlse_ptr, dw_ptr,
                              addresses_ptr, numbers_ptr, T, n, S, eps, ADD: tl.constexpr,
                              D: tl.constexpr, BLOCK_N: tl.constexpr,
                              BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
                              STAGES: tl.constexpr):
    """Gradients of `phase_one_kernel` for S <= BLOCK_S queries, from those of its means
    and of lse, dlse [S, T]: dw [programs, S, d], and n dvs [T, d]. With ADD these hold
    what other queries gave already.

    bytes: n + S u read, n u written, as long as the second loop finds the sources of all
    tokens at work in the L2 cache; else up to n u more are read. n u more with ADD.
    """
    dtype: tl.constexpr = sources[0].dtype.element_ty
    lanes, query = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_S)
    inside = lanes < D
    both = inside[:, None] & (query < S)[None, :]                  # [BLOCK_D, BLOCK_S]
    at_w = lanes[:, None] + query[None, :] * D
    addresses = addresses_ptr + tl.program_id(0) * (2 * BLOCK_N + BLOCK_S)
    write_addresses(sources, addresses, BLOCK_N)
    write_addresses(dvs, addresses + BLOCK_N, BLOCK_N)
    write_addresses(dmeans, addresses + 2 * BLOCK_N, BLOCK_S)
    dmean_ptr = tl.load(addresses + 2 * BLOCK_N + query).to(tl.pointer_type(dtype))
    dmean_ptr = tl.multiple_of(dmean_ptr, 16)
    scores = numbers_ptr + tl.program_id(0) * BLOCK_N * (2 * BLOCK_S + 1)
    dalphas = scores + BLOCK_N * BLOCK_S
    inverses = dalphas + BLOCK_N * BLOCK_S
    w = tl.load(w_ptr + at_w, mask=both, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK_D, BLOCK_S], tl.float32)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        dmean = tl.load(dmean_ptr[None, :] + at[:, None], mask=both, other=0.0)
        dmean = dmean.to(tl.float32)
        dlse = tl.load(dlse_ptr + query.to(tl.int64) * T + t, mask=query < S, other=0.0)

        # Loop 1: two numbers for each source and query, one for each source. The shift
        # by v_0 leaves the gradient as it is, and its digits when sources are nearly equal.
        v_0 = load_from(addresses, 0, at, inside, dtype)
        for i in tl.range(0, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            inverse_rms = tl.rsqrt(tl.sum(v * v, 0) / D + eps)
            product, dalpha = sum2(v[:, None] * w, (v - v_0)[:, None] * dmean)
            tl.store(scores + i * BLOCK_S + query, product * inverse_rms)
            tl.store(dalphas + i * BLOCK_S + query, dalpha)
            tl.store(inverses + i, inverse_rms)
        factors_of_queries(scores, dalphas, inverses, dlse, n, D, BLOCK_N, BLOCK_S)

        # Loop 2: the sources again, and the gradient that each gets from all queries.
        for i in tl.range(0, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            alpha = tl.load(scores + i * BLOCK_S + query)
            to_w = tl.load(dalphas + i * BLOCK_S + query)
            dv = tl.sum(alpha[None, :] * dmean + to_w[None, :] * w, 1)
            dv += tl.load(inverses + i) * v
            if ADD:
                dv += load_from(addresses, BLOCK_N + i, at, inside, dtype)
            store_to(addresses, BLOCK_N + i, at, inside, dv, dtype)
            dw += to_w[None, :] * v[:, None]
        tl.debug_barrier()                 # before the next token writes its numbers
    mine = tl.program_id(0).to(tl.int64) * S * D
    tl.store(dw_ptr + mine + at_w, dw, mask=both)


@kernel
def phase_two_backward_kernel(sources, dvs, lse_ptr, w_ptr, gain_ptr, dpartial_ptr,
                              dlse_ptr, dh_ptr, dw_ptr, dgain_ptr, T, eps, out_eps,
                              D: tl.constexpr, N: tl.constexpr, BLOCK_D: tl.constexpr,
                              STAGES: tl.constexpr):
    """Gradients of `phase_two_kernel`: N dvs [T, d], dlse [T], and dw, dgain
    [programs, d]. The first of the N sources is phase 1's mean, whose score is lse. With
    `dpartial` the one other is the new partial sum: its gradient from later layers.

    A token has few sources since phase 1, so all of them stay in registers, and the loops
    over them are unrolled.
    bytes: N + 1 u read, N u written; one more is read with `dpartial`.
    """
    dtype: tl.constexpr = dh_ptr.dtype.element_ty
    lanes = tl.arange(0, BLOCK_D)
    inside = lanes < D
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK_D], tl.float32)
    dgain = tl.zeros([BLOCK_D], tl.float32)
    for t in tl.range(tl.program_id(0), T, tl.num_programs(0), num_stages=STAGES):
        at = tl.cast(t, tl.int64) * D + lanes
        dh = tl.load(dh_ptr + at, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(sources[0] + at, mask=inside, other=0.0).to(tl.float32)
        lse = tl.load(lse_ptr + t).to(tl.float32)
        # h = mean + sum_i alpha_i (v_i - mean): from differences, as sources that are
        # nearly equal need it.
        apart, scores, inverses, largest = (), (), (), lse
        for i in tl.static_range(1, N):
            v = tl.load(sources[i] + at, mask=inside, other=0.0).to(tl.float32)
            squares, product = sum2(v * v, v * w)
            inverse_rms = tl.rsqrt(squares / D + eps)
            apart, inverses = apart + (v - mean,), inverses + (inverse_rms,)
            scores = scores + (product * inverse_rms,)
            largest = tl.maximum(largest, product * inverse_rms)
        total, h = tl.exp(lse - largest), tl.zeros([BLOCK_D], tl.float32)
        for i in tl.static_range(1, N):
            p = tl.exp(scores[i - 1] - largest)
            total, h = total + p, h + p * apart[i - 1]
        if gain_ptr is not None:           # dh is the gradient of RMSNorm(h): go through
            h = mean + h / total
            _, gain, inverse_rms = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
            unit = h * inverse_rms
            dgain += dh * unit
            dh = inverse_rms * (dh * gain - unit * (tl.sum(dh * gain * unit, 0) / D))
        delta, dalphas = tl.full([], 0.0, tl.float32), ()
        for i in tl.static_range(1, N):
            dalpha = tl.sum(apart[i - 1] * dh, 0)          # relative to the mean's, zero
            dalphas = dalphas + (dalpha,)
            delta += tl.exp(scores[i - 1] - largest) * dalpha
        delta /= total

        alpha = tl.exp(lse - largest) / total
        tl.store(dvs[0] + at, (alpha * dh).to(dtype), mask=inside)
        tl.store(dlse_ptr + t, -alpha * delta)
        for i in tl.static_range(1, N):
            v = mean + apart[i - 1]
            alpha = tl.exp(scores[i - 1] - largest) / total
            to_w = alpha * (dalphas[i - 1] - delta) * inverses[i - 1]
            to_v = -to_w * scores[i - 1] * inverses[i - 1] / D
            dv = alpha * dh + to_w * w + to_v * v
            if dpartial_ptr is not None:   # then the partial sum is the one source
                dv += tl.load(dpartial_ptr + at, mask=inside, other=0.0).to(tl.float32)
            tl.store(dvs[i] + at, dv.to(dtype), mask=inside)
            dw += to_w * v
    mine = tl.program_id(0).to(tl.int64) * D + lanes
    tl.store(dw_ptr + mine, dw, mask=inside)
    if gain_ptr is not None:
        tl.store(dgain_ptr + mine, dgain, mask=inside)
