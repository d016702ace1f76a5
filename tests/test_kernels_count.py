"""What a kernel loads and stores, counted in the interpreter."""

import pytest
import torch

from attnres_kernels import count
from attnres_kernels.count import counting
from attnres_kernels.interpret import interpreting, tl, triton

if not interpreting():
    pytest.skip("counting needs Triton's interpreter", allow_module_level=True)


@triton.jit
def add_twice(x_ptr, y_ptr, n, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """y += 2 x, and x is loaded once for each of the two."""
    at = tl.program_id(0) * n + tl.arange(0, BLOCK)
    mask = tl.arange(0, BLOCK) < (n if MASKED else BLOCK)
    for _ in range(2):
        y = tl.load(y_ptr + at, mask=mask, other=0.0) + tl.load(x_ptr + at, mask=mask)
        tl.store(y_ptr + at, y, mask=mask)


def test_elements_of_all_programs_are_counted_and_masked_lanes_are_not():
    x, y = torch.arange(10.0), torch.zeros(10)
    with counting(x=x, y=y) as moved:
        add_twice[(2,)](x, y, 5, BLOCK=8, MASKED=True)
    assert torch.equal(y, 2 * x)
    assert moved.loaded == dict(x=20, y=20) and moved.stored == dict(x=0, y=20)
    assert moved.outside == 0
    with counting(x=x, y=y) as again:
        pass
    add_twice[(2,)](x, y, 5, BLOCK=8, MASKED=True)                 # is not counted
    assert again.loaded.total() == again.stored.total() == 0


def test_what_lies_outside_is_counted_and_not_touched():
    memory = torch.ones(64)
    x, y = memory[:5], memory[32:37]
    with counting(x=x, y=y) as moved:
        add_twice[(1,)](x, y, 5, BLOCK=8, MASKED=False)
    assert moved.loaded == dict(x=10, y=10) and moved.outside == 2 * 3 * 3
    assert torch.equal(y, torch.full((5,), 3.0)) and memory[37:].eq(1).all()


def test_an_atomic_addition_loads_and_stores_inside_the_tensors_only():
    @triton.jit
    def add(y_ptr, n, BLOCK: tl.constexpr):
        lanes = tl.arange(0, BLOCK)
        tl.atomic_add(y_ptr + lanes, tl.full([BLOCK], 2.0, tl.float32), mask=lanes < n)

    memory = torch.ones(16)
    with counting(y=memory[:5]) as moved:
        add[(2,)](memory[:5], 7, BLOCK=8)
    assert moved.loaded == moved.stored == dict(y=10) and moved.outside == 2 * 2
    assert memory[:5].eq(5).all() and memory[5:].eq(1).all()


def test_a_masked_load_without_other_is_nan():
    @triton.jit
    def total(x_ptr, sum_ptr, n, BLOCK: tl.constexpr):
        lanes = tl.arange(0, BLOCK)
        tl.store(sum_ptr, tl.sum(tl.load(x_ptr + lanes, mask=lanes < n), 0))

    for n, is_nan in ((8, False), (5, True)):
        x, found = torch.ones(n), torch.zeros(1)
        with counting(x=x, found=found):
            total[(1,)](x, found, n, BLOCK=8)
        assert found.isnan().item() is is_nan


def test_without_the_interpreter_it_says_so(monkeypatch):
    monkeypatch.setattr(count, "interpreting", lambda: False)
    with pytest.raises(RuntimeError, match="loads are counted by Triton's interpreter"):
        counting().__enter__()
    monkeypatch.setattr(count, "available", lambda: False)
    with pytest.raises(ImportError, match="Triton is not installed here"):
        counting().__enter__()
