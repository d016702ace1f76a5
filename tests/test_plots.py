"""Figures show the numbers they were given."""

import math

import pytest
from matplotlib.lines import Line2D

from attnres_ref import plots
from attnres_ref.plots import film, mixing, study
from attnres_ref.study.compare import Difference
from attnres_ref.study.puzzles import gains, intervals
from attnres_ref.study.scaling import PowerLaw

T_2 = 12.7062047                       # Student's t for two seeds
DEPTHS = {
    "L = 4": dict(prenorm=[[0.9, 0.2], [1.0, 0.3]], full=[[1.0, 0.5], [1.1, 0.7]]),
    "L = 8": dict(prenorm=[[1.0, 0.4], [1.0, 0.4]], full=[[1.0, 0.3], [1.0, 0.6]]),
}


def y_of(lines):
    return [list(line.get_ydata()) for line in lines]


def markers_with_bars(ax, axis):
    """[x, y, half width, hollow] of every marker; axis: 0 for bars along x."""
    found = []
    for line, _, (bars,) in ax.containers:
        low, high = bars.get_segments()[0][:, axis]
        (x, y), = line.get_xydata()
        found.append([x, y, (high - low) / 2, line.get_markerfacecolor() == "white"])
    return found


def test_show_stores_the_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **rest: shown.append((data, rest))
    )
    plots.show(plots.bars({"PreNorm": 1.0}, "t", "x"), alt="one bar")
    (data, rest), = shown
    assert data["text/plain"] == "one bar"
    assert rest["metadata"]["image/png"]["alt"] == "one bar"
    assert data["image/png"].startswith("iVBOR")


def test_a_prediction_is_drawn_if_there_is_one():
    _, ax = plots.axes("", "", "")
    plots.sketch(ax, None)
    assert not ax.lines
    plots.sketch(ax, {8: 5.0, 0: 1.0})
    assert ax.lines[0].get_xydata().tolist() == [[0, 1], [8, 5]]
    assert ax.lines[0].get_label() == "your prediction"


def test_curves_draw_every_seed_and_their_mean():
    curves = {"prenorm": [[[1, 3.0], [2, 2.0]], [[1, 5.0], [2, 4.0]]]}
    lines = plots.learning_curves(curves, "loss").axes[0].lines
    assert y_of(lines) == [[3, 2], [5, 4], [4, 3]]


def test_heat_map_is_white_at_the_mean_and_leaves_cells_without_a_source_empty():
    figure = film.unfolding([[1.0], [0.25, 0.75], [0.0, 0.5, 0.5]], 6)
    image = figure.axes[0].images[0]
    grid = image.get_array().filled(math.nan)
    assert image.norm(0.0) == 0.5                      # the middle of the colours
    assert grid[0, 0] == 0 and not math.isfinite(grid[0, 1])
    assert grid[1, 0] == -1 and grid[1, 1] == pytest.approx(math.log2(1.5))
    assert math.isfinite(grid[2, 0]) and grid[2, 0] < -3


def test_by_layer_draws_means_inside_bands_on_one_scale():
    start, end = {"full": [[1, 2], [3, 6]]}, {"full": [[1, 1]], "block": [[9, 9]]}
    panels = {"start": start, "end": end}
    first, second = study.by_layer(panels, "t", "y").axes
    assert y_of(first.lines) == [[2, 4]] and len(second.lines) == 2
    band = first.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(0, 1), (0, 3), (1, 2), (1, 6)}
    assert first.get_ylim() == second.get_ylim()
    assert first.get_yscale() == second.get_yscale() == "log"


def test_rate_curves_ring_the_best_mean_not_the_best_seed():
    ax = study.rate_curves({"prenorm": {1e-3: [1.0, 5.0], 2e-3: [2.0, 2.0]}}, "t").axes[0]
    assert y_of(ax.lines) == [[3, 2]]
    assert ax.collections[-1].get_offsets().tolist() == [[2e-3, 2]]


SD = 0.01 * 3**0.5 / 4.302653            # of three pairs: an interval of +/- 0.01


def test_forest_is_hollow_where_zero_lies_inside_and_has_the_papers_in_a_panel():
    rows = [study.ForestRow("a", Difference(-0.02, SD, 3, 2), "full", paper=-0.029),
            study.ForestRow("b", Difference(0.01, 2 * SD, 3, 2), "block")]
    ours, theirs = study.forest(rows, "t").axes
    assert markers_with_bars(ours, axis=0) == [
        [-0.02, 0, pytest.approx(0.01), False], [0.01, 1, pytest.approx(0.02), True],
    ]
    points = [line for line in theirs.lines if line.get_marker() == "^"]
    assert [point.get_xydata().tolist() for point in points] == [[[-0.029, 0]]]
    assert len(study.forest(rows[1:], "t").axes) == 1


def test_forest_has_headings_and_every_marker_can_be_hollow():
    row = study.ForestRow("a", Difference(0.0, SD, 3, 2), "loud")
    ax, = study.forest([study.ForestRow("Group"), row], "t").axes
    labels = ax.get_yticklabels()
    assert [label.get_text() for label in labels] == ["Group", "a"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal"]
    (*_, is_hollow), = markers_with_bars(ax, axis=0)
    assert is_hollow and ax.containers[0].lines[0].get_marker() in Line2D.filled_markers


def test_forest_writes_what_is_off_the_scale():
    rows = [study.ForestRow("a", Difference(mean, SD, 3, 2), "full")
            for mean in (0.1, 0.5, -0.5)]
    ax, = study.forest(rows, "t", limit=0.2).axes
    assert len(ax.containers) == 1 and ax.get_xlim() == (-0.2, 0.2)
    written = [(text.get_text().strip(), text.get_position()) for text in ax.texts]
    assert written == [
        ("off the scale: +0.50", (0.2, 1)), ("off the scale: -0.50", (-0.2, 2)),
    ]


def test_a_law_reaches_as_far_as_the_live_run():
    sweep, laws = {"full": {1.0: [2.0], 10.0: [1.5]}}, {"full": PowerLaw(2.0, 0.125)}
    ax = study.laws(sweep, laws, "made up", {"full": (100.0, 1.1)}).axes[0]
    line, marker = ax.lines
    assert list(line.get_xdata()) == [1.0, 100.0]
    assert marker.get_xydata().tolist() == [[100.0, 1.1]]
    assert ax.collections[0].get_offsets().tolist() == [[1.0, 2.0], [10.0, 1.5]]


def test_gaps_are_paired():
    sweep = {"prenorm": {1.0: [2.0, 3.0]}, "full": {1.0: [1.9, 2.5]}}
    ax = study.gaps(sweep, "made up").axes[0]
    points = ax.collections[0].get_offsets()
    assert points.tolist() == [[1.0, pytest.approx(-0.1)], [1.0, pytest.approx(-0.5)]]
    assert y_of(ax.lines[1:]) == [[pytest.approx(-0.3)]]


def test_the_lowest_mean_is_ringed():
    sweep = {"full": {4.0: [1.0, 1.4], 8.0: [1.1, 1.1], 16.0: [1.3, 1.3]}}
    ring = study.shapes(sweep, "made up").axes[0].collections[1]
    assert ring.get_offsets().tolist() == [[8.0, pytest.approx(1.1)]]


def test_labels_tell_all_runs_of_the_gallery_apart():
    def label(residual, block_size=4, window=8):
        model = dict(residual=residual, block_size=block_size, window=window)
        return mixing.label(dict(model=model))

    assert [label("full"), label("block")] == ["Full AttnRes", "Block AttnRes"]
    assert label("block", 2) == "Block AttnRes, S=2"
    assert label("window", window=4) == "sliding window, W=4"


def test_memories_are_told_apart_not_by_colour_alone():
    errors = {"sums": [1.7, 1.6, 1.8], "corrects": [0.0, 0.4, 0.9]}
    ax, = study.recall(errors, "title").axes
    assert y_of(ax.lines[1:]) == [*errors.values()]
    assert len({line.get_linestyle() for line in ax.lines[1:]}) == 2


def test_equal_loads_are_white_and_none_is_not_infinite():
    loads = [[0.25, 0.25, 0.25, 0.25], [0.5, 0.125, 0.375, 0.0]]
    ax = plots.expert_loads({"a": loads, "b": loads}, [1, 3], "title").axes[0]
    grid = ax.images[0].get_array()
    assert grid[0].tolist() == [0, 0, 0, 0]
    assert grid[1, :2].tolist() == [1, -1] and math.isfinite(grid[1, 3]) and grid[1, 3] < -3
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "3"]


def test_layers_are_named_and_the_last_read_is_final():
    panels = {"read": {"prenorm": [[1.0, 2.0, 3.0]]}, "written": {"prenorm": [[1.0, 2.0]]}}
    figure = study.by_layer(panels, "title", "RMS", ["kda", "moe"])
    names = [[t.get_text() for t in ax.get_xticklabels()] for ax in figure.axes]
    assert names == [["kda", "moe", "final"], ["kda", "moe"]]


def test_accuracies_have_students_intervals():
    accuracies = {title: intervals(found) for title, found in DEPTHS.items()}
    figure = study.by_hops(accuracies, "t", chance=0.25)
    first, second = figure.axes
    assert [ax.get_title() for ax in (first, second)] == ["L = 4", "L = 8"]
    spread = T_2 * 0.05                # of two values 0.1 apart: t times half of it
    expected = [
        [0.96, 0.95, spread, False], [1.96, 0.25, spread, True],           # PreNorm
        [1.04, 1.05, spread, False], [2.04, 0.6, 2 * spread, True],        # Full
    ]
    assert markers_with_bars(first, axis=1) == [pytest.approx(row) for row in expected]
    assert y_of([first.lines[0], second.lines[0]]) == [[0.25, 0.25]] * 2
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["chance", "PreNorm", "Full AttnRes"]
    words = study.describe(accuracies)
    assert "L = 4, PreNorm: 0.95, 0.25; L = 4, Full AttnRes: 1.05, 0.60;" in words


def test_gains_are_paired_by_seed_and_hollow_where_zero_lies_inside():
    gained = {title: gains(found) for title, found in DEPTHS.items()}
    assert list(gained["L = 4"]) == ["full"]
    first, second = study.by_hops(gained, "t").axes
    assert markers_with_bars(first, axis=1) == [
        pytest.approx([1, 0.1, 0, False], abs=1e-6),
        pytest.approx([2, 0.35, T_2 * 0.05, True], abs=1e-6),
    ]
    assert [y for _, y, *_ in markers_with_bars(second, axis=1)] == pytest.approx([0, 0.05])
