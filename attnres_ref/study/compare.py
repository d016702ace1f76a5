"""Recorded runs compared seed by seed: the difference, and how far to trust it."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import mean, stdev

# Two-sided 95 % quantile of Student's t with n - 1 degrees of freedom, n = 2, 3, ...
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its 95 % interval (Student's t)."""

    mean: float                    # of ours - baseline; negative: ours is better
    half_width: float              # the interval is mean -/+ half_width
    n: int                         # number of pairs

    def __str__(self) -> str:
        return f"{self.mean:+.4f} +/- {self.half_width:.4f} ({self.n} seeds)"

    @property
    def verdict(self) -> str:
        if abs(self.mean) <= self.half_width:
            return "cannot tell"
        return "better" if self.mean < 0 else "worse"


def paired_difference(ours: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Of losses that share a seed pairwise. Raises ValueError unless both have the
    same number n of values, 2 <= n <= 10, all finite."""
    if len(ours) != len(baseline) or not 2 <= len(ours) <= len(T_95) + 1:
        raise ValueError(
            f"ours has {len(ours)} values, baseline {len(baseline)}: "
            f"give both one value per seed, 2 to {len(T_95) + 1} seeds"
        )
    check_finite("ours", ours)
    check_finite("baseline", baseline)
    gaps = [a - b for a, b in zip(ours, baseline)]
    error = stdev(gaps) / math.sqrt(len(gaps))
    return Difference(mean(gaps), T_95[len(gaps) - 2] * error, len(gaps))


def check_finite(name: str, numbers: Iterable[float]) -> None:
    """Raise ValueError that names the argument: nan would pass through means and sorting,
    and an inf through an interval, without a word."""
    for number in numbers:
        if not math.isfinite(number):
            raise ValueError(f"{name} holds {number}: every number in it must be finite")


def select(records: Sequence[dict], **fields) -> list[dict]:
    """The records with these values of LMConfig or TrainConfig, in the order of the seeds.

    select(records, residual="full", lr=8e-3). Raises ValueError when there is none, or
    two of a seed: then they differ in a field that was not given.
    """
    runs = [r for r in records if fields.items() <= (r["model"] | r["train"]).items()]
    runs.sort(key=seed)
    seeds = [*map(seed, runs)]
    if not runs or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{len(runs)} records have {fields}, their seeds are {seeds}: change a "
            "field or add one, so that each seed is there once"
        )
    return runs


def loss_difference(ours: Sequence[dict], baseline: Sequence[dict]) -> Difference:
    """`paired_difference` of the final losses of two results of `select`. Raises
    ValueError unless both have the same seeds."""
    seeds = [[*map(seed, records)] for records in (ours, baseline)]
    if seeds[0] != seeds[1]:
        raise ValueError(
            f"ours has the seeds {seeds[0]}, baseline {seeds[1]}: only runs of one seed "
            "are pairs"
        )
    losses = [[r["val_loss"] for r in records] for records in (ours, baseline)]
    return paired_difference(*losses)


def grouped(records: Sequence[dict], key: Callable, value: Callable = lambda r: r) -> dict:
    """key(record) -> value(record) of each of its records, in the order of the seeds."""
    groups = defaultdict(list)
    for record in sorted(records, key=seed):
        groups[key(record)].append(value(record))
    return dict(groups)


def seed(record: dict) -> int:
    return record["train"]["seed"]


def residual(record: dict) -> str:
    return record["model"]["residual"]


def final_losses(records: Sequence[dict]) -> dict[str, list[float]]:
    """Validation losses by residual, each list in the order of the seeds."""
    return grouped(records, residual, itemgetter("val_loss"))


def validation_curves(records: Sequence[dict]) -> dict[str, list]:
    """Curves [[step, loss], ...] by residual, one per seed: what plots.learning_curves
    draws."""
    return grouped(records, residual, itemgetter("val_curve"))
