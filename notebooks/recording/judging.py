"""The verdicts of the ledger, and what each of them asks for.

A verdict follows from a whole 95 % interval, never from a mean. It holds if all of the
interval lies on the claimed side of the limit (zero, or one for a ratio), and does not
hold at this scale if all of it lies on the other side. An interval with the limit inside
says "no difference" where it fits into +/- plan.MARGIN, else "cannot tell".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from attnres_ref.study.intervals import Difference, paired_difference
from plan import MARGIN

HOLDS, FAILS, OPEN = "holds", "does not at this scale", "cannot tell"
SAME = "no difference"                 # a finding; OPEN is none
UNTESTED = "not tested"                # nobody ran it
NONE = "no verdict"                    # it ran, but says nothing about the claim
# Beside the word, never instead of it: plain characters, so no font is needed.
MARKS = {HOLDS: "🟩", FAILS: "🟥", OPEN: "🟨", SAME: "🟦", NONE: "🟪", UNTESTED: "⬜"}


class Claim(NamedTuple):
    """A row of the ledger; a cell each."""

    claim: str                         # of the paper, with its section, table or figure
    paper: str                         # the paper's value, "" where it gives none
    ours: str
    spread: str
    verdict: str                       # a word of MARKS, and perhaps ": because ..."


def marked(verdict: str) -> str:
    """The verdict behind its mark. Raises KeyError for a word that is none of MARKS."""
    return f"{MARKS[verdict.partition(':')[0]]} {verdict}"


def judged(
    claim: str, what: str, values, below: bool = True, limit: float = 0.0, paper: str = ""
) -> Claim:
    """A claim that `values`, one per seed, lie below (or above) `limit`."""
    gap = paired_difference(values, [limit] * len(values))
    low, high = ends(gap)
    number = f"{limit + gap.mean:.3f}" if limit else f"{gap.mean:+.3f}"
    return Claim(claim, paper, f"{what} {number}".strip(), spread(gap),
                 verdict(low, high, below))


def not_tested(claim: str, paper: str = "", why: str = "") -> Claim:
    return Claim(claim, paper, why, "", UNTESTED)


def verdict(low: float, high: float, below: bool) -> str:
    """Of an interval that the claim puts below (or above) zero."""
    if low <= 0 <= high:
        return OPEN
    return HOLDS if (high < 0) == below else FAILS


def verdict_of_losses(gap: Difference, below: bool | None) -> str:
    """The same where nats have a margin. below None: the claim is that both are equal, so
    that all of the interval must lie inside the margin, or all of it outside."""
    low, high = ends(gap)
    if below is None:
        outside = low > MARGIN or high < -MARGIN
        return HOLDS if gap.within(MARGIN) else FAILS if outside else OPEN
    found = verdict(low, high, below)
    return SAME if found == OPEN and gap.within(MARGIN) else found


def ends(gap: Difference) -> tuple[float, float]:
    return gap.mean - gap.half_width, gap.mean + gap.half_width


def spread(gap: Difference) -> str:
    return f"+/- {gap.half_width:.3f} ({gap.n} seeds)"


def beside(paper: float | None, gap: Difference) -> str:
    """The paper's value, and whether it lies in our interval; "" where it has none."""
    if paper is None:
        return ""
    return f"{paper:+.3f}, {'inside' if gap.contains(paper) else 'outside'}"


@dataclass(frozen=True)
class Gap:
    """A claim about a difference of losses: a row of the ledger, and of the figure."""

    claim: str
    style: str                         # in plots.STYLES
    gap: Difference
    paper: float | None = None
    below: bool | None = True          # as the claim has it; None: equal
    why: str = ""                      # no verdict is due, because ...

    def row(self) -> Claim:
        found = verdict_of_losses(self.gap, self.below)
        return Claim(self.claim, beside(self.paper, self.gap), f"{self.gap.mean:+.3f}",
                     spread(self.gap), f"{NONE}: {self.why}" if self.why else found)


def gaps(ours: Iterable[float], baseline: Iterable[float]) -> list[float]:
    return [a - b for a, b in zip(ours, baseline, strict=True)]


def between(number: Callable[[dict], float], ours, baseline) -> list[float]:
    """`number` of each run less that of the baseline's run with the same seed. Raises
    ValueError where the seeds differ."""
    seeds = [[run["train"]["seed"] for run in runs] for runs in (ours, baseline)]
    if seeds[0] != seeds[1]:
        raise ValueError(f"runs of the seeds {seeds[0]} and {seeds[1]} are no pairs")
    return gaps(map(number, ours), map(number, baseline))
