"""The read's backward in one pass over the sources, where they fit into shared memory.

The plain kernel reads every source twice, from DRAM and from the cache. Here all n of a
token lie in shared memory, a slot each. The second loop reads them there, and each slot
that it has used is filled with the next token's source at once. So loads never pause.

Written in Gluon, Triton's lower level, where one says which thread holds what and where
memory lies. Gluon has no interpreter, so on a CPU these kernels can only be compiled.
attnres_kernels.parts explains the symbols. The loops over n are unrolled.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy


@gluon.jit
def add3(a0, a1, a2, b0, b1, b2):
    return a0 + b0, a1 + b1, a2 + b2


@gluon.jit
def fetch(slot, source, t, T, lanes, D: gl.constexpr):
    """Begin to copy token t of a source into a slot; nothing for a t past the last."""
    wanted = (lanes < D) & (t < T)
    at = t.to(gl.int64) * D + lanes
    async_copy.async_copy_global_to_shared(slot, source + at, mask=wanted)
    async_copy.commit_group()


@gluon.jit
def fetched(slot, inside, LAYOUT: gl.constexpr):
    """What lies in a slot in float32, zero outside."""
    return gl.where(inside, slot.load(LAYOUT).to(gl.float32), 0.0)


@gluon.jit
def softmax_factors(s, inverse_rms, dalpha, D: gl.constexpr, N: gl.constexpr):
    """As kernels.through_softmax, of tuples of N numbers."""
    largest = s[0]
    for i in gl.static_range(1, N):
        largest = gl.maximum(largest, s[i])
    total, delta, p = 0.0, 0.0, ()
    for i in gl.static_range(N):
        p = p + (gl.exp(s[i] - largest),)
        total += p[i]
        delta += p[i] * dalpha[i]
    alpha, to_w, to_v = (), (), ()
    for i in gl.static_range(N):
        alpha = alpha + (p[i] / total,)
        to_w = to_w + (alpha[i] * (dalpha[i] - delta / total) * inverse_rms[i],)
        to_v = to_v + (-to_w[i] * s[i] * inverse_rms[i] / D,)
    return alpha, to_w, to_v


@gluon.jit(do_not_specialize=["T"])
def backward_ring_kernel(sources, dvs, w_ptr, dh_ptr, dw_ptr, T, eps, D: gl.constexpr,
                         N: gl.constexpr, BLOCK_D: gl.constexpr, num_warps: gl.constexpr):
    """Gradients of `forward_kernel` without `gain`: N dvs [T, d] and dw [programs, d].

    bytes: n + 1 u read, n u written, the floor, whatever the cache holds. Shared memory:
    n + 1 vectors; two programs an SM, one of which computes while the other waits, have
    113 KB each on an H100: n = 9 at d = 4096 fits.
    """
    layout: gl.constexpr = gl.BlockedLayout([8], [32], [num_warps], [0])   # 16 bytes a copy
    lanes = gl.arange(0, BLOCK_D, layout=layout)
    inside = lanes < D
    w = gl.load(w_ptr + lanes, mask=inside, other=0.0).to(gl.float32)
    dw = gl.zeros([BLOCK_D], gl.float32, layout=layout)
    ring = gl.allocate_shared_memory(
        dh_ptr.dtype.element_ty, [N + 1, BLOCK_D], gl.SwizzledSharedLayout(1, 1, 1, [0])
    )
    t = gl.program_id(0)
    fetch(ring.index(N), dh_ptr, t, T, lanes, D)
    for i in gl.static_range(N):
        fetch(ring.index(i), sources[i], t, T, lanes, D)

    for t in range(gl.program_id(0), T, gl.num_programs(0)):
        coming = t + gl.num_programs(0)
        async_copy.wait_group(N)           # of the N + 1 under way the first has arrived
        dh = fetched(ring.index(N), inside, layout)
        s, inverse_rms, dalpha = (), (), ()
        for i in gl.static_range(N):
            async_copy.wait_group(N - 1 - i)
            v = fetched(ring.index(i), inside, layout)
            if i == 0:
                v_0 = v
            squares, product, along_dh = gl.reduce(
                (v * v, v * w, (v - v_0) * dh), 0, add3
            )
            inverse_rms = inverse_rms + (gl.rsqrt(squares / D + eps),)
            s, dalpha = s + (product * inverse_rms[i],), dalpha + (along_dh,)
        alpha, to_w, to_v = softmax_factors(s, inverse_rms, dalpha, D, N)

        fetch(ring.index(N), dh_ptr, coming, T, lanes, D)
        for i in gl.static_range(N):
            v = fetched(ring.index(i), inside, layout)
            dv = alpha[i] * dh + to_w[i] * w + to_v[i] * v
            dv = dv.to(dh_ptr.dtype.element_ty)
            gl.store(dvs[i] + t.to(gl.int64) * D + lanes, dv, mask=inside)
            dw += to_w[i] * v
            fetch(ring.index(i), sources[i], coming, T, lanes, D)
    async_copy.wait_group(0)
    gl.store(dw_ptr + gl.program_id(0).to(gl.int64) * D + lanes, dw, mask=inside)
