"""Fits recover laws that are known; intervals cover; recorded runs are read right."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnres_ref.streams import STREAMS
from attnres_ref.study import paper
from attnres_ref.study.scaling import (
    PowerLaw,
    bootstrap,
    compute,
    fit,
    local_exponents,
    lowest,
    multiplier,
    resampled,
    shape,
    sweep,
    tokens,
    widened,
)

SIZES = (1.0, 3.0, 10.0, 30.0, 100.0)


def made_up(law, noise=0.0, seed=0, n_seeds=2):
    draw = random.Random(seed)
    return {
        size: [law(size) * math.exp(draw.gauss(0, noise)) for _ in range(n_seeds)]
        for size in SIZES
    }


@given(
    scale=st.floats(0.1, 10), exponent=st.floats(-0.5, 0.5),
    sizes=st.lists(st.floats(1e-12, 1e3), min_size=2, max_size=6, unique=True),
)
def test_fit_recovers_a_law(scale, exponent, sizes):
    if max(sizes) / min(sizes) < 1.1:
        return
    law = PowerLaw(scale, exponent)
    found = fit({size: [law(size)] for size in sizes})
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found(sizes[0]) == pytest.approx(law(sizes[0]), rel=1e-9)


def test_fit_is_in_log_space():
    """A loss twice too high and one half too low cancel in the logarithm only."""
    assert fit({1.0: [2.0], 10.0: [1.0, 4.0, 0.25]}).scale == pytest.approx(2.0)


@pytest.mark.parametrize(
    "losses, message",
    [
        ({1.0: [2.0, 2.1]}, "has 1 sizes"),
        ({1.0: [2.0], 2.0: []}, "has 1 sizes"),
        ({1.0: [2.0], 0.0: [1.0]}, "not above 0"),
        ({1.0: [2.0], 2.0: [-1.0]}, "not above 0"),
        ({1.0: [2.0], 2.0: [1.0, math.nan]}, "losses holds nan"),
        ({1.0: [2.0], math.inf: [1.0]}, "losses holds inf"),
    ],
)
def test_fit_refuses(losses, message):
    with pytest.raises(ValueError, match=message):
        fit(losses)


def test_local_exponents_show_a_bend():
    assert local_exponents(made_up(PowerLaw(2.0, 0.06))) == pytest.approx([0.06] * 4)
    bent = {size: [loss + 1.5 for loss in losses]
            for size, losses in reversed(made_up(PowerLaw(2.0, 0.2)).items())}
    found = local_exponents(bent)
    assert found == sorted(found, reverse=True) and found[-1] < 0.8 * found[0]


def test_multiplier_is_the_papers():
    laws = {name: PowerLaw(*numbers) for name, numbers in paper.FITS.items()}
    found = multiplier(laws["block"], laws["prenorm"], paper.COMPUTE)
    assert found == pytest.approx(paper.MULTIPLIER, abs=0.005)
    assert multiplier(laws["full"], laws["full"], 3.0) == pytest.approx(1.0)


def test_the_interval_covers():
    """Of 60 made-up sweeps, not quite 95 %: two seeds know little of their own spread."""
    law, inside = PowerLaw(2.0, 0.06), 0
    for seed in range(60):
        runs = {"full": made_up(law, noise=0.01, seed=seed)}
        low, high = bootstrap(runs, lambda s: fit(s["full"]).exponent, 120, seed)
        inside += low <= law.exponent <= high
    assert 44 <= inside <= 59


def test_resampled_seeds_stay_paired():
    """Two residuals that differ by a factor in every run differ by it in every resample."""
    runs = made_up(PowerLaw(2.0, 0.06), noise=0.05)
    better = {size: [0.9 * loss for loss in losses] for size, losses in runs.items()}
    low, high = bootstrap(
        {"full": better, "prenorm": runs},
        lambda s: fit(s["full"]).scale / fit(s["prenorm"]).scale,
    )
    assert low == pytest.approx(0.9) and high == pytest.approx(0.9)
    low, high = bootstrap({"prenorm": runs}, lambda s: fit(s["prenorm"]).scale)
    assert high - low > 0.01
    again = next(resampled({"full": better}, 1, seed=0))["full"]
    assert {size: len(losses) for size, losses in again.items()} == dict.fromkeys(SIZES, 2)
    assert again != next(resampled({"full": better}, 1, seed=1))["full"]


def test_widened_seeds_have_the_spread_that_their_mean_should_have():
    """Drawn with replacement, n seeds have variance sum of squares / n, not / (n - 1)."""
    assert widened([1.0, 3.0]) == pytest.approx([2 - math.sqrt(2), 2 + math.sqrt(2)])
    assert sum(x * x for x in widened([-1.0, 0.0, 1.0])) / 3 == pytest.approx(1.0)


def test_the_interval_leaves_out_a_fortieth_at_each_end():
    numbers, runs = iter(range(1, 1000)), {"full": made_up(PowerLaw(2.0, 0.06))}
    assert bootstrap(runs, lambda s: next(numbers), 999) == (25, 975)


@pytest.mark.parametrize(
    "sweep, statistic, message",
    [
        ({"full": {1.0: [1, 2]}, "prenorm": {2.0: [1, 2]}}, len, "every residual the same"),
        ({"full": {1.0: [1, 2], 2.0: [1]}}, len, "two or more"),
        ({}, len, "seeds by size are {}"),
        ({"full": {1.0: [1, math.nan]}}, len, "sweep holds nan"),
        ({"full": {1.0: [1, 2]}}, lambda s: math.inf, "statistic holds inf"),
    ],
)
def test_bootstrap_refuses(sweep, statistic, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(sweep, statistic)


def test_the_lowest_size_goes_by_its_mean():
    assert lowest({3.0: [1.0, 4.0], 2.0: [2.0, 2.0]}) == 2.0
    with pytest.raises(ValueError, match="losses holds nan"):
        lowest({1.0: [math.nan], 2.0: [1.0]})


def record(residual, seed, loss, d_model=24, n_layers=6):
    return dict(
        model=dict(residual=residual, d_model=d_model, n_layers=n_layers, context=128),
        train=dict(seed=seed, steps=81, batch_size=8), val_loss=loss,
    )


def test_recorded_runs_are_read():
    smallest = record("full", 0, 2.5)
    assert tokens(smallest) == 81 * 8 * 128
    assert compute(smallest) * 8.64e19 == 6 * (6 * 24**2 * 6) * 81 * 1024
    assert shape(smallest) == 8
    runs = [record("full", 1, 2.1), record("prenorm", 0, 2.4), record("full", 0, 2.0),
            record("full", 2, 2.7, d_model=16)]
    found = sweep(runs, shape)
    assert found == {"full": {8: [2.0, 2.1], 16 / 3: [2.7]}, "prenorm": {8: [2.4]}}
    assert [*found["full"]] == [16 / 3, 8]                    # from the smallest


def test_table_4_goes_by_names_that_exist():
    assert set(paper.TABLE_4) < set(STREAMS)
    assert paper.delta("full", "prenorm") == -0.029
    assert paper.delta("highway", "full") is None
