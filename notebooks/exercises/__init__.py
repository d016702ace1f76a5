"""Checks for the exercises: `check("02.1", your_function)` prints one line.

The checks of notebook 02 are functions in nb02.py, each under `@exercise("02.1")`. A
check takes the reader's answer and asserts; its message names the likely bug.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

Status = Literal["passed", "unsolved", "failed"]

_checks: dict[str, Callable[[Any], None]] = {}


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
    """Print whether `answer` solves exercise `name`. A wrong answer does not raise."""
    status, message = outcome(name, answer)
    words = {"unsolved": "not solved yet", "failed": "not yet right"}
    verdict = words.get(status, status)
    print(f"{name} {verdict}" + (f": {message}" if message else ""))


def outcome(name: str, answer: Any) -> tuple[Status, str]:
    """Run the check of exercise `name` on `answer`: its status and what to look at.

    An answer is unsolved if it is None or Ellipsis, returns one of them, or raises
    NotImplementedError. Random numbers are seeded for the check and put back after it,
    so that the notebook goes on alike. Raises KeyError if there is no such exercise.
    """
    if name not in names():
        raise KeyError(f"there is no exercise {name!r}; there are {', '.join(_checks)}")
    if answer is None or answer is ...:
        return "unsolved", ""
    answer, returned = _watched(answer)
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            _checks[name](answer)
    except NotImplementedError:
        return "unsolved", ""
    except Exception as error:
        if any(value is ... for value in returned):
            return "unsolved", ""
        if any(value is None for value in returned):
            return "unsolved", "your function returned None"
        return "failed", _one_line(error)
    return "passed", ""


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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, AssertionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
