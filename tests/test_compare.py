"""Paired comparisons: the interval is Student's, and its verdict is not generous."""

import math

import pytest
import torch

from attnres_ref.study.compare import (
    T_95,
    final_losses,
    grouped,
    loss_difference,
    paired_difference,
    select,
    validation_curves,
)


def test_interval_of_a_worked_example():
    # Differences -0.01, -0.02, -0.03: mean -0.02, standard error 0.01 / sqrt(3).
    found = paired_difference([1.00, 1.00, 1.00], [1.01, 1.02, 1.03])
    assert found.mean == pytest.approx(-0.02) and found.n == 3
    assert found.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert found.verdict == "cannot tell"
    assert str(found) == "-0.0200 +/- 0.0248 (3 seeds)"


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
        ([1.0] * 11, [1.0] * 11, "baseline 11: .* 2 to 10 seeds"),
        ([1.0, math.nan], [1.0, 2.0], "ours holds nan"),
        ([1.0, 2.0], [1.0, -math.inf], "baseline holds -inf"),
    ],
)
def test_values_that_have_no_interval_are_named(ours, baseline, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(ours, baseline)


@pytest.mark.parametrize("freedom, quantile", [*enumerate(T_95, 1)])
def test_the_quantiles_are_students(freedom, quantile):
    def mass(end):                 # t = sqrt(freedom) tan x, density cos(x)^(freedom - 1)
        x = torch.linspace(0, end, 10_001, dtype=torch.float64)
        return torch.trapezoid(x.cos() ** (freedom - 1), x).item()

    inside = mass(math.atan(quantile / math.sqrt(freedom))) / mass(math.pi / 2)
    assert inside == pytest.approx(0.95, abs=5e-5)


def test_records_are_sorted_by_seed():
    records = [
        dict(
            model=dict(residual=name, n_layers=depth), train=dict(seed=seed),
            val_loss=10 * seed + depth, val_curve=[[1, seed]],
        )
        for seed in (2, 0, 1)
        for depth, name in ((4, "prenorm"), (8, "full"))
    ]
    assert final_losses(records) == {"prenorm": [4, 14, 24], "full": [8, 18, 28]}
    assert validation_curves(records)["full"] == [[[1, 0]], [[1, 1]], [[1, 2]]]
    by_depth = grouped(records, lambda record: record["model"]["n_layers"])
    assert by_depth == {4: [*records[2::2], records[0]], 8: [*records[3::2], records[1]]}


def record(seed, val_loss=0.0, residual="full", lr=1e-3):
    return dict(
        model={"residual": residual}, train={"seed": seed, "lr": lr}, val_loss=val_loss
    )


def test_select_goes_by_the_configuration_and_sorts_by_seed():
    runs = [record(seed, lr=lr) for lr in (2e-3, 1e-3) for seed in (2, 0, 1)]
    found = select([record(0, residual="block"), *runs], residual="full", lr=2e-3)
    recipes = [(r["train"]["seed"], r["train"]["lr"]) for r in found]
    assert recipes == [(seed, 2e-3) for seed in (0, 1, 2)]


@pytest.mark.parametrize("fields, seeds", [
    (dict(lr=3e-3), r"\[\]"),                     # no such rate
    (dict(rate=1e-3), r"\[\]"),                   # no such field
    (dict(residual="full"), r"\[0, 0\]"),         # two rates, not one
])
def test_a_selection_that_is_empty_or_ambiguous_is_named(fields, seeds):
    with pytest.raises(
        ValueError, match=f"their seeds are {seeds}: change a field or add one"
    ):
        select([record(0, lr=1e-3), record(0, lr=2e-3)], **fields)


def test_loss_difference_pairs_runs_of_one_seed():
    baseline = [record(seed, loss) for seed, loss in ((0, 1.0), (1, 2.0))]
    ours = [record(seed, loss) for seed, loss in ((0, 0.9), (1, 1.8))]
    assert loss_difference(ours, baseline) == paired_difference([0.9, 1.8], [1.0, 2.0])
    ours[1]["train"]["seed"] = 2
    with pytest.raises(ValueError, match=r"has the seeds \[0, 2\], baseline \[0, 1\]"):
        loss_difference(ours, baseline)
