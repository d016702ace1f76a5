"""What the Triton kernels are made of: functions that are compiled into every kernel.

Symbols: n sources v_i [T, d]; w [d], the pseudo-query times the key-norm weight; scores
s_i = w . v_i / rms(v_i); weights alpha = softmax(s); h = sum_i alpha_i v_i (Eq. 2-4).
u = T d elements, one pass over a source; `bytes` in the kernels' docstrings count such
passes through DRAM.

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
    loop, compiled once for all n up to BLOCK_N, and its loads can be pipelined. Every
    source of every token costs three instructions for each of the BLOCK_N."""
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


@device_function
def write_addresses(sources, addresses, BLOCK_N: tl.constexpr):
    """The sources' addresses, written to memory that is this program's own: a pick made
    once for all tokens. The host could write them, too, but then a CUDA graph would go on
    reading the addresses of its first run: of a launch it keeps the arguments alone."""
    for i in tl.static_range(BLOCK_N):
        tl.store(addresses + i, sources[i].to(tl.int64))
    tl.debug_barrier()                 # one thread writes, all read


@device_function
def load_from(addresses, i, at, inside, dtype: tl.constexpr):
    """As `load`, of the source whose address is the i-th of `addresses`."""
    source = tl.load(addresses + i).to(tl.pointer_type(dtype))
    source = tl.multiple_of(source, 16)                    # so that loads are wide
    return tl.load(source + at, mask=inside, other=0.0).to(tl.float32)


@device_function
def store_to(addresses, i, at, inside, x, dtype: tl.constexpr):
    """Elements `at` of the tensor whose address is the i-th of `addresses`."""
    tensor = tl.load(addresses + i).to(tl.pointer_type(dtype))
    tensor = tl.multiple_of(tensor, 16)                    # so that stores are wide
    tl.store(tensor + at, x.to(dtype), mask=inside)


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
def mix(addresses, n, at, inside, w, eps, dtype: tl.constexpr, D: tl.constexpr,
        BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """h of one token, each source loaded once; STAGES loads are under way at a time."""
    acc = tl.zeros([BLOCK_D], tl.float32)
    m, l = tl.full([], -float("inf"), tl.float32), tl.full([], 0.0, tl.float32)
    for i in tl.range(0, n, num_stages=STAGES):
        v = load_from(addresses, i, at, inside, dtype)
        acc, m, l = join(acc, m, l, v, w, eps, D)
    return acc / l


@device_function
def rms_norm(h, gain_ptr, lanes, inside, eps, D: tl.constexpr):
    """RMSNorm of h with weight `gain`; also the weight and 1 / rms."""
    gain = tl.load(gain_ptr + lanes, mask=inside, other=0.0).to(tl.float32)
    inverse_rms = tl.rsqrt(tl.sum(h * h, 0) / D + eps)
    return h * inverse_rms * gain, gain, inverse_rms
