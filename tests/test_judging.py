"""Verdicts ask for what they say they ask for, and a false claim is caught: labels of two
arms swapped, an untrained model passed off as trained, one call of many."""

import itertools
from statistics import mean, stdev

import pytest

import claims
import claims_dynamics
import claims_primary
import judging
import plan
from attnres_ref.study import compare, paper
from attnres_ref.study.intervals import Difference, paired_difference
from judging import FAILS, HOLDS, NONE, OPEN, SAME
from pooling import Pool

# ---- Verdicts ----------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, below, expected", [
    (-0.2, -0.1, True, HOLDS),
    (-0.2, -0.1, False, FAILS),
    (0.1, 0.2, True, FAILS),
    (0.1, 0.2, False, HOLDS),
    (-0.1, 0.2, True, OPEN),
    (-0.1, 0.0, True, OPEN),
])
def test_a_verdict_needs_the_whole_interval(low, high, below, expected):
    assert judging.verdict(low, high, below) == expected


def interval(low, high):
    """A difference whose 95 % interval reaches from low to high: 4.303 is Student's t."""
    sd = (high - low) / 2 / 4.302653 * 3**0.5
    return Difference((low + high) / 2, sd, 3, 2)


@pytest.mark.parametrize("low, high, below, equal", [
    (-0.008, -0.002, HOLDS, HOLDS),            # small, but below; and inside the margin
    (-0.030, -0.002, HOLDS, OPEN),
    (-0.030, -0.012, HOLDS, FAILS),
    (-0.008, +0.008, SAME, HOLDS),
    (-0.008, +0.012, OPEN, OPEN),
    (-0.030, +0.030, OPEN, OPEN),
    (+0.002, +0.008, FAILS, HOLDS),
    (+0.012, +0.030, FAILS, FAILS),
])
def test_losses_have_a_margin_for_no_difference(low, high, below, equal):
    gap = interval(low, high)
    assert plan.MARGIN == 0.01
    assert judging.verdict_of_losses(gap, below=True) == below
    assert judging.verdict_of_losses(gap, below=None) == equal
    row = judging.Gap("a - b", "full", gap, paper=low + 1e-6, why="it diverges").row()
    assert row.verdict == f"{NONE}: it diverges" and row.paper.endswith(", inside")
    row = judging.Gap("a - b", "full", gap, paper=low - 0.1).row()
    assert row.paper.endswith(", outside")


def test_a_row_shows_mean_and_spread():
    row = judging.judged("growth", "ratio", [1.5, 1.6, 1.7], below=False, limit=1.0)
    assert row == ("growth", "", "ratio 1.600", "+/- 0.248 (3 seeds)", HOLDS)


# ---- Primary tests -----------------------------------------------------------------------


def made_up(residual, seed, val_loss, steps=400, observed=()):
    return dict(
        name=f"{residual}-seed{seed}", model=dict(residual=residual), val_loss=val_loss,
        train=dict(seed=seed, steps=steps), observed=[*observed],
    )


NOISE = (0.01, -0.02, 0.015, -0.005, 0.0, 0.01)         # by seed, of arms but the first


def whodunnit(effects, seeds=6, **fields):
    return [
        made_up(arm, seed, 1.8 + effect + NOISE[(seed + i) % 6] * (i > 0), **fields)
        for i, (arm, effect) in enumerate(effects.items()) for seed in range(seeds)
    ]


EFFECTS = dict(prenorm=0.0, block=-0.2, full=-0.3, rezero=-0.1, static=-0.1, loud=-0.1)


def verdicts(records):
    runs = compare.complete(records, [*plan.ARMS])
    found = claims_primary.primary(plan.WHODUNNIT, runs, paper.delta)
    return [test.verdict for test in found]


def test_swapped_labels_of_two_arms_flip_the_primary_verdicts():
    records = whodunnit(EFFECTS)
    assert verdicts(records) == [HOLDS] * 5
    other = dict(full="prenorm", prenorm="full", block="block")
    for record in records:
        arm = record["model"]["residual"]
        record["model"]["residual"] = other.get(arm, arm)
    assert verdicts(records) == [FAILS] * 5


def test_a_primary_verdict_is_that_of_the_adjusted_p():
    """Each of four differences alone would be called."""
    by_seed = [-1.0, -1.6, 0.3, -0.9, -0.2, -1.1]
    effects = [(arm, 0.0) for arm in plan.ARMS if arm != "full"]
    records = [made_up(arm, seed, 1.8) for arm, _ in effects for seed in range(6)]
    records += [made_up("full", seed, 1.8 + x) for seed, x in enumerate(by_seed)]
    runs = compare.complete(records, [*plan.ARMS])
    tests = [test for test in plan.WHODUNNIT if test.ours == "full"]
    found = claims_primary.primary(tests, runs, paper.delta)
    gap = paired_difference(by_seed, [0.0] * 6)
    assert gap.p < plan.ALPHA < 4 * gap.p
    for test in found:
        assert test.p == pytest.approx(4 * gap.p) and test.verdict == OPEN
        assert HOLDS == judging.verdict(*judging.ends(test.gap), below=True)


def test_seeds_count_once_all_arms_have_them():
    records = whodunnit(EFFECTS)
    records = [r for r in records if (r["model"]["residual"], r["train"]["seed"]) not in
               {("full", 5), ("prenorm", 2)}]
    runs = compare.complete(reversed(records), [*plan.ARMS])
    for arm_runs in runs.values():
        assert [run["train"]["seed"] for run in arm_runs] == [0, 1, 3, 4]
    with pytest.raises(ValueError, match="two runs of seed 0"):
        compare.complete(records + records[:1], [*plan.ARMS])


def test_a_gain_that_shrinks_with_more_steps_is_called():
    early = whodunnit(dict(prenorm=0.0, block=-0.3, full=-0.3), steps=300)
    late = whodunnit(dict(prenorm=0.0, block=-0.1, full=-0.5), steps=600)
    block, full = claims_primary.horizon_changes(late[1:] + early[:-1])
    assert (block.verdict, full.verdict) == (FAILS, HOLDS)
    assert block.ours == "600 less 300 steps: +0.200" and "(4 seeds)" in block.spread


# ---- The untrained control ---------------------------------------------------------------


def observed(gradient, size):
    """A moment of a model of 16 layers; numbers are early over late."""
    return dict(
        input_rms=[1.0] * 8 + [size] * 9, gradient_norm=[gradient] * 8 + [1.0] * 8,
    )


def seen_runs(residual, before, after):
    return [
        made_up(residual, seed, 1.8, observed=[
            [0, observed(*(x + seed / 100 for x in before))],
            [400, observed(*(x + seed / 100 for x in after))],
        ]) for seed in range(4)
    ]


NUMBERS = (claims.growth, claims.early_over_late, claims.gradient_spread)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.__name__)
@pytest.mark.parametrize("below", [True, False])
def test_a_model_that_training_did_not_change_cannot_hold(number, below):
    runs = seen_runs("prenorm", (3.0, 2.0), (3.0, 2.0))
    other = seen_runs("block", (4.0, 3.0), (4.0, 3.0))
    limit = 99.0 if below else 0.1
    alone = claims_dynamics.controlled("a", number, runs, (), below, limit)
    pairs = (runs, other) if below else (other, runs)
    pair = claims_dynamics.controlled("a", number, *pairs, below)
    assert {alone.verdict, pair.verdict} == {claims_dynamics.PASSES}


def test_dynamics_are_judged_by_what_training_did():
    def verdict(before, after):
        runs = seen_runs("prenorm", (1.0, before), (1.0, after))
        return claims_dynamics.controlled("a", claims.growth, runs, (), False, 1.0).verdict

    assert verdict(0.9, 2.0) == HOLDS
    assert verdict(1.5, 2.0) == HOLDS                   # and training made it more
    assert verdict(2.4, 1.8) == claims_dynamics.PASSES
    assert verdict(2.4, 0.5) == FAILS
    assert verdict(0.5, 0.98) == OPEN


def test_an_untrained_model_cannot_pass_for_a_trained_one():
    run, = seen_runs("prenorm", (3.0, 2.0), (5.0, 4.0))[:1]
    assert claims.growth(run, trained=False) < claims.growth(run)
    run["observed"].pop()
    with pytest.raises(ValueError, match="observed at step 0: record it"):
        claims.growth(run)
    run["observed"][0][0] = 50
    with pytest.raises(ValueError, match="observed at step 50: record it"):
        claims.growth(run, trained=False)


# ---- Shared SDs --------------------------------------------------------------------------

ARMS = dict(
    a=[1.00, 1.02, 1.01], b=[1.11, 1.12, 1.10], c=[0.90, 0.93, 0.91], d=[1.0, 1.01, 1.03],
    e=[1.2, 1.21, 1.2], f=[1.3, 1.31, 1.32],
)


def test_rows_of_one_pool_share_the_sd_that_arms_and_seeds_leave():
    pool = Pool(ARMS)
    gaps = [pool.difference(*pair) for pair in itertools.combinations(ARMS, 2)]
    centred = [[x - mean(row) for x in row] for row in ARMS.values()]
    seeds = [mean(column) for column in zip(*centred)]
    left = sum((x - s) ** 2 for row in centred for x, s in zip(row, seeds))
    sd = (2 * left / 10) ** 0.5                         # of a difference; 5 x 2 degrees
    assert {gap.df for gap in gaps} == {10}
    assert [gap.sd for gap in gaps] == pytest.approx([sd] * 15)
    assert [gap.mean for gap in gaps[:2]] == pytest.approx([-0.1, 0.29 / 3])


def test_an_arm_that_blew_up_keeps_its_own_sd_and_lends_none():
    pool = Pool(ARMS | dict(wild=[1.5, 2.5, 1.1]))
    assert pool.apart == {"wild"} and pool.sd == Pool(ARMS).sd and pool.df == 10
    own = stdev([0.5, 1.48, 0.09])
    assert (pool.difference("wild", "a").sd, pool.difference("wild", "a").df) == (
        pytest.approx(own), 2
    )
    with pytest.raises(ValueError, match="'g': 2.: give every arm three"):
        Pool(ARMS | dict(g=[1.0, 1.1]))
