"""The gradients of both phases (Alg. 1), for training by them.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count;
attnres_kernels.kernels has the same gradient for one query that reads all sources. As
there, nothing of the forward pass is stored but its arguments, every gradient of a source
is a tensor of its own, and the order of every sum is fixed: each program sums dw over its
tokens, the host sums the programs.
"""

from attnres_kernels.interpret import device_function, kernel, tl
from attnres_kernels.kernels import factors_of_sources
from attnres_kernels.parts import load_from, store_to, sum2, sum3, write_addresses


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
def phase_two_backward_kernel(sources, dvs, lse_ptr, w_ptr, dh_ptr, dlse_ptr, dw_ptr,
                              addresses_ptr, row_ptr, T, n, eps, D: tl.constexpr,
                              BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
                              STAGES: tl.constexpr):
    """Gradients of `phase_two_kernel` without options: n dvs [T, d], dlse [T], and
    dw [programs, d]. The first of these n sources is phase 1's mean: its score is lse.

    bytes: n + 1 u read, n u written, under the condition of `phase_one_backward_kernel`.
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
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        dh = tl.load(dh_ptr + at, mask=inside, other=0.0).to(tl.float32)
        mean = load_from(addresses, 0, at, inside, dtype)
        tl.store(row, tl.load(lse_ptr + t))
        tl.store(row + BLOCK_N, 1.0)       # so that its to_w is the gradient of its score
        tl.store(row + 2 * BLOCK_N, 0.0)
        for i in tl.range(1, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            squares, product, dalpha = sum3(v * v, v * w, (v - mean) * dh)
            inverse_rms = tl.rsqrt(squares / D + eps)
            tl.store(row + i, product * inverse_rms)
            tl.store(row + BLOCK_N + i, inverse_rms)
            tl.store(row + 2 * BLOCK_N + i, dalpha)
        factors_of_sources(row, n, D, BLOCK_N)

        store_to(addresses, BLOCK_N, at, inside, tl.load(row) * dh, dtype)
        tl.store(dlse_ptr + t, tl.load(row + BLOCK_N))
        for i in tl.range(1, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            to_w = tl.load(row + BLOCK_N + i)
            dv = tl.load(row + i) * dh + to_w * w + tl.load(row + 2 * BLOCK_N + i) * v
            store_to(addresses, BLOCK_N + i, at, inside, dv, dtype)
            dw += to_w * v
        tl.debug_barrier()                 # before the next token writes its numbers
    mine = tl.program_id(0).to(tl.int64) * D + lanes
    tl.store(dw_ptr + mine, dw, mask=inside)
