"""The verdict on a claim. It holds if the whole 95 % interval lies on the claimed side of
the limit (zero, or one for a ratio); it does not hold at this scale if the whole interval
lies on the other side; otherwise the seeds cannot tell."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from attnres_ref.study.compare import paired_difference

HOLDS, FAILS, OPEN = "holds", "does not at this scale", "cannot tell"
UNTESTED = "not tested"                # the runs that would be needed are not there


class Claim(NamedTuple):
    """A row of the ledger; a cell each."""

    claim: str                     # of the paper, with its section, table or figure
    ours: str
    spread: str
    verdict: str
    paper: str = ""                # its value, where it gives one


def judged(claim: str, what: str, values, below: bool = True, limit: float = 0.0) -> Claim:
    """A claim that `values`, one per seed, lie below (or above) `limit`."""
    difference = paired_difference(values, [limit] * len(values))
    middle, half = difference.mean, difference.half_width
    number = f"{limit + middle:.3f}" if limit else f"{middle:+.3f}"
    return Claim(
        claim, f"{what} {number}".strip(), f"+/- {half:.3f} ({difference.n} seeds)",
        verdict(middle - half, middle + half, below),
    )


def verdict(low: float, high: float, below: bool) -> str:
    """Of an interval that the claim puts below (or above) zero."""
    if low <= 0 <= high:
        return OPEN
    return HOLDS if (high < 0) == below else FAILS


def gaps(ours: Iterable[float], baseline: Iterable[float]) -> list[float]:
    return [a - b for a, b in zip(ours, baseline, strict=True)]


def between(number: Callable[[dict], float], ours, baseline) -> list[float]:
    """`number` of each run less that of the baseline's run with the same seed. Raises
    ValueError where the seeds differ."""
    seeds = [[run["train"]["seed"] for run in runs] for runs in (ours, baseline)]
    if seeds[0] != seeds[1]:
        raise ValueError(f"runs of the seeds {seeds[0]} and {seeds[1]} are no pairs")
    return gaps(map(number, ours), map(number, baseline))
