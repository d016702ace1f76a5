"""The kernels of the two phases (Alg. 1); phase_backward.py has their gradients.

attnres_kernels.parts explains the symbols, the tiles and what `bytes` count.
"""

from attnres_kernels.interpret import kernel, tl
from attnres_kernels.parts import join, load, pick, rms_norm


@kernel
def phase_one_kernel(sources, means, w_ptr, lse_ptr, n, T, S, eps, D: tl.constexpr,
                     BLOCK_N: tl.constexpr, N_MEANS: tl.constexpr, BLOCK_S: tl.constexpr,
                     BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """BLOCK_S of S queries read the n completed sources of one token (Alg. 1).

    w [S, d] -> S means [T, d], sum_i alpha_i v_i, and lse [S, T] = log sum_i e^(s_i).
    `means` are N_MEANS pointers: each mean is a tensor of its own, so that in training
    each has a gradient of its own.
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
    mean_ptr = means[0] + tl.zeros([BLOCK_S], tl.int64)
    for j in tl.static_range(BLOCK_S):
        mine = pick(means, tile * BLOCK_S + j, N_MEANS)
        mean_ptr = tl.where(query == tile * BLOCK_S + j, mine, mean_ptr)
    mean = (acc / l[:, None]).to(mean_ptr.dtype.element_ty)
    tl.store(mean_ptr[:, None] + at[None, :], mean, mask=both)
    tl.store(lse_ptr + query.to(tl.int64) * T + t, m + tl.log(l), mask=query < S)


@kernel
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
    m, l = tl.load(lse_ptr + t).to(tl.float32), tl.full([], 1.0, tl.float32)
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
