"""The ledger is fresh, and its verdicts follow the intervals."""

import pytest

import claims
import claims_hybrid
import judging
import ledger


def test_the_ledger_is_fresh():
    text = ledger.README.read_text(encoding="utf-8")
    assert ledger.rewritten(text, ledger.table()) == text, (
        "stale: run python notebooks/recording/ledger.py"
    )


@pytest.mark.parametrize(
    "low, high, below, expected",
    [
        (-0.2, -0.1, True, judging.HOLDS),
        (-0.2, -0.1, False, judging.FAILS),
        (0.1, 0.2, True, judging.FAILS),
        (0.1, 0.2, False, judging.HOLDS),
        (-0.1, 0.2, True, judging.OPEN),
        (-0.1, 0.0, True, judging.OPEN),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, below, expected):
    assert judging.verdict(low, high, below) == expected


def test_a_row_shows_mean_and_spread():
    row = judging.judged("growth", "ratio", [1.5, 1.6, 1.7], below=False, limit=1.0)
    assert row == ("growth", "ratio 1.600", "+/- 0.248 (3 seeds)", judging.HOLDS)


def test_only_the_part_between_the_markers_changes():
    text = f"before\n{ledger.BEGIN}\nold\n{ledger.END}\nafter\n"
    once = ledger.rewritten(text, "| new |")
    assert once == f"before\n{ledger.BEGIN}\n\n| new |\n\n{ledger.END}\nafter\n"
    assert ledger.rewritten(once, "| new |") == once


@pytest.mark.parametrize("text", ["nothing", f"{ledger.BEGIN} no end"])
def test_a_lost_marker_is_an_error(text):
    with pytest.raises(ValueError):
        ledger.rewritten(text, "| new |")


def test_runs_are_paired_by_seed():
    def runs(*seeds):
        return [dict(train=dict(seed=seed), val_loss=2.0 + seed) for seed in seeds]

    assert judging.between(claims.loss, runs(0, 1), runs(0, 1)) == [0.0, 0.0]
    with pytest.raises(ValueError, match="no pairs"):
        judging.between(claims.loss, runs(0, 1), runs(0, 2))


def test_gains_of_reasoning_are_by_seed_and_above_zero_is_better():
    baseline = [[0.9, 0.2, 0.1], [1.0, 0.4, 0.2]]
    ours = [[1.0, 0.5, 0.2], [1.0, 0.6, 0.2]]
    one, more = claims_hybrid.by_steps(ours, baseline)
    assert one == pytest.approx([0.1, 0.0]) and more == pytest.approx([0.2, 0.1])
