"""Checks for the exercises: `check("02.1", your_function)` shows one box.

The checks of notebook 02 are functions in nb02.py, each under `@exercise("02.1")`. A
check takes the reader's answer and asserts; its message names the likely bug.
"""

import functools
import importlib
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython

from exercises.box import Outcome, show

SECONDS = 20                       # for an answer; a right one takes less than one

_checks: dict[str, Callable[[Any], None]] = {}
_solved: set[str] = set()          # in this kernel


def exercise(name: str) -> Callable:
    """Register the decorated function as the check of exercise `name`."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        known = _checks.get(name)
        if known and known.__qualname__ != function.__qualname__:
            raise ValueError(f"two checks for exercise {name}: name the later one anew")
        _checks[name] = function
        return function

    return register


def names() -> list[str]:
    """The names of all exercises, in order."""
    for path in sorted(Path(__file__).parent.glob("nb*.py")):
        importlib.import_module(f"{__name__}.{path.stem}")
    return sorted(_checks)


def check(name: str, answer: Any) -> None:
    """Show whether `answer` solves exercise `name`, and how many of its notebook are.
    A wrong answer does not raise; it takes the place of an earlier right one."""
    found = outcome(name, answer)
    (_solved.add if found.status == "passed" else _solved.discard)(name)
    show(name, found, _score(name))


def _score(name: str) -> str:
    notebook = name.partition(".")[0]
    known = [other for other in names() if other.partition(".")[0] == notebook]
    score = f"{len(_solved.intersection(known))} of {len(known)} solved"
    if _solved.issuperset(known):
        score += ". Well done, these are all the exercises of this notebook!"
    return score


def outcome(name: str, answer: Any) -> Outcome:
    """Run the check of exercise `name` on `answer`: its status, what to look at, and where.

    An answer is unsolved if it is None or Ellipsis, returns one of them, or raises
    NotImplementedError, as a check does that cannot run here. One that raises anything
    else, leaves Python or takes longer than `time_limit` allows has failed; Ctrl-C is
    passed on. Raises KeyError if there is no such exercise.
    """
    if name not in names():
        raise KeyError(f"there is no exercise {name!r}; there are {', '.join(_checks)}")
    if answer is None or answer is ...:
        return Outcome("unsolved")
    answer, returned = _watched(answer)
    try:
        with torch_as_new(), exit_raises(), time_limit(SECONDS):
            _checks[name](answer)
    except NotImplementedError as error:
        return Outcome("unsolved", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:                         # SystemExit, too
        if any(value is ... for value in returned):
            return Outcome("unsolved")
        if any(value is None for value in returned):
            return Outcome("unsolved", "your function returned None")
        return Outcome("failed", _one_line(error), _line(error, answer))
    return Outcome("passed")


@contextmanager
def torch_as_new() -> Iterator[None]:
    """In the block torch makes float32 tensors on the CPU and records gradients, and random
    numbers are seeded; after it all is as it was, so that the notebook goes on alike."""
    dtype = torch.get_default_dtype()
    with (
        torch.random.fork_rng(range(torch.cuda.device_count())), torch.device("cpu"),
        torch.inference_mode(False), torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def exit_raises() -> Iterator[None]:
    """In a notebook exit() returns, and the kernel ends later: not in the block."""
    shell = get_ipython()
    if shell:
        shell.ask_exit = sys.exit
    try:
        yield
    finally:
        if shell:
            del shell.ask_exit


class OutOfTime(BaseException):
    """No Exception, or an answer's own `except Exception` could keep it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds. The clock of a limit around it
    stands still meanwhile. Only the main thread on Linux and macOS has an alarm: elsewhere
    there is no limit, and the reader interrupts."""

    def ring(*_):
        raise OutOfTime(f"stopped after {seconds} s: is there a loop without an end?")

    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    # Again and again from then on: the answer's own `except` may swallow one.
    outer = signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)


def _watched(answer: Any) -> tuple[Any, list]:
    """A function that also notes what it returns; anything else as it is."""
    returned: list = []
    if not inspect.isfunction(answer):
        return answer, returned

    @functools.wraps(answer)
    def watched(*args, **kwargs):
        value = answer(*args, **kwargs)
        if value is None or value is ...:  # nothing else: a tensor may be large
            returned.append(value)
        return value

    return watched, returned


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError | OutOfTime) and text:
        return text
    if isinstance(error, SystemExit):
        return "your code leaves Python: let it return its answer"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(error: BaseException, answer: Any) -> traceback.FrameSummary | None:
    """The last line of the reader's code that ran: of a cell, or of the answer's file. If
    none led to the error, as when arguments do not fit, it is the line where the answer
    begins; but an assertion of the check's own says enough."""
    # Of an object, __module__ is where its class is from: not the reader's, mostly.
    of_an_object = not (inspect.isfunction(answer) or inspect.isclass(answer))
    theirs = {"__main__", None if of_an_object else answer.__module__}
    steps = traceback.walk_tb(error.__traceback__)
    steps = [step for step in steps if step[0].f_globals.get("__name__") in theirs]
    for line in traceback.StackSummary.extract(steps[-1:]):
        return line
    if isinstance(error, AssertionError) or not inspect.isfunction(answer):
        return None
    code = inspect.unwrap(answer).__code__
    return traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name)
