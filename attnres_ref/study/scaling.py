"""Scaling laws from recorded runs: what a run cost, a power law, what a gain is worth.

A sweep is a mapping: residual -> size -> losses, one per seed. "Size" is whatever the
sweep varies, here the compute C in PFLOP/s-days or the shape d / L_b.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from operator import itemgetter
from statistics import linear_regression, mean

from attnres_ref.model import LMConfig
from attnres_ref.study.compare import grouped, residual
from attnres_ref.study.intervals import Difference, check_finite, paired_difference, pooled

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


def advantage(ours: Losses, baseline: Losses) -> tuple[Difference, Difference]:
    """Log of the multiplier at our largest size; our exponent less the baseline's.

    Every pair of runs has a multiplier of its own, (L_b / L_o)^(1/a) C_b / C_o: the compute
    that the baseline, by its law of exponent a, needs for our loss, over what we took. A
    straight line through the logarithms of all pairs gives the first result at its end, the
    second as a times its slope; their sd is that of one seed at every size. Pairs are taken
    to spread alike about the mean of their size, so that the sizes share one sd. The
    intervals know of seeds only, not of the form of the law, and take a as known: of
    made-up sweeps like ours they hold the truth in 94 of 100. Raises ValueError unless both
    have as many sizes and all of these as many seeds, two or more.
    """
    counts = [[len(seeds) for seeds in losses.values()] for losses in (ours, baseline)]
    if counts[0] != counts[1] or len({*counts[0]}) != 1:
        raise ValueError(
            f"ours has {counts[0]} seeds by size, baseline {counts[1]}: give all the same"
        )
    law = fit(baseline)

    def excess(losses):                # log of the compute that the law needs, over C
        return [[math.log(law.compute(loss) / size) for loss in seeds]
                for size, seeds in sorted(losses.items())]

    gains = pooled([*map(paired_difference, excess(ours), excess(baseline))])
    x = [math.log(size) for size in sorted(ours)]
    slope, start = linear_regression(x, [gain.mean for gain in gains])
    square = sum((place - mean(x)) ** 2 for place in x)
    of_end = math.sqrt(1 / len(x) + (x[-1] - mean(x)) ** 2 / square)
    of_exponent = law.exponent / math.sqrt(square)
    gain = gains[0]
    return (
        replace(gain, mean=start + slope * x[-1], sd=gain.sd * of_end),
        replace(gain, mean=law.exponent * slope, sd=gain.sd * of_exponent),
    )


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


def flops(record: dict) -> int:
    """Of a run's training: multiplications and additions of the matrix products in layers,
    head and sequence attention, and of the reads over depth, which score and mix n sources
    (2 n d each for a token). Backward takes twice as many as forward.

    The sequence attention counts as the whole T x T square, as by torch's FlopCounterMode;
    a causal kernel may skip half of it. Not counted: norms, softmax, rotations, sums,
    activations, the embedding's look-up, the loss, the optimiser, validation. Raises
    ValueError for streams and layers that are not those of attnres_ref.model.
    """
    config = LMConfig(**record["model"])
    d, T, reads = config.d_model, config.context, range(config.n_layers + 1)
    layers = dict(attention=8 * d * d + 4 * T * d, mlp=6 * d * config.d_hidden)
    sizes = dict(prenorm=None, full=1, block=config.block_size)
    if config.residual not in sizes or not layers.keys() >= {*config.layer_names}:
        raise ValueError(
            f"residual is {config.residual!r}, layers is {config.layers!r}: flops counts "
            f"{', '.join(sizes)} of {', '.join(layers)}"
        )
    forward = sum(layers[name] for name in config.layer_names) + 2 * d * config.vocab_size
    if size := sizes[config.residual]:         # the embedding, blocks and a partial sum
        forward += sum(4 * d * (1 + math.ceil(layer / size)) for layer in reads)
    return 3 * forward * tokens(record)


def compute(record: dict) -> float:
    """C, the run's `flops`, in PFLOP/s-days."""
    return flops(record) / PFLOP_S_DAY


def shape(record: dict) -> float:
    """d / L_b, width over pairs of layers: small is deep and narrow (Fig. 7)."""
    return record["model"]["d_model"] / (record["model"]["n_layers"] / 2)


def sweep(records: Sequence[dict], size: Callable[[dict], float]) -> dict[str, dict]:
    """Recorded runs as residual -> size -> losses, in the order of the seeds."""
    return {
        name: dict(sorted(grouped(runs, size, itemgetter("val_loss")).items()))
        for name, runs in grouped(records, residual).items()
    }
