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

import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

MISSING = (
    "Triton is not installed here: `pip install triton` (Linux; on Windows use WSL). "
    "attnres_ref has the same functions in plain PyTorch, for every machine"
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
    def jit(function):
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


def interpreting() -> bool:
    """Whether it is the interpreter that runs them."""
    return INTERPRETING


def device_function(function):
    """Decorator of what kernels call: compiled with them. In the interpreter a plain
    function; Triton's own wrapper would patch its whole language anew at each call."""
    return function if interpreting() else triton.jit(function)


def check_device(tensor: Tensor) -> None:
    """Raise ImportError or ValueError unless kernels can run on this tensor's device."""
    if not available():
        raise ImportError(MISSING)
    if tensor.device.type == "cuda" or (interpreting() and tensor.device.type == "cpu"):
        return
    raise ValueError(
        f"the sources are on {tensor.device}: the kernels run on CUDA devices. For CPU "
        "tensors set TRITON_INTERPRET=1 before attnres_kernels is first imported (slow: "
        "for tests and for learning), or use attnres_ref.depth_attention"
    )
