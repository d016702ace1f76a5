"""Recorded runs compared seed by seed: the difference, and how far to trust it."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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
    same number n of values, 2 <= n <= 10."""
    if len(ours) != len(baseline) or not 2 <= len(ours) <= len(T_95) + 1:
        raise ValueError(
            f"ours has {len(ours)} values, baseline {len(baseline)}: "
            f"give both one value per seed, 2 to {len(T_95) + 1} seeds"
        )
    gaps = [a - b for a, b in zip(ours, baseline)]
    error = stdev(gaps) / math.sqrt(len(gaps))
    return Difference(mean(gaps), T_95[len(gaps) - 2] * error, len(gaps))


def select(records: Sequence[dict], **fields) -> list[dict]:
    """The records with these values of LMConfig or TrainConfig, in the order of the seeds.

    select(records, residual="full", lr=8e-3). Raises ValueError when there is none, or
    two of a seed: then they differ in a field that was not given.
    """
    found = [r for r in records if fields.items() <= (r["model"] | r["train"]).items()]
    found.sort(key=lambda record: record["train"]["seed"])
    seeds = [record["train"]["seed"] for record in found]
    if not found or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{len(found)} records have {fields}, their seeds are {seeds}: change a "
            "field or add one, so that each seed is there once"
        )
    return found


def loss_difference(ours: Sequence[dict], baseline: Sequence[dict]) -> Difference:
    """`paired_difference` of the final losses of two results of `select`. Raises
    ValueError unless both have the same seeds."""
    seeds = [[r["train"]["seed"] for r in records] for records in (ours, baseline)]
    if seeds[0] != seeds[1]:
        raise ValueError(
            f"ours has the seeds {seeds[0]}, baseline {seeds[1]}: only runs of one seed "
            "are pairs"
        )
    losses = [[r["val_loss"] for r in records] for records in (ours, baseline)]
    return paired_difference(*losses)


def final_losses(records: Sequence[dict]) -> dict[str, list[float]]:
    """Validation losses by residual, each list in the order of the seeds."""
    losses = defaultdict(list)
    for record in sorted(records, key=lambda record: record["train"]["seed"]):
        losses[record["model"]["residual"]].append(record["val_loss"])
    return dict(losses)


def validation_curves(records: Sequence[dict]) -> dict[str, list]:
    """Curves [[step, loss], ...] by residual, one per seed: what plots.learning_curves
    draws."""
    curves = defaultdict(list)
    for record in sorted(records, key=lambda record: record["train"]["seed"]):
        curves[record["model"]["residual"]].append(record["val_curve"])
    return dict(curves)
