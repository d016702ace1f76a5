"""How a kernel is launched: block sizes, number of programs, what it is given."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attnres_kernels.interpret import check_device, interpreting
from attnres_ref.depth import check_sources
from attnres_ref.fields import is_real

WIDEST = 8192                          # d; wider needs two tiles per vector
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# BLOCK_D up to ...: warps per program, loads under way. Chosen by register counts of
# ahead-of-time compiles for sm_90, not by timings: nobody has timed them. Nothing spills
# but 152 bytes of the backward with an output norm at d = 8192.
SETTINGS = {1024: (4, 3), 4096: (8, 3), 8192: (16, 2)}


def power_of_two(x: int) -> int:
    """The smallest power of two >= x."""
    return 1 << (x - 1).bit_length()


def tiles(n: int, d: int) -> dict[str, int]:
    """Launch options for n sources of width d."""
    block_d = power_of_two(d)
    warps, stages = next(SETTINGS[width] for width in SETTINGS if block_d <= width)
    blocks = dict(D=d, BLOCK_N=power_of_two(n), BLOCK_D=block_d)
    return dict(**blocks, STAGES=stages, num_warps=warps)


def padded(sources: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Aligned, contiguous sources, the last repeated until there are a power of two.

    So a kernel is compiled for a few values of BLOCK_N, not for every depth of a read.
    A source that is not contiguous, or does not start at a multiple of 16 bytes as
    wide loads need it, is copied: one more read and write of it.
    """
    sources = [aligned(source.contiguous()) for source in sources]
    spare = power_of_two(len(sources)) - len(sources)
    return (*sources, *sources[-1:] * spare)


def aligned(tensor: Tensor) -> Tensor:
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def n_programs(n_tokens: int, device: torch.device, num_warps: int) -> int:
    """Programs of the backward kernel: about as many as run at once. The interpreter
    has two, so that tests see both sums, over tokens and over programs."""
    if interpreting():
        return min(n_tokens, 2)
    n_sm = torch.cuda.get_device_properties(device).multi_processor_count
    return min(n_tokens, n_sm * 16 // num_warps)


def contiguous(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else vector.contiguous()


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
