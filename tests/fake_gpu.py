"""A Triton driver whose GPU compiles (for sm_90) and runs nothing: `launches` tells what
would have been launched. For a Python of its own, started with TRITON_INTERPRET=0."""

import contextlib
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget

from attnres_kernels import launch
from attnres_kernels.sass import registers_and_spills

launches = []                          # (kernel's name, grid, its tensors, device's tensor)
compiled = []                          # (name, registers, bytes spilled), each time
entered = []                           # what the current device was changed to


def load_binary(name, cubin, shared, device):
    with NamedTemporaryFile() as file:
        file.write(cubin)
        file.flush()
        registers, spills = registers_and_spills(Path(file.name))
    compiled.append((name, registers, spills))
    return "module", name, registers, spills, 1024


def launcher(source, metadata):
    def run(x, y, z, stream, function, packed, told, before, after, *arguments):
        flat = [a for x in arguments for a in (x if isinstance(x, tuple) else (x,))]
        tensors = [a for a in flat if isinstance(a, torch.Tensor)]
        launches.append((function, (x, y, z), tensors, entered[-1] if entered else None))

    return run


@contextlib.contextmanager
def device_of(tensor):
    entered.append(tensor)
    yield
    entered.pop()


def install():
    """Make Triton and attnres_kernels take CPU tensors for those of an H100."""
    utils = SimpleNamespace(
        load_binary=load_binary,
        get_device_properties=lambda device: dict(max_shared_mem=227 << 10),
    )
    triton.runtime.driver.set_active(SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_current_device=lambda: 0, get_current_stream=lambda device: 0,
        utils=utils, launcher_cls=launcher,
    ))
    facts = SimpleNamespace(
        name="H100", major=9, minor=0, multi_processor_count=132,
        shared_memory_per_multiprocessor=228 << 10, max_threads_per_multi_processor=2048,
    )
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_properties = lambda device: facts
    torch.cuda.device_of = device_of
    launch.check_device = lambda tensor: None
    launch.address = lambda tensor: tensor     # so that `launches` can look at it
