"""Every kernel compiled ahead of time for two GPUs, by the compiler inside Triton: it
needs no GPU, and finds what the interpreter does not (types, shapes, registers)."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# In a Python of its own: in this one Triton interprets.
COMPILE = """
import os
os.environ["TRITON_INTERPRET"] = "0"
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from attnres_kernels import kernels, launch
from attnres_kernels.phase_kernels import phase_one_kernel, phase_two_kernel

def ahead(kernel, capability, dtype, d, n_sources, absent=(), **constants):
    options = launch.tiles(n_sources, d) | constants
    constants = dict.fromkeys(absent)
    signature, aligned = {}, {}
    warps = options.pop("num_warps")
    for place, name in enumerate(kernel.arg_names):
        if name in options or name in constants:
            signature[name] = "constexpr"
        elif name == "sources":
            signature[name] = (dtype,) * options["BLOCK_N"]
            for i in range(options["BLOCK_N"]):
                aligned[place, i] = [["tt.divisibility", 16]]
        elif name.endswith("_ptr"):
            half = name.split("_")[0] in ("h", "dh", "dv", "mean", "output", "partial")
            signature[name] = dtype if half else "*fp32"
            aligned[place,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if "eps" in name else "i32"
    used = {k: v for k, v in (options | constants).items() if k in kernel.arg_names}
    source = ASTSource(kernel, signature, used, aligned)
    target = GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options=dict(num_warps=warps))
    assert built.asm["cubin"]
    if capability >= 80 and n_sources > 1 and d == 4096:
        assert "cp.async.c" in built.asm["ptx"], "the loop's loads are not pipelined"

for capability, dtype in ((90, "*bf16"), (75, "*fp16")):
    ahead(kernels.forward_kernel, capability, dtype, 4096, 9, ["gain_ptr"])
    ahead(kernels.backward_kernel, capability, dtype, 4096, 9, ["gain_ptr"])
    ahead(kernels.backward_kernel, capability, dtype, 100, 3)
    ahead(phase_one_kernel, capability, dtype, 4096, 9, BLOCK_S=4)
    ahead(phase_two_kernel, capability, dtype, 7168, 1)
    ahead(phase_two_kernel, capability, dtype, 48, 3, ["output_ptr", "gain_ptr"])

# Triton compiles an integer argument of one as a constant.
ahead(kernels.forward_kernel, 90, "*bf16", 64, 1, ["gain_ptr"], n=1)
ahead(kernels.backward_kernel, 90, "*bf16", 64, 1, ["gain_ptr"], n=1, T=1)
ahead(phase_one_kernel, 90, "*bf16", 64, 1, BLOCK_S=1, n=1, T=1, S=1)
"""


def test_kernels_compile_for_an_h100_and_for_a_t4(tmp_path):
    paths = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=os.environ | paths, capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
