"""Paired comparisons: the interval is Student's, and its verdict is not generous."""

import math
import random

import pytest
import torch

from attnres_ref.study.intervals import (
    Difference,
    holm,
    mean_of,
    paired_difference,
    pooled,
    t_quantile,
    t_within,
)


def test_interval_of_a_worked_example():
    # Differences -0.01, -0.02, -0.03: mean -0.02, standard error 0.01 / sqrt(3).
    found = paired_difference([1.00, 1.00, 1.00], [1.01, 1.02, 1.03])
    assert found.mean == pytest.approx(-0.02) and found.n == 3
    assert found.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert found.verdict == "cannot tell"
    assert str(found) == "-0.0200 +/- 0.0248 (3 seeds)"


def test_a_mean_has_the_interval_of_its_values():
    assert mean_of([1.0, 2.0, 3.0]) == Difference(2.0, 1.0, 3, 2)


@pytest.mark.parametrize("sign, verdict", [(-1, "better"), (1, "worse")])
def test_a_clear_difference_is_called(sign, verdict):
    baseline = [1.7, 1.9, 1.8]
    ours = [loss + sign * gap for loss, gap in zip(baseline, (0.050, 0.051, 0.052))]
    assert paired_difference(ours, baseline).verdict == verdict


def test_pairing_removes_the_spread_that_seeds_share():
    baseline = [1.0, 2.0, 3.0]
    ours = [0.9, 1.9, 2.91]
    assert paired_difference(ours, baseline).verdict == "better"
    assert paired_difference(ours[::-1], baseline).verdict == "cannot tell"
    assert paired_difference(ours, ours).verdict == "cannot tell"


@pytest.mark.parametrize(
    "ours, baseline, message",
    [
        ([1.0], [1.0], "ours has 1 values, baseline 1"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "ours has 2 values, baseline 3"),
        ([], [], "ours has 0 values, .* two seeds or more"),
        ([1.0, math.nan], [1.0, 2.0], "ours holds nan"),
        ([1.0, 2.0], [1.0, -math.inf], "baseline holds -inf"),
    ],
)
def test_values_that_have_no_interval_are_named(ours, baseline, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(ours, baseline)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 26, 155])
def test_chances_and_quantiles_are_students(df):
    def mass(end):                 # t = sqrt(df) tan x, density cos(x)^(df - 1)
        x = torch.linspace(0, end, 100_001, dtype=torch.float64)
        return torch.trapezoid(x.cos() ** (df - 1), x).item()

    for t in (0.3, 1.0, 2.5, 4.0):
        chance = mass(math.atan(t / math.sqrt(df))) / mass(math.pi / 2)
        assert t_within(t, df) == pytest.approx(chance, abs=1e-8)
        assert t_quantile(t_within(t, df), df) == pytest.approx(t, rel=1e-6)


def test_the_interval_ends_where_p_is_five_per_cent():
    for mean, p in ((0.9, 0.07), (1.0, 0.05), (1.1, 0.04)):
        found = Difference(mean * t_quantile(0.95, 7), sd=8**0.5, n=8, df=7)
        assert (found.p < 0.05) == (p < 0.05) or p == 0.05 == pytest.approx(found.p)
    assert Difference(0.0, 0.0, 3, 2).p == 1 and Difference(0.1, 0.0, 3, 2).p == 0


def test_pooling_shares_one_spread_and_keeps_the_means():
    few = [Difference(-0.1, 3.0, 3, 2), Difference(0.2, 1.0, 3, 2)]
    one, other = pooled(few)
    assert one.sd == other.sd == pytest.approx(5**0.5) and one.df == other.df == 4
    assert (one.mean, one.n, other.mean) == (-0.1, 3, 0.2)
    assert pooled([few[1], Difference(0, 2.0, 9, 8)])[0].sd**2 == pytest.approx(3.4)


def test_holm_of_a_worked_example():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, which may not be smaller.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_no_difference_needs_a_narrow_interval():
    narrow, wide = Difference(0.001, 0.01, 25, 24), Difference(0.0, 0.1, 25, 24)
    assert narrow.verdict == wide.verdict == "cannot tell"
    assert narrow.within(0.01) and not wide.within(0.01)
    assert wide.contains(0.02) and not narrow.contains(0.02)


def test_what_a_design_sees_is_found_in_four_of_five_experiments():
    effect, n, draw = Difference(0.0, 1.0, 10, 9).seen(), 10, random.Random(0)
    found = 0
    for _ in range(2000):
        gaps = [draw.gauss(effect, 1.0) for _ in range(n)]
        found += paired_difference(gaps, [0.0] * n).verdict == "worse"
    assert found / 2000 == pytest.approx(0.8, abs=0.03)


def test_few_seeds_cover_the_truth_as_often_as_they_say():
    draw, held = random.Random(1), 0
    for _ in range(2000):
        gaps = [draw.gauss(0.3, 1.0) for _ in range(3)]
        held += paired_difference(gaps, [0.0] * 3).contains(0.3)
    assert held / 2000 == pytest.approx(0.95, abs=0.02)
