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
