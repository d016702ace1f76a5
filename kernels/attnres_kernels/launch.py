"""How a kernel is launched: block sizes, number of programs, what it is given."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnres_kernels.interpret import check_device, interpreting
from attnres_kernels.occupancy import card_at, resident
from attnres_ref.depth import check_sources
from attnres_ref.fields import is_real

WIDEST = 8192                          # d; wider needs two tiles per vector
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# BLOCK_D up to ...: warps per program, loads under way. Few warps, since what is done once
# a source and not once a number (the sums' shuffles, the loop) is done by every warp.
# Chosen by `python -m attnres_kernels.ahead`, not by timings: nobody has timed them.
FORWARD = {2048: (1, 4), 4096: (2, 4), 8192: (4, 3)}
BACKWARD = {1024: (1, 4), 2048: (2, 4), 4096: (4, 4), 8192: (8, 3)}
PHASES = {1024: (4, 3), 4096: (8, 3), 8192: (16, 2)}

# Shared memory that a program of the one-read backward (attnres_kernels.ring) may take.
# 0: it is never taken, because no GPU has run it yet. Half of an H100's SM: 113 << 10.
RING_BYTES = 0
RING_WARPS = {2048: 2, 4096: 4, 8192: 8}               # by BLOCK_D up to ...

AT_ONCE = {}                           # programs that a GPU holds, by kernel and device


def power_of_two(x: int) -> int:
    """The smallest power of two >= x."""
    return 1 << (x - 1).bit_length()


def tiles(n: int, d: int, settings: dict | None = None) -> dict[str, int]:
    """Launch options for n sources of width d; `settings` are PHASES unless given."""
    block_d, settings = power_of_two(d), settings or PHASES
    warps, stages = next(settings[width] for width in settings if block_d <= width)
    blocks = dict(D=d, BLOCK_N=power_of_two(n), BLOCK_D=block_d)
    return dict(**blocks, STAGES=stages, num_warps=warps)


def in_ring(sources: Sequence[Tensor], gain: Tensor | None) -> bool:
    """Whether the backward takes the ring: no output norm, all sources of a token in
    RING_BYTES, few enough to unroll, copied in whole 16 bytes by a GPU that does that."""
    first, n = sources[0], len(sources)
    d = first.shape[-1]
    held = (n + 1) * power_of_two(d) * first.element_size()
    return (
        held <= RING_BYTES and gain is None and n <= 9 and not interpreting()
        and first.element_size() == 2 and d % 8 == 0
        and torch.cuda.get_device_capability(first.device) >= (8, 0)
    )


def ring_options(n: int, d: int) -> dict[str, int]:
    block_d = power_of_two(d)
    warps = next(RING_WARPS[width] for width in RING_WARPS if block_d <= width)
    return dict(D=d, N=n, BLOCK_D=block_d, num_warps=warps)


def padded(sources: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Aligned, contiguous sources, the last repeated until there are a power of two.

    So a kernel is compiled for a few values of BLOCK_N, not for every depth of a read.
    A source that is not contiguous, or does not start at a multiple of 16 bytes as
    wide loads need it, is copied: one more read and write of it.
    """
    sources = [ready(source) for source in sources]
    spare = power_of_two(len(sources)) - len(sources)
    return (*sources, *sources[-1:] * spare)


def ready(tensor: Tensor | None) -> Tensor | None:
    """The tensor as kernels read it: contiguous, and aligned to 16 bytes."""
    if tensor is None:
        return None
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def walk(
    kernel, n_tokens: int, tensors: Sequence[Tensor | None],
    rows: Sequence[tuple[torch.dtype, int]], numbers: Sequence[float],
    options: dict[str, int],
) -> list[Tensor]:
    """Launch a kernel whose programs walk over the tokens, on the device of the tensors,
    which need not be the current one. Each program has a row of its own in further
    tensors, returned: [programs, width] for each (dtype, width) of `rows`."""
    last, numbers = tensors[-1], (n_tokens, *numbers)
    dtypes = [dtype for dtype, _ in rows]
    with torch.cuda.device_of(last):
        programs = n_programs(kernel, n_tokens, (*tensors, *dtypes, *numbers), options)
        made = [last.new_empty((programs, width), dtype=dtype) for dtype, width in rows]
        kernel[(programs,)](*tensors, *made, *numbers, **options)
    return made


def n_programs(kernel, n_tokens: int, arguments: Sequence, options: dict[str, int]) -> int:
    """How many programs share the tokens: as many as the current GPU holds at once.

    That depends on the registers and the shared memory of the compiled kernel, so it is
    compiled and loaded here, and asked. A dtype stands for a tensor that is not there yet,
    and the tensors of a tuple have one dtype. Nothing can be loaded while a CUDA graph is
    captured, so that a first call has to come before, as with every Triton kernel. The
    interpreter has two programs, so that tests see both sums, over tokens and programs.
    """
    if interpreting():
        return min(n_tokens, 2)
    device = torch.cuda.current_device()
    each = [x[0] if isinstance(x, tuple) else x for x in arguments]
    dtypes = [x.dtype for x in each if isinstance(x, Tensor)]
    key = (kernel, device, *options.values(), *dtypes)
    if key not in AT_ONCE:
        compiled = kernel.warmup(*arguments, grid=(1,), **options)
        compiled._init_handles()                           # loaded, it knows its registers
        card = card_at(device)
        fitting = resident(
            card, options["num_warps"], compiled.n_regs, compiled.metadata.shared
        )
        AT_ONCE[key] = card.n_sm * fitting
    return min(n_tokens, AT_ONCE[key])


def check_out_eps(out_eps: float) -> None:
    if not is_real(out_eps, 0):
        raise ValueError(f"out_eps is {out_eps}: it must be a finite number, at least 0")


def check_inputs(
    sources: Sequence[Tensor], eps: float = 1e-5, **vectors: Tensor | None
) -> None:
    """Raise ValueError unless sources, eps and vectors fit together (`check_sources`), in a
    dtype and width and on a device that the kernels support; ImportError without Triton."""
    check_sources(sources, eps, **vectors)
    first = sources[0]
    if first.dtype not in DTYPES:
        raise ValueError(
            f"sources[0] has dtype {first.dtype}: the kernels take float32, float16 and "
            "bfloat16; attnres_ref.depth_attention takes float64 as well"
        )
    if not 1 <= first.shape[-1] <= WIDEST:
        raise ValueError(
            f"sources[0] has shape {list(first.shape)}: "
            f"pass [..., d] with d from 1 to {WIDEST}"
        )
    check_device(first)
