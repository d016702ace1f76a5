"""Figures of notebook 06 show the numbers they were given."""

import math

import pytest

from attnres_ref.plots import scaling
from attnres_ref.study.intervals import Difference
from attnres_ref.study.scaling import PowerLaw

T_2 = 4.30265                          # Student's t, three values
# Losses twice as high for half the compute; Block a tenth lower; two seeds.
BASE = PowerLaw(8.0, 1.0)
SWEEP = {"prenorm": {1.0: [8.0, 10.0], 4.0: [2.0, 1.0]},
         "block": {1.0: [7.2, 9.0], 4.0: [1.5, 0.7]}}


def near(numbers):
    return [pytest.approx(n) for n in numbers]


def test_the_gap_is_upright_and_its_worth_lies_across():
    ax, = scaling.worth(PowerLaw(6.0, 1.0), BASE, 2.0).axes
    across, upright, lower, the_same = ax.texts
    assert across.xyann == upright.xyann == (2.0, 3.0)
    assert across.xy == pytest.approx((8 / 3, 3.0)) and upright.xy == (2.0, 4.0)
    assert "25.0 % lower" in lower.get_text() and "for 1.33" in the_same.get_text()


def test_a_steep_law_makes_a_gap_worth_less():
    marked = {0.5: "steep", 0.1: "flat"}
    ax, = scaling.steepness(0.1, marked, {0.5: 2.0, 0.1: 1.0}).axes
    curve, steep, flat, guess = ax.lines
    assert steep.get_xydata().tolist() == [near((0.5, 0.9**-2))]
    assert flat.get_xydata().tolist() == [near((0.1, 0.9**-10))]
    assert all(y == pytest.approx(0.9 ** (-1 / a)) for a, y in curve.get_xydata())
    assert guess.get_xydata().tolist() == [[0.1, 1.0], [0.5, 2.0]]
    assert [note.get_text() for note in ax.texts] == ["steep\n1.23x", "flat\n2.87x"]


def test_misses_are_per_cent_of_prenorms_law():
    losses, misses = scaling.straight(SWEEP, BASE, "t").axes
    assert losses.collections[1].get_offsets().tolist() == [
        [1.0, 7.2], [1.0, 9.0], [4.0, 1.5], [4.0, 0.7]
    ]
    assert losses.lines[0].get_xydata().tolist() == [[1.0, 8.0], [4.0, 2.0]]
    percent = [mark.get_offsets()[:, 1].tolist() for mark in misses.collections]
    assert percent == [near((0, 25, 0, -50)), near((-10, 12.5, -25, -65))]
    assert misses.lines[1].get_ydata() == pytest.approx((1.25, -45))


def test_shares_lie_end_to_end_and_their_sum_is_written():
    parts = {"layers": 1.0, "head": 0.5, "reads": 0.25}
    ax, = scaling.shares({"a": parts, "b": dict(layers=1.0)}, "t").axes
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert bars == [(0, 1), (1, 0.5), (1.5, 0.25), (0, 1)]
    assert [text.get_text().strip() for text in ax.texts] == ["1.75", "1.00"]


def test_leads_are_paired_in_nats_and_in_per_cent():
    figure = scaling.leads(SWEEP, "t", {1.0: -1.0})
    nats, percent = figure.axes
    drawn = [ax.collections[0].get_offsets()[:, 1].tolist() for ax in (nats, percent)]
    assert drawn == [near((-0.8, -1.0, -0.5, -0.3)), near((-10, -10, -25, -30))]
    means = [ax.lines[1].get_ydata() for ax in (nats, percent)]
    assert means == [pytest.approx((-0.9, -0.4)), pytest.approx((-10, -27.5))]
    assert nats.lines[2].get_xydata().tolist() == [[1.0, -1.0]]
    assert len(percent.lines) == 2                         # the guess is in nats
    assert [words.get_text() for words in figure.legends[0].texts] == [
        "Block AttnRes: pairs", "Block AttnRes: their mean", "your prediction"
    ]


def test_coverage_is_drawn_beside_what_was_promised():
    held = {"a": {2: 0.7, 10: 0.9}, "b": {2: 0.95, 10: 0.95}}
    ax, = scaling.coverage(held, "t", {2: 0.8}).axes
    promised, *lines, guess = ax.lines
    assert [*promised.get_ydata()] == [0.95, 0.95]
    assert [line.get_xydata().tolist() for line in lines] == [
        [[2, 0.7], [10, 0.9]], [[2, 0.95], [10, 0.95]]
    ]
    assert guess.get_xydata().tolist() == [[2, 0.8]]


def test_multipliers_have_the_intervals_of_their_logarithms():
    gain = Difference(math.log(1.2), 0.1 * math.sqrt(3) / T_2, 3, 2)
    rows = [("with", "block", gain), ("alone", "full", 1.1)]
    ax, = scaling.multipliers(rows, (1.1, 1.3), "t").axes
    _, interval, of_pairs, alone = ax.lines
    ends = 1.2 * math.exp(-0.1), 1.2 * math.exp(0.1)
    assert interval.get_xdata() == pytest.approx(ends, rel=1e-5)
    assert [*of_pairs.get_xdata(), *alone.get_xdata()] == near((1.2, 1.1))
    assert ax.patches[0].get_x() == 1.1 and ax.patches[0].get_width() == near([0.2])[0]


def test_an_outline_has_a_row_for_each_layer_and_is_as_wide_as_the_model():
    ax, = scaling.outlines([(96, 8, "a"), (44, 32, "b")]).axes
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == [96] * 8 + [44] * 32
    first, last = ax.patches[0], ax.patches[-1]
    assert last.get_x() > first.get_x() + 96 and last.get_y() == 31
    assert {"a", "b", "44 x 32", "96 x 8"} < {text.get_text() for text in ax.texts}


def test_a_gap_that_may_be_zero_is_hollow():
    wide, sure = Difference(-0.1, 0.1, 3, 2), Difference(-0.3, 0.01, 3, 2)
    runs = {"prenorm": {4.0: [2.0, 2.2], 16.0: [1.9, 1.9]},
            "full": {4.0: [1.7], 16.0: [1.8]}}
    losses, gaps = scaling.shapes(runs, {4.0: sure, 16.0: wide}).axes
    assert losses.lines[0].get_ydata() == pytest.approx((2.1, 1.9))
    marks = [bar.lines[0] for bar in gaps.containers]
    assert [mark.get_markerfacecolor() for mark in marks] == ["#009E73", "white"]
    assert [[*mark.get_xydata()[0]] for mark in marks] == [[4.0, -0.3], [16.0, -0.1]]
