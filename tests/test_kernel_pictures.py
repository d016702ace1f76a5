"""Pictures of notebook 09 show what the kernels compute and what was counted."""

import math

import pytest

from attnres_ref.notebook import recorded
from attnres_ref.plots import kernels
from attnres_ref.plots.schematic import QUERIES, TOKEN, rms


def words(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def mix() -> list[float]:
    sources = TOKEN[:5]
    scores = [sum(q * x for q, x in zip(QUERIES[4], v)) / rms(v) for v in sources]
    total = sum(map(math.exp, scores))
    return [sum(math.exp(s) * v[i] for s, v in zip(scores, sources)) / total
            for i in range(4)]


def test_the_walk_ends_with_the_softmax_of_all_sources():
    seen = kernels.states()
    largest = [m for m, _, _ in seen]
    assert largest == [-math.inf, 0, 1, 1, 1, 2]                  # v_4 raises it last
    _, total, acc = seen[-1]
    assert [a / total for a in acc] == pytest.approx(mix())
    assert seen[-1][2][0] < seen[-2][2][0]             # the shrinking that prose names


@pytest.mark.parametrize("step", range(7))
def test_a_frame_says_what_has_been_loaded_and_stored(step):
    figure = kernels.streaming(step)
    stored = step == 6
    assert f"loaded: {min(step, 5)}, stored: {int(stored)}" in words(figure)
    outlined = [patch for patch in figure.axes[0].patches if patch.get_linewidth() == 2]
    # Four cells of the tile in memory and four on the chip, or the four of the result.
    assert len(outlined) == (4 if stored else 8 if step else 0)
    if stored:
        assert [round(x, 1) for x in mix()] == [0.4, 0.4, 2.6, 0.2]
        said = words(figure)
        assert said[said.index("2.6") - 2 :][:4] == [".4", ".4", "2.6", ".2"]


def test_bars_beside_lines_are_as_long_as_what_they_move():
    lines = {"x = f(" + "a, " * 20 + ")": 30, "y = x": 10, "both:": 40}
    figure = kernels.beside(lines, {}, "t", guess=20)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [0.75, 0.25, 1]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[0] == colours[1] != colours[2]
    assert "\n" in words(figure)[0] and "40 u" in words(figure)
    assert ax.lines[0].get_xdata()[0] == 0.5           # the guess
    assert not kernels.beside(lines, {}, "t").axes[0].lines


def test_what_follows_from_a_formula_is_hollow():
    ax = kernels.beside({"x = y": 10, "all:": 10}, {"n + 1:": 5}, "t").axes[0]
    line, total, formula = ax.patches
    assert formula.get_width() == 0.5 and total.get_edgecolor() == formula.get_edgecolor()
    assert [bar.get_fill() for bar in ax.patches] == [True, True, False]
    assert "5 u" in words(ax.figure)


def test_loop_2_waits_for_all_columns_of_loop_1():
    figure = kernels.two_loops(3)
    said = words(figure)
    assert [said.count(f"$v_{i}$") for i in range(4)] == [2, 2, 2, 0]
    assert [said.count(f"$dv_{i}$") for i in range(4)] == [1, 1, 1, 0]
    columns = [p for p in figure.axes[0].patches if type(p).__name__ == "Rectangle"]
    assert len(columns) == 3 * 3                       # three numbers of each source


@pytest.mark.parametrize("n", [2, 4])
def test_autograd_adds_once_less_than_there_are_readers(n):
    left, right = kernels.readers(n).axes
    count = lambda ax, text: [t.get_text() for t in ax.texts].count(text)
    assert count(left, "+") == n - 1 and count(left, "$dv$") == n
    assert count(right, "+") == 0 and f"{n - 1} additions" in left.get_title()
    assert sum(count(right, f"read {i}: g += dv") for i in range(n)) == n


def test_panels_of_warps_are_the_records():
    figure = kernels.warps(recorded("warps")["rows"], {1: 98, 4: 62}, guess={1: 42})
    slots, flying, measured = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in slots.lines}
    assert [round(y) for y in lines["addresses"]] == [42, 62, 96, 169, 327]
    assert [round(y) for y in lines["pick"]] == [67, 112, 198, 383, 716]
    assert [*lines["your prediction"]] == [42]
    assert [round(y) for y in flying.lines[0].get_ydata()] == [66, 59, 41, 25, 17]
    assert [*measured.lines[0].get_xdata()] == [1, 4]


def row(n, T, ms, contender="ours", part="forward", d=1024):
    return dict(contender=contender, part=part, d=d, n=n, T=T, ms=[0, ms, 9])


def test_a_short_read_lies_above_a_copy_of_its_bytes():
    rows = [row(2, 64, 0.004), row(2, 1, 0.001), row(2, 1, 0.002), row(2, 1, 0.009),
            row(2, 1, 5, contender="eager"), row(2, 1, 5, part="backward"),
            row(2, 1, 5, d=384), row(9, 1, 5)]
    times = kernels.times_by_tokens(rows, "forward", 1024, [2])
    assert times == {2: {1: 2, 64: 4}}                 # the median of the turns
    ax = kernels.short_reads(times, 1000, 1024, "t").axes[0]
    measured, copied, _ = ax.lines
    assert [*measured.get_ydata()] == [2, 4]
    # 3 passes of 1024 numbers of two bytes at 1000 GB/s.
    assert [*copied.get_ydata()] == pytest.approx([6.144e-3, 64 * 6.144e-3])


def test_bars_of_a_step_are_stacked():
    ways = {"a": [1, 2, 3], "b": [2, 2, 0]}
    ax = kernels.step_traffic(ways, 5, "t", {"b": 3}).axes[0]
    forward, backward, additions = ax.containers
    assert [bar.get_x() for bar in additions] == [3, 4]
    assert [text.get_text().strip() for text in ax.texts] == ["6", "4"]
    floor, guess = ax.lines
    assert floor.get_xdata()[0] == 5 and [*guess.get_xdata()] == [3]


def test_the_faulty_way_has_the_mark():
    ax = kernels.errors([1, 2], {"wrong": [3, 4], "right": [1, 1]}, "t", "x").axes[0]
    assert ax.lines[0].get_color() == kernels.MARK != ax.lines[1].get_color()
