"""Statistics and records for test_ledger_recomputed.py: numpy and JSON alone, so that they
share nothing with the code that wrote the ledger."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SIX = ("prenorm", "block", "full", "rezero", "static", "loud")       # whodunnit's arms
PYTHON = "python_sources"
HOLDS, FAILS, OPEN = "holds", "does not at this scale", "cannot tell"
SAME, UNDUE, UNTESTED = "no difference", "no verdict", "not tested"
MARGIN, ALPHA = 0.01, 0.05             # nats; of a question's primary tests together

# ---- Student's t, by summing its density -------------------------------------------------

ANGLES = np.linspace(0, math.pi / 2, 200_001)


@cache
def inside(df: int) -> np.ndarray:
    """The chance of |t| < sqrt(df) tan(angle), for every angle: the density of the angle
    is proportional to cos(angle)^(df - 1)."""
    density = np.cos(ANGLES) ** (df - 1)
    steps = (density[1:] + density[:-1]) / 2
    return np.concatenate([[0], np.cumsum(steps)]) / steps.sum()


def quantile(chance: float, df: int) -> float:
    """The t with this chance between -t and t."""
    return math.sqrt(df) * math.tan(np.interp(chance, inside(df), ANGLES))


class Gap(NamedTuple):
    """The mean of n numbers, one for each seed, and the SD of one with its degrees of
    freedom."""

    mean: float
    sd: float
    n: int
    df: int

    @property
    def error(self) -> float:
        return self.sd / math.sqrt(self.n)

    @property
    def half(self) -> float:
        return quantile(0.95, self.df) * self.error

    @property
    def ends(self) -> tuple[float, float]:
        return self.mean - self.half, self.mean + self.half

    @property
    def p(self) -> float:
        angle = math.atan(abs(self.mean) / self.error / math.sqrt(self.df))
        return 1 - float(np.interp(angle, ANGLES, inside(self.df)))


def student(values) -> Gap:
    return Gap(np.mean(values), np.std(values, ddof=1), len(values), len(values) - 1)


def seen(gap: Gap) -> float:
    """The true difference that four of five such experiments find, at 5 %."""
    return (quantile(0.95, gap.df) + quantile(0.6, gap.df)) * gap.error


def holm(p_values) -> np.ndarray:
    order = np.argsort(p_values)
    raised = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted


def verdict(gap: Gap, side: int, limit: float = 0.0, margin: float = 0.0) -> str:
    """side: -1 if the claim is "below the limit", 1 if "above", 0 if "equal"."""
    low, high = sorted((side or 1) * (end - limit) for end in gap.ends)
    small = max(abs(low), abs(high)) < margin
    if side == 0:
        return HOLDS if small else FAILS if low > margin or high < -margin else OPEN
    return HOLDS if low > 0 else FAILS if high < 0 else SAME if small else OPEN


# ---- Records -----------------------------------------------------------------------------


@cache
def records(sweep: str, corpus: str = PYTHON) -> list[dict]:
    """None where the sweep has not been recorded."""
    path = NOTEBOOKS / "recorded" / f"{sweep}.json"
    return json.loads(path.read_text("utf-8")).get(corpus, []) if path.exists() else []


def runs(sweep: str, residual: str, corpus=PYTHON, **fields) -> dict[int, dict]:
    """By seed, the runs of a residual with these fields of model or recipe."""
    found = {}
    for run in records(sweep, corpus):
        said = run["model"] | run["train"]
        if said["residual"] == residual and fields.items() <= said.items():
            assert said["seed"] not in found, f"two runs of {residual}, seed {said['seed']}"
            found[said["seed"]] = run
    return found


def loss(run: dict) -> float:
    return run["val_loss"]


def paired(number: Callable[[dict], float], ours: dict, baseline: dict) -> np.ndarray:
    """number of ours less the baseline's, seed by seed; both have the same seeds."""
    assert ours.keys() == baseline.keys() and ours, "no pairs"
    return np.array([number(ours[seed]) - number(baseline[seed]) for seed in sorted(ours)])


def whole(sweep: str, arms, **fields) -> dict[str, dict[int, dict]]:
    """arm -> seed -> run, of the seeds that all arms have."""
    found = {arm: runs(sweep, arm, **fields) for arm in arms}
    seeds = set.intersection(*map(set, found.values()))
    return {arm: {s: of[s] for s in sorted(seeds)} for arm, of in found.items()}


# ---- One SD for the arms of a study ------------------------------------------------------

VARIED = ("lr", "block_size", "window", "scaled_init", "warmup_steps", "query_lr_scale",
          "query_weight_decay")


class Study:
    """Arms of three seeds each. What is left of a loss once its arm's mean and its seed's
    are taken away (two-way layout) is the noise of one run; a pair has twice its variance.

    An arm is a residual and what it varies of the first run's fields.
    """

    def __init__(self, *sweeps: str, corpus: str = PYTHON):
        sweeps = sweeps or ("ablations", "start", "recipe", "rates", "gentler")
        found, first = {}, records(sweeps[0], corpus)[0]
        self.usual = {key: (first["model"] | first["train"]).get(key) for key in VARIED}
        for sweep in sweeps:
            for run in records(sweep, corpus):
                said = run["model"] | run["train"]
                arm = said["residual"], *map(said.get, VARIED)
                seeds = found.setdefault(arm, {})
                assert seeds.setdefault(said["seed"], loss(run)) == loss(run), arm
        self.losses = {
            arm: np.array([of[seed] for seed in sorted(of)]) for arm, of in found.items()
        }
        self.apart = self.blown_up()
        kept = np.array([x for arm, x in self.losses.items() if arm not in self.apart])
        rest = kept - kept.mean(1, keepdims=True) - kept.mean(0) + kept.mean()
        self.n_arms, self.df = len(kept), (kept.shape[0] - 1) * (kept.shape[1] - 1)
        self.sd = math.sqrt(2 * (rest**2).sum() / self.df)

    def blown_up(self) -> set:
        """Arms whose variance chance gives in less than one case of a thousand, beside the
        others': F of 2 and k degrees. Its numerator is exponential, so that the chance to
        exceed f is the mean of exp(-f X / k) over X, chi-squared of k: a closed form."""
        spread = {arm: losses.var(ddof=1) for arm, losses in self.losses.items()}
        apart = set()
        for arm in sorted(spread, key=spread.get)[::-1]:
            others = [spread[other] for other in spread.keys() - apart - {arm}]
            k, f = 2 * len(others), spread[arm] / np.mean(others)
            if (1 + 2 * f / k) ** (-k / 2) >= 1e-3:
                return apart
            apart.add(arm)

    def arm(self, residual: str, **fields) -> tuple:
        return residual, *(self.usual | fields).values()

    def gap(self, ours: tuple, baseline: tuple) -> Gap:
        own = student(self.losses[ours] - self.losses[baseline])
        apart = {ours, baseline} & self.apart
        return own if apart else own._replace(sd=self.sd, df=self.df)


study = cache(Study)
