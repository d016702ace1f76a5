"""How a kernel is launched: block sizes, number of programs, what it is given."""

from collections.abc import Callable, Sequence

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
# FORWARD and BACKWARD are the best of those that `python -m attnres_kernels.bench sweep`
# timed on an H200, at d = 384, 1024, 4096 and 7168; 2048 lies between.
FORWARD = {1024: (1, 3), 2048: (2, 4), 8192: (4, 4)}
BACKWARD = {1024: (1, 4), 2048: (2, 4), 8192: (4, 4)}

# The one-read backward (attnres_kernels.ring): shared memory that a program may take, half
# of an H100's SM, 0 to switch it off; the narrowest sources; warps by BLOCK_D up to ...
# An H200 has measured it: at d = 1024 and 4096 it is faster than two loops, at 384 slower.
RING_BYTES, RING_NARROWEST = 113 << 10, 1024
RING_WARPS = {1024: 2, 4096: 4, 8192: 8}

LOADED = {}                            # kernels by what they were compiled for


def power_of_two(x: int) -> int:
    """The smallest power of two >= x."""
    return 1 << (x - 1).bit_length()


def tiles(n: int, d: int, settings: dict) -> dict[str, int]:
    """Launch options for n sources of width d; settings: FORWARD or BACKWARD."""
    block_d = power_of_two(d)
    warps, stages = next(settings[width] for width in settings if block_d <= width)
    blocks = dict(D=d, BLOCK_N=power_of_two(n), BLOCK_D=block_d)
    return dict(**blocks, STAGES=stages, num_warps=warps)


def fits_ring(n: int, d: int, element_size: int) -> bool:
    """Whether n sources of width d have the size for the ring: wide, all of a token's in
    RING_BYTES, few enough to unroll."""
    held = (n + 1) * power_of_two(d) * element_size
    return held <= RING_BYTES and RING_NARROWEST <= d and n <= 9


def in_ring(sources: Sequence[Tensor], gain: Tensor | None) -> bool:
    """Whether the backward takes the ring: no output norm, sources that `fits_ring` and
    that are copied in whole 16 bytes by a GPU that can."""
    first = sources[0]
    d, element_size = first.shape[-1], first.element_size()
    return (
        fits_ring(len(sources), d, element_size) and gain is None and not interpreting()
        and element_size == 2 and d % 8 == 0
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
    kernel, n_tokens: int, tensors: Sequence[Tensor | tuple[Tensor, ...] | None],
    rows: Sequence[tuple[torch.dtype, int]], numbers: Sequence[float],
    options: dict[str, int], n_tiles: int = 1,
) -> list[Tensor]:
    """Launch a kernel whose programs walk over the tokens, on the device of the tensors,
    which need not be the current one. n_tiles programs share a token, side by side. Each
    program has a row of its own in further tensors, returned: [programs, width] for each
    (dtype, width) of `rows`."""
    last, numbers = tensors[-1], (n_tokens, *numbers)
    with torch.cuda.device_of(last):
        pointers = *tensors, *(dtype for dtype, _ in rows)
        load = interpreted if interpreting() else loaded
        launch, at_once = load(kernel, pointers, numbers, options)
        programs = n_tiles * max(1, min(n_tokens, at_once // n_tiles))
        made = [last.new_empty((programs, width), dtype=dtype) for dtype, width in rows]
        launch(programs, (*tensors, *made), numbers)
    return made


def interpreted(kernel, pointers: Sequence, numbers: Sequence, options: dict[str, int]):
    """As `loaded`, in the interpreter. It has two programs, so that tests see both sums,
    over tokens and over programs."""
    def launch(programs, tensors, numbers):
        kernel[(programs,)](*tensors, *numbers, **options)

    return launch, 2


def loaded(
    kernel, pointers: Sequence, numbers: Sequence, options: dict[str, int]
) -> tuple[Callable, int]:
    """The compiled kernel as launch(programs, tensors, numbers), and how many programs the
    current GPU holds at once, which depends on the registers and the shared memory that it
    takes, so it is compiled and loaded here, and asked.

    A dtype stands for a tensor that is not there yet, and the tensors of a tuple have one
    dtype. Nothing can be loaded while a CUDA graph is captured, so that a first call has to
    come before, as with every Triton kernel. Later calls find all this by a short key:
    Triton's own launch looks at every argument anew, which may take longer than the kernel.
    """
    device = torch.cuda.current_device()
    key = kernel, device, *options.values(), *map(kind, pointers)
    if key not in LOADED:
        compiled = kernel.warmup(*pointers, *numbers, grid=(1,), **options)
        compiled._init_handles()                           # loaded, it knows its registers
        card = card_at(device)
        fitting = resident(
            card, options["num_warps"], compiled.n_regs, compiled.metadata.shared
        )
        constants = [options[name] for name in kernel.arg_names if name in options]

        def launch(programs, tensors, numbers):
            compiled[programs, 1, 1](*map(address, tensors), *numbers, *constants)

        LOADED[key] = launch, card.n_sm * fitting
    return LOADED[key]


def kind(pointer):
    """What of a pointer decides how a kernel is compiled: its dtype, or that it is None."""
    if isinstance(pointer, tuple):
        pointer = pointer[0]
    return pointer.dtype if isinstance(pointer, Tensor) else pointer


def address(tensor):
    """Where it lies, as a number, which the launcher takes as it is."""
    if isinstance(tensor, tuple):
        return tuple(map(address, tensor))
    return None if tensor is None else tensor.data_ptr()


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
