"""What the benchmarks share: one loop that times, one ratio, one table."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
import torch.distributed as dist

from attnres_ref.training.progress import progress_bar

WARM_UP = 2                            # rounds that run and do not count


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now(device: torch.device) -> float:
    """Seconds on a clock, read when the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def interleaved(
    steps: Sequence[tuple[Hashable, Callable]], rounds: int, clock: Callable[[], float]
) -> dict[Hashable, list[float]]:
    """Seconds of every round by name, for steps (name, function).

    A round runs all steps in turn, so that drift of the machine hits all names alike. A
    name that comes several times has their sum; a step named None is not timed.
    """
    seconds = {name: [0.0] * rounds for name, _ in steps if name is not None}
    silent = dist.is_initialized() and dist.get_rank() > 0          # one bar, on rank 0
    for round_ in progress_bar(range(-WARM_UP, rounds), desc="rounds", disable=silent):
        for name, run in steps:
            began = clock()
            run()
            if name is not None and round_ >= 0:
                seconds[name][round_] += clock() - began
    return seconds


def paired_ratio(ours: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds of our time by the base's in the same round."""
    return statistics.median(a / b for a, b in zip(ours, base))


def compared(seconds: Mapping[str, list[float]], bases: Mapping[str, str]) -> dict:
    """Rows {time_ms, time_ratio} by name, medians over the rounds. bases: name -> what its
    ratio is against, if not itself."""
    return {
        name: dict(
            time_ms=1e3 * statistics.median(times),
            time_ratio=paired_ratio(times, seconds[bases.get(name, name)]),
        )
        for name, times in seconds.items()
    }


def table(rows: Mapping[str, dict], columns: Sequence[tuple[str, str]]) -> str:
    """A line of titles, and a line for each of `rows`, name -> values by key.

    columns: (title, format of the row's name and values), as ("ms", "{time_ms:8.1f}").
    The first column is flush left, the others are flush right.
    """
    lines = [
        [form.format(name=name, **row) for _, form in columns] for name, row in rows.items()
    ]
    first, *others = [max(map(len, column)) for column in zip(*lines)]
    corner, *titles = [title for title, _ in columns]
    head = [corner.ljust(first), *(t.rjust(n) for t, n in zip(titles, others))]
    return "\n".join(" ".join(line).rstrip() for line in (head, *lines))
