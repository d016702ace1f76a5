"""Triton, ready for the machine at hand: its compiler, its interpreter, or neither.

The kernel files take `triton` and `tl` from here. Where no CUDA device is in sight the
interpreter is switched on, which runs the same kernels on CPU tensors, slowly. Triton
asks for it wherever it decorates a function, its own ones included, so what it decorated
before this module came (torch.compile and attnres_ref.pipeline import Triton, too) is
decorated once more. An environment variable TRITON_INTERPRET=0 or 1 that is set already
stays as it is.
"""

import importlib
import os
from importlib.metadata import version

import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

MISSING = (
    "Triton is not installed here: `pip install triton` (Linux; on Windows use WSL). "
    "attnres_ref has the same functions in plain PyTorch, for every machine"
)
CLASH = (
    "This Triton's interpreter fails with NumPy 2.4 or newer: `pip install 'numpy<2.4'` "
    "and start Python anew, or install Triton 3.7 with the PyTorch that asks for it"
)


class Stub:
    """Stands for a kernel where Triton is missing: launching it says so."""

    def __init__(self, function):
        self.function = function

    def __getitem__(self, grid):
        raise ImportError(MISSING)


class StubLanguage:
    constexpr = int                    # all that the definition of a kernel asks for


class StubTriton:
    @staticmethod
    def jit(function, **options):
        return Stub(function)


try:
    import triton
    import triton.language as tl
    INTERPRETING = bool(triton.knobs.runtime.interpret)      # fixed from here on
    if INTERPRETING and isinstance(tl.sum, triton.JITFunction):
        for module in (tl.standard, tl.random, tl):          # tl takes names from the two
            importlib.reload(module)
except ImportError:
    triton, tl, INTERPRETING = StubTriton, StubLanguage, False


def available() -> bool:
    """Whether Triton is installed."""
    return triton is not StubTriton


def clash(triton_version: str, numpy_version: str) -> bool:
    """Whether the interpreter fails on this pair: Triton before 3.7 takes int() of arrays
    with one element, which NumPy refuses since 2.4."""
    first_two = lambda text: tuple(int(number) for number in text.split(".")[:2])
    return first_two(triton_version) < (3, 7) and first_two(numpy_version) >= (2, 4)


def interpreting() -> bool:
    """Whether it is the interpreter that runs them."""
    return INTERPRETING


def device_function(function):
    """Decorator of what kernels call: compiled with them. In the interpreter a plain
    function; Triton's own wrapper would patch its whole language anew at each call."""
    return function if interpreting() else triton.jit(function)


def kernel(function):
    """Decorator of what the host launches. By default Triton compiles a kernel anew where
    an integer is one or a multiple of 16. These vary with depth and batch and nothing
    is gained, so that one compilation serves them all."""
    return triton.jit(function, do_not_specialize=["n", "T", "S"])


CLASHES = INTERPRETING and clash(triton.__version__, version("numpy"))


def check_device(tensor: Tensor) -> None:
    """Raise ImportError or ValueError unless kernels can run on this tensor's device."""
    if not available():
        raise ImportError(MISSING)
    if CLASHES:
        raise ImportError(CLASH)
    if tensor.device.type == "cuda" or (interpreting() and tensor.device.type == "cpu"):
        return
    raise ValueError(
        f"the sources are on {tensor.device}: the kernels run on CUDA devices. For CPU "
        "tensors set TRITON_INTERPRET=1 before attnres_kernels is first imported (slow: "
        "for tests and for learning), or use attnres_ref.depth_attention"
    )
