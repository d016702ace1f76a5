"""Checks of notebook 06, scaling and shape."""

import math
import random

from attnres_ref.study.scaling import PowerLaw, multiplier
from exercises import exercise


@exercise("06.1")
def worth(compute_multiplier):
    ours, baseline = (1.870, 0.058), (1.891, 0.057)
    expected = multiplier(PowerLaw(*ours), PowerLaw(*baseline), 5.6)
    found = compute_multiplier(ours, baseline, 5.6)
    loss_ratio = PowerLaw(*baseline)(5.6) / PowerLaw(*ours)(5.6)
    assert not math.isclose(found, loss_ratio, rel_tol=1e-3), (
        "that is the ratio of the losses: ask at which compute the *baseline* has our loss"
    )
    assert not math.isclose(found, 1 / expected, rel_tol=0.02), (
        "below one: the baseline needs more compute than we do, not less"
    )
    assert not math.isclose(found, 5.6 * expected, rel_tol=0.02), (
        "that is the baseline's compute: divide it by ours"
    )
    assert math.isclose(found, expected, rel_tol=1e-6), (
        f"{found:.4f}, not {expected:.4f}: our loss comes from our law, but the inverse "
        "uses the baseline's A and its exponent"
    )


@exercise("06.2")
def budget(steps_for):
    for d, L in ((24, 6), (64, 16), (80, 10)):
        layers, found = 6 * d * d * L, steps_for(d, L)
        expected = 4 * layers // 1024
        wrong = {
            "one of the two, embedding or output head, is still counted": 256 * d,
            "the embedding and the output head are still counted": 512 * d,
            "12 d^2 is a pair, attention and MLP: n_layers counts both": layers,
        }
        for message, too_many in wrong.items():
            assert abs(found - 4 * (layers + too_many) / 1024) > 2, message
        assert found == expected, (
            f"d = {d}, L = {L}: {found} steps, not {expected}. How many parameters "
            "have the layers alone, and how many tokens does a step read?"
        )
    assert steps_for(24, 6, tokens_per_parameter=20) == 20 * 6 * 24**2 * 6 // 1024, (
        "tokens_per_parameter has to count"
    )


@exercise("06.3")
def pairs_kept(resample_pairs):
    sizes = {size: [100 * size + seed for seed in range(5)] for size in (1.0, 2.0, 3.0)}
    ours = {size: [loss - 0.5 for loss in losses] for size, losses in sizes.items()}
    found = [resample_pairs(ours, sizes, random.Random(seed)) for seed in range(40)]
    for a, b in found:
        assert set(a) == set(b) == set(sizes), "a size is missing from the resample"
        for size in sizes:
            assert len(a[size]) == len(b[size]) == 5, (
                "a resample has as many seeds as the original: draw 5 of 5"
            )
            assert set(b[size]) <= set(sizes[size]), (
                "losses of one size belong to that size"
            )
            gaps = [y - x for x, y in zip(a[size], b[size])]
            assert all(gap == 0.5 for gap in gaps), (
                "pairs are torn apart: draw the *numbers* of the seeds, and take those of "
                "both residuals"
            )
    repeats = any(len(set(b[1.0])) < 5 for _, b in found)
    assert repeats, "nothing is ever drawn twice: draw with replacement"
    drawn = [[[loss - 100 * size for loss in b[size]] for size in sizes] for _, b in found]
    assert any(first != second for first, second, _ in drawn), (
        "all sizes draw the same seeds: seed 0 of one size has nothing to do with seed 0 "
        "of another, let each size draw anew"
    )
    assert any(b != found[0][1] for _, b in found[1:]), "every draw is the same: use `draw`"


SIZES = (1.0, 5.0, 16.0, 44.0, 107.0)             # of the recorded sweep, rounded


def squares(pairs):
    x = [*map(math.log, SIZES)]
    middle = sum(n * a for n, a in zip(pairs, x)) / sum(pairs)
    return sum(n * (a - middle) ** 2 for n, a in zip(pairs, x))


# Found by adding one pair at a time, as in the solution: budget, and the numbers of pairs.
PLANS = ((346, [2, 2, 2, 2, 2]), (692, [108, 2, 17, 2, 2]), (1384, [240, 2, 52, 2, 2]))


@exercise("06.4")
def sweep_planned(plan):
    for budget, known in PLANS:
        found = [*plan(SIZES, budget)]
        assert len(found) == 5 and all(n == int(n) for n in found), (
            "return a whole number of pairs for each of the five sizes"
        )
        assert min(found) >= 2, "fewer than two pairs at one size: a bend would go unseen"
        cost = sum(n * size for n, size in zip(found, SIZES))
        assert cost <= budget, (
            f"the plan costs {cost:g} and the budget is {budget}: n pairs of a size C "
            "cost n C, the first two of every size included"
        )
        more = [n > 2 for n in found]
        share = squares(found) / squares(known)
        reached = f"Q reaches {100 * share:.0f} % of what a budget of {budget} allows: "
        if share > 0.95:
            continue
        assert any(more), reached + "money is left"
        assert len({*found}) > 1, reached + (
            "as many pairs everywhere spend most of it where a pair is dearest"
        )
        assert sum(more) > 1, reached + (
            "all additional pairs are at one size. A slope needs two ends, and the middle "
            "is the mean over all pairs, so that it moves with each of them"
        )
        assert not more[-1], reached + (
            "the largest size has the longest lever but also the dearest pairs. Weigh what "
            "a pair adds to Q against its cost"
        )
        raise AssertionError(reached + "where would one more pair add most for its cost?")
