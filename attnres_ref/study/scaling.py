"""Scaling laws from recorded runs: a power law, how far to trust it, what a gain is worth.

A sweep is a mapping: residual -> size -> losses, one per seed. "Size" is whatever the
sweep varies, here the compute C in PFLOP/s-days or the shape d / L_b.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from statistics import linear_regression, mean, quantiles

from attnres_ref.study.compare import grouped, residual
from attnres_ref.study.intervals import check_finite

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

    Raises ValueError for fewer than two sizes, or anything not finite and above zero.
    """
    runs = points(losses)
    n_sizes = len({size for size, _ in runs})
    if n_sizes < 2:
        raise ValueError(f"losses has {n_sizes} sizes: a line needs two or more")
    check_finite("losses", chain.from_iterable(runs))
    if min(map(min, runs)) <= 0:
        raise ValueError("losses holds a size or loss not above 0: it has no logarithm")
    logs = [(math.log(size), math.log(loss)) for size, loss in runs]
    slope, intercept = linear_regression(*zip(*logs))
    return PowerLaw(math.exp(intercept), -slope)


def local_exponents(losses: Losses) -> list[float]:
    """The exponent between every two neighbouring sizes: all alike if a power law holds."""
    ends = pairwise(means(losses).items())
    return [fit({a: [low], b: [high]}).exponent for (a, low), (b, high) in ends]


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
    have the same sizes, with two or more seeds each, and all numbers are finite.
    """
    counts = {name: {size: len(seeds) for size, seeds in losses.items()}
              for name, losses in sweep.items()}
    first = next(iter(counts.values()), {})
    alike = all(count == first for count in counts.values())
    if not alike or min(first.values(), default=0) < 2:
        raise ValueError(
            f"seeds by size are {counts}: give every residual the same, two or more"
        )
    for losses in sweep.values():
        check_finite("sweep", chain.from_iterable(points(losses)))
    values = [statistic(again) for again in resampled(sweep, resamples, seed)]
    check_finite("statistic", values)
    cuts = quantiles(values, n=40)                 # 2.5 %, 5 %, ..., 97.5 %
    return cuts[0], cuts[-1]


def resampled(sweep: Mapping[str, Losses], n: int, seed: int) -> Iterator[dict[str, dict]]:
    """The sweep n times, widened, with a draw of seeds for every size, the same for all
    residuals."""
    wide = {name: {size: widened(seeds) for size, seeds in losses.items()}
            for name, losses in sweep.items()}
    first, draw = next(iter(wide.values())), random.Random(seed)
    for _ in range(n):
        drawn = {size: draw.choices(range(len(seeds)), k=len(seeds))
                 for size, seeds in first.items()}
        yield {name: {size: [losses[size][i] for i in drawn[size]] for size in drawn}
               for name, losses in wide.items()}


def widened(seeds: Sequence[float]) -> list[float]:
    centre, n = mean(seeds), len(seeds)
    return [centre + (loss - centre) * math.sqrt(n / (n - 1)) for loss in seeds]


def lowest(losses: Losses) -> float:
    """The size of lowest mean loss."""
    average = means(losses)
    return min(average, key=average.get)


def means(losses: Losses) -> dict[float, float]:
    """Size -> mean loss, from the smallest size. Raises ValueError for inf and nan."""
    check_finite("losses", chain.from_iterable(points(losses)))
    return {size: mean(seeds) for size, seeds in sorted(losses.items())}


def points(losses: Losses) -> list[tuple[float, float]]:
    """(size, loss) of every run."""
    return [(size, loss) for size, seeds in losses.items() for loss in seeds]


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
    return {
        name: dict(sorted(grouped(runs, size, itemgetter("val_loss")).items()))
        for name, runs in grouped(records, residual).items()
    }
