"""Fits recover laws that are known; intervals cover; FLOPs are PyTorch's; recorded runs
are read right."""

import math
import random
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnres_ref.model import LM, LMConfig
from attnres_ref.streams import STREAMS
from attnres_ref.study import paper
from attnres_ref.study.scaling import (
    PFLOP_S_DAY,
    PowerLaw,
    advantage,
    compute,
    fit,
    flops,
    local_exponents,
    lowest,
    multiplier,
    parameters,
    shape,
    sweep,
    tokens,
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


def runs_of_pairs(seed, worth=1.0, pairs=0.014):
    """Two seeds at five sizes: ours is worth so much compute, and takes 3 % more; what two
    runs of a pair share is larger than what they do not."""
    draw, law = random.Random(seed), PowerLaw(2.0, 0.13)
    ours, baseline = {}, {}
    for size in SIZES:
        both = [draw.gauss(0, 0.02) for _ in range(2)]
        for losses, spent, gain in ((ours, 1.03 * size, worth), (baseline, size, 1.0)):
            noise = [x + draw.gauss(0, pairs / math.sqrt(2)) for x in both]
            losses[spent] = [law(gain * spent) * math.exp(x) for x in noise]
    return ours, baseline


def test_the_intervals_cover():
    """Of 1,000 made-up sweeps; two seeds at each of five sizes."""
    found = [advantage(*runs_of_pairs(seed, 1.25)) for seed in range(1000)]
    assert 900 <= sum(gain.contains(math.log(1.25)) for gain, _ in found) <= 970
    assert 900 <= sum(exponents.contains(0) for _, exponents in found) <= 970


@pytest.mark.parametrize("exponent", [0.06, 0.07])
def test_the_advantage_is_that_of_the_laws(exponent):
    ours, baseline = PowerLaw(1.9, exponent), PowerLaw(2.0, 0.06)
    gain, exponents = advantage(
        {1.1 * size: [ours(1.1 * size)] * 2 for size in reversed(SIZES)},
        {size: [baseline(size)] * 2 for size in SIZES},
    )
    assert math.exp(gain.mean) == pytest.approx(multiplier(ours, baseline, 110.0))
    assert exponents.mean == pytest.approx(exponent - 0.06)
    assert (gain.n, gain.df, exponents.df) == (2, 5, 5)
    assert gain.half_width == pytest.approx(0) == exponents.half_width


def test_what_a_pair_shares_is_no_spread():
    _, runs = runs_of_pairs(0)
    better = {size: [0.9 * loss for loss in losses] for size, losses in runs.items()}
    gain, exponents = advantage(better, runs)
    assert gain.mean == pytest.approx(-math.log(0.9) / fit(runs).exponent)
    assert gain.half_width == pytest.approx(0) == exponents.half_width
    torn = {size: losses[::-1] for size, losses in better.items()}
    assert advantage(torn, runs)[0].half_width > 0.1


@pytest.mark.parametrize(
    "ours, message",
    [
        ({1.0: [1.9, 1.8], 2.0: [1.7]}, "seeds by size, baseline"),
        ({1.0: [1.9, 1.8]}, "seeds by size, baseline"),
        ({1.0: [1.9, 1.8], 2.0: [1.7, math.nan]}, "ours holds nan"),
    ],
)
def test_advantage_refuses(ours, message):
    with pytest.raises(ValueError, match=message):
        advantage(ours, {1.0: [2.0, 2.1], 2.0: [1.8, 1.9]})


@pytest.mark.parametrize(
    "runs, message",
    [
        ({1.0: [1.9, 1.8], 2.0: [1.7]}, "seeds by size, baseline"),
        ({1.0: [1.9], 2.0: [1.7]}, "two seeds or more"),
        ({1.0: [1.9, 1.8]}, "has 1 sizes"),
    ],
)
def test_advantage_needs_two_sizes_and_as_many_seeds_at_each(runs, message):
    with pytest.raises(ValueError, match=message):
        advantage(runs, runs)


def test_the_lowest_size_goes_by_its_mean():
    assert lowest({3.0: [1.0, 4.0], 2.0: [2.0, 2.0]}) == 2.0
    with pytest.raises(ValueError, match="losses holds nan"):
        lowest({1.0: [math.nan], 2.0: [1.0]})


def record(residual, seed, loss=2.0, d_model=24, n_layers=6, **model):
    size = dict(d_model=d_model, n_layers=n_layers, n_heads=2, context=128)
    return dict(
        model=asdict(LMConfig(residual=residual, **size | model)),
        train=dict(seed=seed, steps=81, batch_size=8), val_loss=loss,
    )


def as_products(query, sources, norm_weight):
    """A read whose scores and mix are matrix products: others PyTorch does not count."""
    values = torch.stack(sources)                                 # [n, B, T, d]
    keys = F.rms_norm(values, query.shape, norm_weight)
    weights = (keys @ query.unsqueeze(-1)).softmax(0)             # [n, B, T, 1]
    return (values.permute(1, 2, 3, 0) @ weights.permute(1, 2, 0, 3)).squeeze(-1)


@pytest.mark.parametrize(
    "residual, changes",
    [
        ("prenorm", {}),
        ("prenorm", dict(tied_head=True, layers="attention,mlp,mlp")),
        ("block", dict(n_layers=7, block_size=3)),
        ("block", dict(n_layers=6, block_size=2, vocab_size=80)),
        ("full", dict(n_layers=5)),
    ],
)
def test_flops_are_those_that_pytorch_counts(residual, changes):
    run = record(residual, 0, d_model=20, context=16, **changes)
    model = LM(LMConfig(**run["model"]), attend=as_products)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(8, 16, dtype=torch.long)).sum().backward()
    assert flops(run) == 81 * counter.get_total_flops()


@pytest.mark.parametrize("model", [
    dict(residual="static"), dict(residual="block", layers="kda,moe"),
])
def test_flops_refuses_what_it_cannot_count(model):
    with pytest.raises(ValueError, match=model.get("layers", "static")):
        flops(record(**{"seed": 0} | model))


def test_recorded_runs_are_read():
    smallest = record("full", 0, 2.5)
    assert tokens(smallest) == 81 * 8 * 128
    assert parameters(smallest) == 6 * 24**2 * 6
    assert compute(smallest) == flops(smallest) / PFLOP_S_DAY
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
