"""The hybrid's rows of the ledger: what swapped labels, untrained models and puzzles of
little power are called."""

import math

import pytest

import claims_hybrid
from judging import FAILS, HOLDS, NONE, OPEN
from sweeps import LR

LOSSES = {"prenorm": (2.0, 2.1, 2.2), "block": (1.9, 2.02, 2.08)}     # by seed
# Block less PreNorm: -0.10, -0.08, -0.12; as large in all recipes.


def run(residual, lr, seed, begun, trained):
    observed = [[step, dict(input_rms=rms)] for step, rms in ((0, begun), (400, trained))]
    return dict(
        name=f"{residual}-{seed}", model=dict(residual=residual),
        train=dict(lr=lr, seed=seed, steps=400),
        val_loss=LOSSES[residual][seed], observed=observed,
    )


def reads(late: float, seed: int) -> list[float]:
    """Of 10 reads: the last four are `late`, a little different for each seed."""
    return [1.0] * 6 + [late + 0.01 * seed] * 4


@pytest.fixture
def records(monkeypatch):
    """Sweep -> runs, made up. Trained, PreNorm's reads grow and Block's do not."""
    found = {
        sweep: [
            run(name, lr, seed, reads(2.0, seed), reads(late, seed * sign))
            for name, late, sign in (("prenorm", 3.0, 1), ("block", 1.0, -1))
            for lr in rates for seed in range(3)
        ]
        for sweep, rates in (("hybrid", (LR, 2 * LR)), ("hybrid_start", (LR,)))
    }
    monkeypatch.setattr(
        claims_hybrid, "recorded", lambda sweep: dict(python_sources=found[sweep])
    )
    return [record for runs in found.values() for record in runs]


def losses():
    return [*claims_hybrid.by_recipe("claim", "theirs", "loss", claims_hybrid.loss)]


def growth():
    return [*claims_hybrid.dynamics("claim", "theirs", "growth", claims_hybrid.growth)]


def test_three_recipes_share_one_spread_and_are_corrected_for_being_three(records):
    # All nine differences deviate from -0.10 by 0, 0.02, -0.02: SD 0.02 with 6 degrees
    # of freedom, for which Student's 95 % quantile is 2.447.
    rows = losses()
    assert [row.ours for row in rows] == ["hybrid, loss -0.100"] * 3
    assert all(f"+/- {2.447 * 0.02 / math.sqrt(3):.3f} (3 seeds)" in r.spread for r in rows)
    assert [row.verdict for row in rows] == [HOLDS] * 3
    # |t| = 8.66: p = 0.0001316 (tables), times three.
    assert all(row.spread.endswith("p = 0.000") for row in rows)


def test_one_of_three_that_is_alone_below_five_percent_is_corrected(records):
    """Without correction its p of 0.03 would be called."""
    for record in records:
        if record["model"]["residual"] == "block":
            record["val_loss"] += 0.1 if record["train"]["lr"] == LR else 0.067
    rows = losses()
    assert [row.verdict for row in rows] == [OPEN] * 3
    assert rows[1].ours == "hybrid, loss -0.033"


def test_swapped_labels_are_called_the_other_way(records):
    other = {"prenorm": "block", "block": "prenorm"}
    for record in records:
        record["model"]["residual"] = other[record["model"]["residual"]]
    assert [row.verdict for row in losses()] == [FAILS] * 3


def test_a_difference_that_training_made_has_a_verdict(records):
    assert [row.verdict for row in growth()] == [HOLDS] * 3


def test_an_untrained_model_that_passes_leaves_no_verdict(records):
    for record in records:
        record["observed"][0] = [0, record["observed"][-1][1]]
    assert all(row.verdict.startswith(NONE) for row in growth())


def test_what_training_turns_round_fails_although_an_untrained_model_passes(records):
    for record in records:
        (_, begun), (_, trained) = record["observed"]
        if record["model"]["residual"] == "block":
            begun["input_rms"], trained["input_rms"] = reads(1.0, 0), reads(4.0, 0)
    assert [row.verdict for row in growth()] == [FAILS] * 3


def test_puzzles_are_judged_where_some_seeds_learn_them():
    accuracies = {
        "prenorm": [[1.0, 0.5, 0.1], [1.0, 0.7, 0.1], [1.0, 0.3, 0.1]],
        "full": [[0.0, 0.6, 0.9], [0.0, 0.6, 0.9], [0.0, 0.6, 0.9]],
    }
    runs = [
        dict(
            model=dict(residual=name, n_layers=4), train=dict(seed=seed),
            observed=[[9, dict(accuracy=accuracy)]],
        )
        for name, seeds in accuracies.items() for seed, accuracy in enumerate(seeds)
    ]
    gained, levels, visible = claims_hybrid.two_steps(runs)
    # Differences 0.1, -0.1, 0.3: mean 0.1, SD 0.2; t(2) = 4.303 at 95 %, and 1.061 leaves
    # one in five above it.
    assert gained == pytest.approx([0.1])
    assert sorted(levels) == [0.3, 0.5, 0.6, 0.6, 0.6, 0.7]
    assert visible == pytest.approx((4.303 + 1.061) * 0.2 / math.sqrt(3), rel=1e-3)
