"""Figures of the puzzles show the numbers they were given."""

import pytest

from attnres_ref.plots.puzzles import (
    accuracy_by_hops,
    accuracy_by_step,
    describe,
    gain_by_hops,
    gains,
)

T_2 = 12.706                           # Student's t for two seeds
PANELS = {
    "L = 4": dict(prenorm=[[0.9, 0.2], [1.0, 0.3]], full=[[1.0, 0.5], [1.1, 0.7]]),
    "L = 8": dict(prenorm=[[1.0, 0.4], [1.0, 0.4]], full=[[1.0, 0.3], [1.0, 0.6]]),
}


def points(ax):
    """[x, mean, half width, hollow] of every marker."""
    found = []
    for line, _, (bars,) in ax.containers:
        low, high = bars.get_segments()[0][:, 1]
        (x, y), = line.get_xydata()
        found.append([x, y, (high - low) / 2, line.get_markerfacecolor() == "white"])
    return found


def test_accuracies_have_students_intervals():
    figure = accuracy_by_hops(PANELS, "t", chance=0.25)
    first, second = figure.axes
    assert [ax.get_title() for ax in (first, second)] == ["L = 4", "L = 8"]
    spread = T_2 * 0.05                # of two values 0.1 apart: t times half of it
    expected = [
        [0.96, 0.95, spread, False], [1.96, 0.25, spread, False],          # PreNorm
        [1.04, 1.05, spread, False], [2.04, 0.6, 2 * spread, False],       # Full
    ]
    assert points(first) == [pytest.approx(row) for row in expected]
    for ax in (first, second):
        assert [*ax.lines[0].get_ydata()] == [0.25, 0.25] and ax.get_ylim()[0] == 0
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["chance", "PreNorm", "Full AttnRes"]


def test_gains_are_paired_by_seed_and_hollow_where_zero_lies_inside():
    found = gains(PANELS["L = 4"])
    assert list(found) == ["full"]
    assert [gain.mean for gain in found["full"]] == pytest.approx([0.1, 0.35])
    assert [gain.half_width for gain in found["full"]] == pytest.approx(
        [0, T_2 * 0.05], abs=1e-6
    )
    first, second = gain_by_hops(PANELS, "t").axes
    assert [hollow for *_, hollow in points(first)] == [False, True]
    assert [y for _, y, *_ in points(second)] == pytest.approx([0, 0.05])


def test_accuracy_by_step_draws_seeds_and_their_mean_for_each_hop():
    seeds = [
        [[0, [0.1, 0.2]], [9, [0.5, 0.4]]],
        [[0, [0.3, 0.2]], [9, [0.7, 0.6]]],
    ]
    curves = dict(block=seeds)
    one, two = accuracy_by_step(curves, "t", chance=0.2).axes
    assert one.get_title() == "1 hop" and two.get_title() == "2 hops"
    drawn = [line.get_xydata().tolist() for line in two.lines[1:]]
    assert drawn == [
        [[0, 0.2], [9, 0.4]], [[0, 0.2], [9, 0.6]], [[0, 0.2], [9, pytest.approx(0.5)]],
    ]


def test_the_description_names_every_mean():
    words = describe(PANELS)
    assert "L = 4, PreNorm: 0.95, 0.25; L = 4, Full AttnRes: 1.05, 0.60;" in words
