"""The kernels of the two phases (Alg. 1); phase_backward.py has their gradients.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count.
"""

from attnres_kernels.interpret import kernel, tl
from attnres_kernels.parts import join, load, load_from, rms_norm, write_addresses


@kernel
def phase_one_kernel(sources, means, w_ptr, lse_ptr, addresses_ptr, T, n, S, eps,
                     D: tl.constexpr, BLOCK_N: tl.constexpr, N_MEANS: tl.constexpr,
                     BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """BLOCK_S of S queries read the n completed sources of every token (Alg. 1).

    w [S, d] -> S means [T, d], sum_i alpha_i v_i, and lse [S, T] = log sum_i e^(s_i).
    `means` are N_MEANS pointers: each mean is a tensor of its own, so that in training
    each has a gradient of its own.
    bytes: n u read, S u written. The programs of a token, one for each tile of queries,
    run side by side, so that all but the first find its sources in the cache.
    """
    dtype: tl.constexpr = sources[0].dtype.element_ty
    n_tiles = tl.cdiv(S, BLOCK_S)
    tile, first = tl.program_id(0) % n_tiles, tl.program_id(0) // n_tiles
    lanes, query = tl.arange(0, BLOCK_D), tile * BLOCK_S + tl.arange(0, BLOCK_S)
    inside, is_query = lanes < D, query < S
    both = is_query[:, None] & inside[None, :]                    # [BLOCK_S, BLOCK_D]
    addresses = addresses_ptr + tl.program_id(0) * (BLOCK_N + N_MEANS)
    write_addresses(sources, addresses, BLOCK_N)
    write_addresses(means, addresses + BLOCK_N, N_MEANS)
    mean_ptr = tl.load(addresses + BLOCK_N + query, mask=is_query, other=0)
    mean_ptr = tl.multiple_of(mean_ptr.to(tl.pointer_type(dtype)), 16)
    at_w = query[:, None] * D + lanes[None, :]
    w = tl.load(w_ptr + at_w, mask=both, other=0.0).to(tl.float32)
    for t in range(first, T, tl.num_programs(0) // n_tiles):
        at = tl.cast(t, tl.int64) * D + lanes
        acc = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
        m = tl.full([BLOCK_S], -float("inf"), tl.float32)
        l = tl.zeros([BLOCK_S], tl.float32)
        for i in tl.range(0, n, num_stages=STAGES):
            v = load_from(addresses, i, at, inside, dtype)
            s = tl.sum(w * v[None, :], 1) * tl.rsqrt(tl.sum(v * v, 0) / D + eps)
            larger = tl.maximum(m, s)
            shrink, p = tl.exp(m - larger), tl.exp(s - larger)
            acc = acc * shrink[:, None] + p[:, None] * v[None, :]
            m, l = larger, l * shrink + p
        mean = (acc / l[:, None]).to(dtype)
        tl.store(mean_ptr[:, None] + at[None, :], mean, mask=both)
        tl.store(lse_ptr + query.to(tl.int64) * T + t, m + tl.log(l), mask=is_query)


@kernel
def phase_two_kernel(sources, mean_ptr, lse_ptr, output_ptr, w_ptr, gain_ptr, partial_ptr,
                     h_ptr, T, n, eps, out_eps, D: tl.constexpr, BLOCK_N: tl.constexpr,
                     BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """Sources written since phase 1 join its (mean, lse), which is (mean, m=lse, l=1).

    With `output`, the one source is a partial sum that lacks the newest output: add it
    and store the new partial sum. With `gain`, the next layer's RMSNorm of h.
    bytes: n + 1 u read and 1 u written; with `output` 3 u read and 2 u written.
    """
    dtype: tl.constexpr = h_ptr.dtype.element_ty
    lanes = tl.arange(0, BLOCK_D)
    inside = lanes < D
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        acc = tl.load(mean_ptr + at, mask=inside, other=0.0).to(tl.float32)
        m, l = tl.load(lse_ptr + t).to(tl.float32), tl.full([], 1.0, tl.float32)
        if output_ptr is not None:
            partial = load(sources, 0, at, inside, BLOCK_N)
            partial += tl.load(output_ptr + at, mask=inside, other=0.0).to(tl.float32)
            rounded = partial.to(dtype)                    # what later layers will see
            tl.store(partial_ptr + at, rounded, mask=inside)
            acc, m, l = join(acc, m, l, rounded.to(tl.float32), w, eps, D)
        else:
            for i in tl.range(0, n, num_stages=STAGES):
                v = load(sources, i, at, inside, BLOCK_N)
                acc, m, l = join(acc, m, l, v, w, eps, D)
        h = acc / l
        if gain_ptr is not None:
            h, _, _ = rms_norm(h, gain_ptr, lanes, inside, out_eps, D)
        tl.store(h_ptr + at, h.to(dtype), mask=inside)
