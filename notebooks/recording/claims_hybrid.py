"""The rows of the ledger that notebook 11 speaks of: Kimi Linear, and reasoning in steps.

A question asked of three recipes has one spread, pooled, and p-values after Holm, because
it is asked three times. The records at twice the rate and from the scaled start name a
commit whose sweep does not list them yet: what ran is in their own `model` and `train`.
"""

from collections.abc import Callable, Iterator

from attnres_ref.notebook import recorded
from attnres_ref.study import compare, paper, puzzles
from attnres_ref.study.intervals import Difference, holm, mean_of, pooled
from claims import gradient_spread, growth, loss
from claims_dynamics import verdict_by_training
from judging import FAILS, HOLDS, NONE, OPEN, Claim, between
from sweeps import LR

RECIPES = (
    ("hybrid", LR, "plain start"),
    ("hybrid", 2 * LR, "twice the rate"),              # PreNorm's best of three here
    ("hybrid_start", LR, "scaled start"),
)
STEPS = 2                                # the one count of steps that some seeds learn


def hybrids() -> Iterator[Claim]:
    """PreNorm and Block (S = 6) under KDA, MLA and mixtures of experts, by recipe."""
    better = sum(block > prenorm for prenorm, block in paper.DOWNSTREAM.values())
    yield from by_recipe(
        "Kimi Linear is better with Block (sec. 5)",
        f"{better} of {len(paper.DOWNSTREAM)} scores", "difference of losses", loss,
    )
    yield from dynamics(
        "its hidden state stays bounded (Fig. 5)", "bounded", "growth less PreNorm's",
        growth,
    )
    yield from dynamics(
        "its gradients are more even (Fig. 5)", "more even",
        "coefficient of variation less PreNorm's", gradient_spread,
    )


def dynamics(claim: str, theirs: str, what: str, number: Callable) -> Iterator[Claim]:
    """by_recipe of the trained models, with the untrained ones as their control."""
    def begun(run):
        return number(run, trained=False)

    for row, control, change in zip(
        by_recipe(claim, theirs, what, number), by_recipe(claim, theirs, what, begun),
        by_recipe(claim, theirs, what, lambda run: number(run) - begun(run)),
    ):
        verdicts = row.verdict, control.verdict, change.verdict
        yield row._replace(verdict=verdict_by_training(*verdicts))


def by_recipe(claim: str, theirs: str, what: str, number: Callable) -> Iterator[Claim]:
    """A row for each recipe: Block's `number` lies below PreNorm's."""
    found = differences(number)
    for (_, _, recipe), difference, p in zip(RECIPES, found, holm([d.p for d in found])):
        side = HOLDS if difference.mean < 0 else FAILS
        yield Claim(
            f"{claim}; {recipe}", theirs, f"hybrid, {what} {difference.mean:+.3f}",
            f"+/- {difference.half_width:.3f} ({difference.n} seeds), p = {p:.3f}",
            side if p < 0.05 else OPEN,
        )


def differences(number: Callable) -> list[Difference]:
    """Block's `number` less PreNorm's for each recipe, with one spread for all."""
    found = []
    for sweep, lr, _ in RECIPES:
        runs = recorded(sweep)["python_sources"]
        block, prenorm = (
            compare.select(runs, residual=name, lr=lr) for name in ("block", "prenorm")
        )
        found.append(mean_of(between(number, block, prenorm)))
    return pooled(found)


def reasoning() -> Iterator[Claim]:
    """Notebook 11: puzzles of one step are at the ceiling, those of three and more close
    to a guess, and in between seeds differ too much for five of them to decide."""
    theirs = ", ".join(
        f"{ours - baseline:+.1f} on {name}"
        for name, (baseline, ours) in paper.DOWNSTREAM.items()
        if name in ("GPQA-Diamond", "MMLU")
    )
    for task, runs in recorded("puzzles").items():
        gained, levels, visible = two_steps(runs)
        yield Claim(
            f"the largest gains are in multi-step reasoning: {task.replace('_', ' ')}",
            theirs,
            f"{STEPS} steps: seeds answer {min(levels):.2f} to {max(levels):.2f}, mean "
            f"gains {min(gained):+.2f} to {max(gained):+.2f}",
            f"five seeds see gains from {visible:.2f} on",
            f"{NONE}: no power",
        )


def two_steps(runs: list[dict]) -> tuple[list[float], list[float], float]:
    """Mean gains over PreNorm at STEPS steps (Block's and Full's at each depth), the
    accuracy there of every run, and the smallest true gain that any of these comparisons
    would find in 80 % of all experiments."""
    by_depth = puzzles.final_accuracies(runs).values()
    gains = [
        steps[STEPS - 1] for found in by_depth for steps in puzzles.gains(found).values()
    ]
    levels = [
        accuracies[STEPS - 1]
        for found in by_depth for seeds in found.values() for accuracies in seeds
    ]
    return [gain.mean for gain in gains], levels, min(gain.seen() for gain in gains)


PARTS = (hybrids, reasoning)
