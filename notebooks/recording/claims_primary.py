"""The primary tests of plan.py, which were written down before they ran, and what else the
same runs show. Only the primary tests are adjusted for their number."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import judging
import plan
from attnres_ref.plots import STYLES
from attnres_ref.study import paper
from attnres_ref.study.compare import complete, grouped, loss_difference, residual
from attnres_ref.study.intervals import Difference, holm, paired_difference
from claims import loss
from judging import Claim, Gap, between, ends, gaps, judged, not_tested
from sweeps import MAIN


class Primary(NamedTuple):
    """A primary test and its result; no difference while fewer than two seeds are there."""

    test: plan.Test
    paper: float | None                # its difference, where it has one
    gap: Difference | None = None
    p: float | None = None             # adjusted by Holm within its question

    @property
    def name(self) -> str:
        return " - ".join(STYLES[arm][0] for arm in (self.test.ours, self.test.baseline))

    @property
    def verdict(self) -> str:
        """Of the adjusted p, which is never below the interval's own."""
        if self.gap is None:
            return judging.UNTESTED
        if self.p < plan.ALPHA:
            return judging.HOLDS if self.gap.mean < 0 else judging.FAILS
        return judging.SAME if self.gap.within(plan.MARGIN) else judging.OPEN

    def cells(self) -> tuple[str, ...]:
        """As a row under HEAD."""
        if self.gap is None:
            theirs = "none given" if self.paper is None else f"{self.paper:+.3f}"
            return f"{self.name}: {self.test.question}", *[""] * 6, theirs, self.verdict
        low, high = ends(self.gap)
        p = f"{self.p:.3f}" if self.p >= 0.001 else "< 0.001"
        return (
            f"{self.name}: {self.test.question}", f"{self.gap.n}", f"{self.gap.mean:+.4f}",
            f"{low:+.4f} to {high:+.4f}", f"{self.gap.sd:.4f}", p, f"{self.gap.seen():.4f}",
            judging.beside(self.paper, self.gap) or "none given", self.verdict,
        )


HEAD = ("primary test", "seeds", "difference", "95 % interval", "SD of a pair",
        "adjusted p", "seen with 80 % power", "the paper", "verdict")


def primary(tests: Sequence[plan.Test], runs: dict[str, list], theirs) -> list[Primary]:
    """Every test of a question on the runs of `claims.complete`. theirs(ours, baseline):
    the paper's difference, or None."""
    values = [theirs(test.ours, test.baseline) for test in tests]
    if len(next(iter(runs.values()))) < 2:
        return [*map(Primary, tests, values)]
    found = [loss_difference(runs[test.ours], runs[test.baseline]) for test in tests]
    return [*map(Primary, tests, values, found, holm([gap.p for gap in found]))]


def whodunnit() -> list[Primary]:
    return primary(plan.WHODUNNIT, of_whodunnit(), paper.delta)


def lasting() -> list[Primary]:
    """Once all seeds are there: whoever judged after each would look again and again."""
    runs = of_horizon(plan.runs("horizon"), plan.HORIZONS[-1])
    if len(runs["prenorm"]) < len(plan.HORIZON_SEEDS):
        runs = dict.fromkeys(runs, [])
    return primary(plan.LASTING, runs, paper.largest_delta)


def of_whodunnit() -> dict[str, list]:
    return complete(plan.runs("whodunnit"), [*plan.ARMS])


def of_horizon(records: Sequence[dict], steps: int) -> dict[str, list]:
    return complete(records, MAIN, steps=steps)


def progress() -> Iterator[str]:
    """How many runs of each question are there, and what goes on with them."""
    record = "python notebooks/recording/record.py"
    for question, sweep, n, commands in (
        ("Question 1", "whodunnit", len(plan.SEEDS) * len(plan.ARMS),
         (*(f"{record} {name}" for name in ("tuning", "finalists", "whodunnit")),)),
        ("Question 2", "horizon", len(plan.HORIZONS) * len(plan.HORIZON_SEEDS) * len(MAIN),
         (f"{record} horizon_rates", f"{record} horizon")),
    ):
        there = len(plan.runs(sweep))
        more = "" if there == n else (
            f"; {' then '.join(f'`{command}`' for command in commands)} goes on"
        )
        not_yet = "not tested yet: " if not there else ""
        yield f"{question}: {not_yet}{there} of {n} runs are there{more}."


# ---- Side remarks ------------------------------------------------------------------------

# ours, baseline: ours should be lower if depth attention, or a start cured, is what helps.
SIDE = (
    ("rezero", "prenorm"), ("loud", "prenorm"), ("static", "prenorm"), ("full", "block"),
    ("block", "rezero"), ("block", "loud"), ("block", "static"),
)


def side_remarks() -> Iterator[Claim]:
    yield from (gap.row() for gap in side_gaps())
    yield from content_dependence()
    yield from horizon_changes(plan.runs("horizon"))


def side_gaps() -> Iterator[Gap]:
    runs = of_whodunnit()
    if len(runs["prenorm"]) >= 2:
        for ours, baseline in SIDE:
            yield Gap(
                f"{STYLES[ours][0]} is below {STYLES[baseline][0]}", ours,
                loss_difference(runs[ours], runs[baseline]), paper.delta(ours, baseline),
            )
    records = plan.runs("horizon")
    for steps in plan.HORIZONS[:-1]:
        runs = of_horizon(records, steps)
        for test in plan.LASTING if len(runs["prenorm"]) >= 2 else ():
            yield Gap(
                f"{STYLES[test.ours][0]} is below PreNorm, {steps} steps", test.ours,
                loss_difference(runs[test.ours], runs[test.baseline]),
                paper.largest_delta(test.ours, test.baseline),
            )
    records = plan.runs("longer")
    for steps in plan.LONGER:
        runs = complete(records, plan.LONGER_ARMS, steps=steps)
        for ours in plan.LONGER_ARMS[1:] if len(runs["prenorm"]) >= 2 else ():
            yield Gap(
                f"{STYLES[ours][0]} is below PreNorm, {steps} steps from recipes for 400",
                ours, loss_difference(runs[ours], runs["prenorm"]),
            )


def content_dependence() -> Iterator[Claim]:
    """Trained models whose weights are frozen at their means over tokens: an upper bound of
    what tokens' choices are worth, because nothing was trained to do without."""
    for ours, records in grouped(plan.runs("frozen"), residual).items():
        claim = f"{STYLES[ours][0]} loses when its weights are frozen at their means"
        losses = ([run[key] for run in records] for key in ("frozen_loss", "loss"))
        if len(records) >= 2:
            yield Gap(claim, ours, paired_difference(*losses), below=False).row()


def horizon_changes(records: Sequence[dict]) -> Iterator[Claim]:
    """Does the gain grow between the shortest and the longest horizon that are there?"""
    there = {
        steps: runs for steps in plan.HORIZONS
        if len((runs := of_horizon(records, steps))["prenorm"]) >= 2
    }
    for ours in MAIN[1:]:
        claim = f"{STYLES[ours][0]}'s gain grows with more steps"
        if len(there) < 2:
            yield not_tested(claim)
            continue
        early, late = (gap_by_seed(there[end(there)], ours) for end in (min, max))
        both = sorted(early.keys() & late.keys())
        change = [[of_seed[seed] for seed in both] for of_seed in (late, early)]
        row = judged(claim, f"{max(there)} less {min(there)} steps:", gaps(*change))
        found = judging.verdict_of_losses(paired_difference(*change), below=True)
        yield row._replace(verdict=found)


def gap_by_seed(runs: dict[str, list], ours: str) -> dict[int, float]:
    seeds = [run["train"]["seed"] for run in runs[ours]]
    return dict(zip(seeds, between(loss, runs[ours], runs["prenorm"])))
