"""Records are paired by seed, and a selection is never ambiguous."""

import pytest

from attnres_ref.study.compare import (
    final_losses,
    grouped,
    loss_difference,
    select,
)
from attnres_ref.study.intervals import paired_difference


def test_records_are_sorted_by_seed():
    records = [
        dict(
            model=dict(residual=name, n_layers=depth), train=dict(seed=seed),
            val_loss=10 * seed + depth,
        )
        for seed in (2, 0, 1)
        for depth, name in ((4, "prenorm"), (8, "full"))
    ]
    assert final_losses(records) == {"prenorm": [4, 14, 24], "full": [8, 18, 28]}
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
