"""One standard deviation for all comparisons of a study, since three seeds say little
about their own spread."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import mean, variance

from attnres_ref.study.intervals import Difference, paired_difference, pooled

RARE = 0.001                           # so seldom does a well-behaved arm stand apart


class Pool:
    """The arms of a study, arm -> final losses in the order of the seeds, three for each.

    The SD of a difference comes from all pairs of arms. They share arms, so that it has
    no more degrees of freedom than the arms leave once each arm's mean and each seed's
    are taken away: (arms - 1) (seeds - 1). Arms that `stand_apart`, whose runs blew up as
    a rule, lend it nothing and take nothing from it.
    """

    def __init__(self, arms: Mapping[str, Sequence[float]]):
        self.arms, self.apart = arms, stand_apart(arms)
        alike = [losses for name, losses in arms.items() if name not in self.apart]
        pairs = [paired_difference(a, b) for a, b in combinations(alike, 2)]
        self.sd = pooled(pairs)[0].sd
        self.df = (len(alike) - 1) * (len(alike[0]) - 1)

    def difference(self, ours: str, baseline: str) -> Difference:
        """With the shared SD, or with its own where an arm stands apart."""
        own = paired_difference(self.arms[ours], self.arms[baseline])
        if {ours, baseline} & self.apart:
            return own
        return replace(own, sd=self.sd, df=self.df)


def stand_apart(arms: Mapping[str, Sequence[float]]) -> set[str]:
    """The arms whose variance is so far above that of the others together that chance
    gives it in RARE of all cases (F test), the largest first.

    Raises ValueError unless every arm has three seeds: their 2 degrees of freedom give
    the chance P(F > f) = (1 + 2 f / k)^(-k / 2) with k degrees for the others.
    """
    if counts := {name: len(losses) for name, losses in arms.items() if len(losses) != 3}:
        raise ValueError(f"seeds by arm are {counts}: give every arm three")
    apart = set()
    variances = {name: variance(losses) for name, losses in arms.items()}
    for name in sorted(variances, key=variances.get, reverse=True):
        others = [v for other, v in variances.items() if other not in apart | {name}]
        k, f = 2 * len(others), variances[name] / mean(others)
        if (1 + 2 * f / k) ** (-k / 2) > RARE:
            break
        apart.add(name)
    return apart
