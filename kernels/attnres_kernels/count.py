"""What a kernel loads and stores, element by element, counted while it is interpreted.

    with counting(v=values, h=h) as moved:
        kernel[(T,)](values, h, ...)
    moved.loaded["v"], moved.stored["h"], moved.outside

This is what programs ask of the memory system. Of the bytes that a cache answers, DRAM
sees none, so a kernel that loads twice what a cache still holds may be at the floor; one
that loads everything once is, whatever the cache.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from attnres_kernels.interpret import MISSING, available, interpreting


@dataclass
class Moved:
    """Elements by name of the tensor; masked lanes move nothing, an atomic operation both
    loads and stores.

    outside: elements beyond every tensor, which were neither loaded nor stored.
    """

    loaded: Counter = field(default_factory=Counter)
    stored: Counter = field(default_factory=Counter)
    outside: int = 0


@contextmanager
def counting(**tensors: Tensor) -> Iterator[Moved]:
    """Count in the block what kernels do to these tensors: contiguous, on the CPU.

    All that the kernels touch has to be named: an address outside is masked, so that a
    wrong kernel does no harm. What a masked lane loads without `other` is undefined on a
    GPU, and NaN here, so that it shows. Raises ImportError without Triton, RuntimeError
    where kernels are compiled and not interpreted.
    """
    if not available():
        raise ImportError(MISSING)
    if not interpreting():
        raise RuntimeError(
            "loads are counted by Triton's interpreter, and here kernels are compiled: set "
            "TRITON_INTERPRET=1 before attnres_kernels is first imported"
        )
    from triton.runtime import interpreter  # not above: Triton may be missing

    moved, builder = Moved(), interpreter.interpreter_builder
    load, store = builder.create_masked_load, builder.create_masked_store
    atomic = builder.create_atomic_rmw

    def inside(pointers, mask, counts):
        """The mask without what lies outside; adds to `counts`."""
        known = mask.data & False
        for name, tensor in tensors.items():
            first, at = tensor.data_ptr(), pointers.data
            hit = mask.data & (at >= first) & (at < first + tensor.nbytes)
            counts[name] += int(hit.sum())
            known = known | hit
        moved.outside += int((mask.data & ~known).sum())
        return interpreter.TensorHandle(known, mask.dtype)

    def counted_load(pointers, mask, other, *hints):
        mask = inside(pointers, mask, moved.loaded)
        loaded = load(pointers, mask, other, *hints)
        if other is None and loaded.data.dtype.kind == "f":
            loaded.data[~mask.data] = float("nan")
        return loaded

    def counted_store(pointers, value, mask, *hints):
        return store(pointers, value, inside(pointers, mask, moved.stored), *hints)

    def counted_atomic(operation, pointers, value, mask, *hints):
        mask = inside(pointers, mask, moved.loaded)
        mask = inside(pointers, mask, moved.stored)
        return atomic(operation, pointers, value, mask, *hints)

    builder.create_masked_load, builder.create_masked_store = counted_load, counted_store
    builder.create_atomic_rmw = counted_atomic
    try:
        yield moved
    finally:
        builder.create_masked_load, builder.create_masked_store = load, store
        builder.create_atomic_rmw = atomic
