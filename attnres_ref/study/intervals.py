"""How far to trust a difference of paired runs: Student's interval, a p-value, and what
becomes of both when many tests are made."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, ours - baseline; for losses, below zero is better."""

    mean: float
    sd: float                      # standard deviation of one pair's difference
    n: int                         # number of pairs
    df: int                        # degrees of freedom of sd: n - 1, more if pooled

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.sd / math.sqrt(self.n)

    @property
    def half_width(self) -> float:
        """The 95 % interval is mean -/+ half_width."""
        return t_quantile(0.95, self.df) * self.error

    @property
    def p(self) -> float:
        """Chance of a mean so far from zero, on either side, if nothing differed."""
        if self.error == 0:
            return float(self.mean == 0)
        return 1 - t_within(abs(self.mean) / self.error, self.df)

    def __str__(self) -> str:
        return f"{self.mean:+.4f} +/- {self.half_width:.4f} ({self.n} seeds)"

    @property
    def verdict(self) -> str:
        if abs(self.mean) <= self.half_width:
            return "cannot tell"
        return "better" if self.mean < 0 else "worse"

    def contains(self, value: float) -> bool:
        """Does the interval hold this value, the paper's for instance?"""
        return abs(value - self.mean) <= self.half_width

    def within(self, margin: float) -> bool:
        """Does the whole interval lie inside +/- margin? Only then is "no difference" a
        finding; an interval that holds zero may be wide."""
        return abs(self.mean) + self.half_width < margin

    def seen(self, power: float = 0.8) -> float:
        """The smallest true difference that so many pairs with this spread find in `power`
        of all experiments, at 5 %."""
        one_sided = t_quantile(2 * power - 1, self.df)
        return (t_quantile(0.95, self.df) + one_sided) * self.error


def paired_difference(ours: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Of losses that share a seed pairwise. Raises ValueError unless both have the
    same number n >= 2 of values, all finite."""
    if len(ours) != len(baseline) or len(ours) < 2:
        raise ValueError(
            f"ours has {len(ours)} values, baseline {len(baseline)}: "
            "give both one value per seed, for two seeds or more"
        )
    check_finite("ours", ours)
    check_finite("baseline", baseline)
    gaps = [a - b for a, b in zip(ours, baseline)]
    return Difference(mean(gaps), stdev(gaps), len(gaps), len(gaps) - 1)


def mean_of(values: Sequence[float]) -> Difference:
    """Of one value per seed: `paired_difference` from zero, with what that raises."""
    return paired_difference(values, [0.0] * len(values))


def pooled(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with one standard deviation for all: its variance is the mean
    of theirs, weighted by degrees of freedom. For comparisons that may be taken to spread
    alike, because three seeds say little about their own spread; and that share no runs,
    or there are fewer degrees of freedom than their sum."""
    df = sum(difference.df for difference in differences)
    variance = sum(d.df * d.sd**2 for d in differences) / max(df, 1)
    return [replace(d, sd=math.sqrt(variance), df=df) for d in differences]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the same order: if those below 5 % are called, the
    chance that any of the calls is false is at most 5 %."""
    adjusted, least = [0.0] * len(p_values), 0.0
    by_size = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, i in enumerate(by_size):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def t_within(t: float, df: int) -> float:
    """Chance that Student's t with df >= 1 degrees of freedom lies between -t and t >= 0:
    finite sums (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    cos, odd = math.cos(angle), df % 2
    # Terms cos, 2/3 cos^3, 2/3 4/5 cos^5, ... for odd df; 1, 1/2 cos^2, 1/2 3/4 cos^4, ...
    term, total = (cos if odd else 1.0), 0.0
    for k in range(1 + odd, df, 2):
        total += term
        term *= k / (k + 1) * cos**2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def t_quantile(inside: float, df: int) -> float:
    """The t between 0 and 10,000 with the chance `inside` to lie between -t and t: 4.303
    for 0.95 and df = 2."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, df) < inside else (low, middle)
    return high


def check_finite(name: str, numbers: Iterable[float]) -> None:
    """Raise ValueError that names the argument: nan would pass through means and sorting,
    and an inf through an interval, without a word."""
    for number in numbers:
        if not math.isfinite(number):
            raise ValueError(f"{name} holds {number}: every number in it must be finite")
