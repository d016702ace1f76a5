"""Scaling laws from recorded runs: a power law, how far to trust it, what a gain is worth.

A sweep is a mapping: residual -> size -> losses, one per seed. "Size" is whatever the
sweep varies, here the compute C in PFLOP/s-days or the shape d / L_b.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression, mean, quantiles

PFLOP_S_DAY = 1e15 * 24 * 60 * 60      # in FLOPs

Losses = Mapping[float, Sequence[float]]         # size -> a loss per seed


@dataclass(frozen=True)
class PowerLaw:
    """L(C) = A C^-a."""

    scale: float                   # A, the loss at C = 1
    exponent: float                # a

    def __call__(self, compute: float) -> float:
        return self.scale * compute**-self.exponent

    def compute(self, loss: float) -> float:
        """C at which the law reaches `loss`."""
        return (self.scale / loss) ** (1 / self.exponent)


def fit(losses: Losses) -> PowerLaw:
    """Least squares in log space: log L = log A - a log C over all seeds.

    Raises ValueError for fewer than two sizes, or anything not above zero.
    """
    points = [(size, loss) for size, seeds in losses.items() for loss in seeds]
    if len({size for size, _ in points}) < 2:
        raise ValueError(f"losses has {len(losses)} sizes: a line needs two or more")
    if any(size <= 0 or not loss > 0 for size, loss in points):
        raise ValueError("losses holds a size or loss not above 0: it has no logarithm")
    logs = [(math.log(size), math.log(loss)) for size, loss in points]
    slope, intercept = linear_regression(*zip(*logs))
    return PowerLaw(math.exp(intercept), -slope)


def local_exponents(losses: Losses) -> list[float]:
    """The exponent between every two neighbouring sizes: all alike if a power law holds."""
    means = {size: [mean(seeds)] for size, seeds in sorted(losses.items())}
    return [fit(dict(ends)).exponent for ends in pairwise(means.items())]


def multiplier(ours: PowerLaw, baseline: PowerLaw, compute: float) -> float:
    """How many times `compute` the baseline needs to reach our loss at `compute`."""
    return baseline.compute(ours(compute)) / compute


def bootstrap(
    sweep: Mapping[str, Losses], statistic: Callable, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of `statistic(sweep)`, a number, over resampled seeds.

    Every size draws its seeds anew, with replacement, and all residuals draw the same
    ones: runs of one seed stay paired. Deviations from the mean of n seeds are first
    widened by sqrt(n / (n - 1)), or the spread of the resampled means would be too
    small, by a factor of 1.4 for two seeds. The interval knows of seeds only, not of
    the form of the law, and few seeds make it short: with two at five sizes it held
    the exponent of made-up runs 86 times in 100. Raises ValueError unless all residuals
    have the same sizes, with two or more seeds each.
    """
    counts = {name: {size: len(seeds) for size, seeds in losses.items()}
              for name, losses in sweep.items()}
    first = next(iter(counts.values()))
    if any(count != first for count in counts.values()) or min(first.values()) < 2:
        raise ValueError(
            f"seeds by size are {counts}: give every residual the same, two or more"
        )
    wide = {name: {size: widened(seeds) for size, seeds in losses.items()}
            for name, losses in sweep.items()}
    draw = random.Random(seed)
    found = [statistic(resample(wide, draw)) for _ in range(resamples)]
    cuts = quantiles(found, n=40)                  # 2.5 %, 5 %, ..., 97.5 %
    return cuts[0], cuts[-1]


def resample(sweep: Mapping[str, Losses], draw: random.Random) -> dict[str, dict]:
    """One resample: for every size a draw of seeds, the same for all residuals."""
    first = next(iter(sweep.values()))
    drawn = {
        size: draw.choices(range(len(seeds)), k=len(seeds)) for size, seeds in first.items()
    }
    return {
        name: {size: [losses[size][i] for i in drawn[size]] for size in drawn}
        for name, losses in sweep.items()
    }


def widened(seeds: Sequence[float]) -> list[float]:
    centre, n = mean(seeds), len(seeds)
    return [centre + (loss - centre) * math.sqrt(n / (n - 1)) for loss in seeds]


def best_sizes(losses: Losses, resamples: int = 1000, seed: int = 0) -> dict[float, float]:
    """Sizes of lowest mean loss and how often each wins when seeds are resampled."""
    wide = {size: widened(seeds) for size, seeds in losses.items()}
    draw = random.Random(seed)
    wins = Counter(lowest(resample({"": wide}, draw)[""]) for _ in range(resamples))
    return {size: count / resamples for size, count in wins.most_common()}


def lowest(losses: Losses) -> float:
    """The size of lowest mean loss."""
    return min(losses, key=lambda size: mean(losses[size]))


# ---- Recorded runs -----------------------------------------------------------------------


def parameters(record: dict) -> int:
    """N: the layers' parameters, about 6 d^2 each; embedding, head, norms not counted."""
    return 6 * record["model"]["d_model"] ** 2 * record["model"]["n_layers"]


def tokens(record: dict) -> int:
    """D: tokens seen in training."""
    train = record["train"]
    return train["steps"] * train["batch_size"] * record["model"]["context"]


def compute(record: dict) -> float:
    """C = 6 N D in PFLOP/s-days."""
    return 6 * parameters(record) * tokens(record) / PFLOP_S_DAY


def shape(record: dict) -> float:
    """d / L_b, width over pairs of layers: small is deep and narrow (Fig. 7)."""
    return record["model"]["d_model"] / (record["model"]["n_layers"] / 2)


def sweep(records: Sequence[dict], size: Callable[[dict], float]) -> dict[str, dict]:
    """Recorded runs as residual -> size -> losses, in the order of the seeds."""
    losses = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda r: (size(r), r["train"]["seed"])):
        losses[record["model"]["residual"]][size(record)].append(record["val_loss"])
    return {residual: dict(sizes) for residual, sizes in losses.items()}
