"""Rows of the ledger about the hybrid and about puzzles. See test_ledger_recomputed.py."""

import numpy as np

import recomputed as again
from recomputed import FAILS, HOLDS, OPEN, SIX, UNDUE, loss
from recomputed_insides import by_training, growth, moment, variation
from recomputed_rows import registering

ROWS = []
row = registering(ROWS)

RECIPES = {"plain start": ("hybrid", 8e-3), "twice the rate": ("hybrid", 16e-3),
           "scaled start": ("hybrid_start", 8e-3)}
RECIPE = f"; ({'|'.join(RECIPES)})"


def of_hybrids(number, recipe) -> tuple[again.Gap, float, str]:
    """Block's number less PreNorm's at this recipe. The three recipes share an SD, and the
    p-value, which the verdict is of, is Holm's for being one of three."""
    gaps = []
    for sweep, lr in RECIPES.values():
        arms = again.whole(sweep, ("block", "prenorm"), lr=lr)
        gaps.append(again.student(again.paired(number, arms["block"], arms["prenorm"])))
    df = sum(gap.df for gap in gaps)
    sd = np.sqrt(sum(gap.df * gap.sd**2 for gap in gaps) / df)
    gaps = [gap._replace(sd=sd, df=df) for gap in gaps]
    at = [*RECIPES].index(recipe)
    gap, p = gaps[at], again.holm([gap.p for gap in gaps])[at]
    return gap, p, OPEN if p >= again.ALPHA else HOLDS if gap.mean < 0 else FAILS


def by_recipe(gap: again.Gap, p: float, verdict: str) -> dict:
    return {"here": [gap.mean], "95 %": [gap.half, gap.n, p], "verdict": verdict}


@row("The hybrid", r"Kimi Linear is better with Block \(sec. 5\)" + RECIPE)
def better_hybrid(recipe):
    return by_recipe(*of_hybrids(loss, recipe)) | {"the paper": [14, 15]}


def trained_hybrids(number, recipe) -> dict:
    def begun(run):
        return number(moment(run, False))

    def ended(run):
        return number(moment(run, True))

    gap, p, trained = of_hybrids(ended, recipe)
    untrained = of_hybrids(begun, recipe)[-1]
    change = of_hybrids(lambda run: ended(run) - begun(run), recipe)[-1]
    return by_recipe(gap, p, by_training(trained, untrained, change))


@row("The hybrid", r"its hidden state stays bounded \(Fig. 5\)" + RECIPE)
def bounded_hybrid(recipe):
    return trained_hybrids(growth, recipe)


@row("The hybrid", r"its gradients are more even \(Fig. 5\)" + RECIPE)
def even_hybrid(recipe):
    return trained_hybrids(variation, recipe)


@row("The hybrid", "the largest gains are in multi-step reasoning: (.*)")
def two_steps(task):
    """Accuracy at two steps. Five seeds could not have seen any of these gains."""
    task, answered, gaps = task.replace(" ", "_"), [], []
    for depth in {run["model"]["n_layers"] for run in again.records("puzzles", task)}:
        arms = again.whole("puzzles", SIX[:3], corpus=task, n_layers=depth)
        answered += [right(run) for of in arms.values() for run in of.values()]
        gaps += [again.student(again.paired(right, arms[arm], arms["prenorm"]))
                 for arm in ("block", "full")]
    assert {gap.n for gap in gaps} == {5}
    seen = min(again.seen(gap) for gap in gaps)
    gains = [gap.mean for gap in gaps]
    return {
        "the paper": [1.1, 7.5],
        "here": [2, min(answered), max(answered), min(gains), max(gains)],
        "95 %": ["five seeds", seen],
        "verdict": UNDUE if max(map(abs, gains)) < seen else OPEN,
    }


def right(run: dict) -> float:
    return moment(run, True)["accuracy"][1]
