"""Figures show the numbers they were given."""

import math

import pytest
from matplotlib.lines import Line2D

from attnres_ref import plots
from attnres_ref.plots import film, mixing, study
from attnres_ref.study.compare import Difference


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


def test_a_style_goes_by_the_label_or_its_first_word():
    names = "Block, keys without RMSNorm", "Block layer-wise", "mHC, m = 4", "a copy"
    found = [plots.style_of(name)[1] for name in names]
    owners = [plots.STYLES[name][1] for name in ("block_raw_keys", "block", "mhc")]
    assert found == [*owners, plots.GREY]


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


def test_the_last_row_of_a_triangle_is_the_final_read():
    _, ax, image = plots.triangle([[1.0] * n for n in range(1, 10)], "t")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "4", "final"]
    assert image.get_array().count() == 45          # no cell above the diagonal


def test_forest_writes_what_is_off_the_scale():
    rows = [study.ForestRow("a", Difference(mean, SD, 3, 2), "full")
            for mean in (0.1, 0.5, -0.5)]
    ax, = study.forest(rows, "t", limit=0.2).axes
    assert len(ax.containers) == 1 and ax.get_xlim() == (-0.2, 0.2)
    written = [(text.get_text().strip(), text.get_position()) for text in ax.texts]
    assert written == [
        ("off the scale: +0.50", (0.2, 1)), ("off the scale: -0.50", (-0.2, 2)),
    ]


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


def test_layers_are_named_and_the_last_read_is_final():
    panels = {"read": {"prenorm": [[1.0, 2.0, 3.0]]}, "written": {"prenorm": [[1.0, 2.0]]}}
    figure = study.by_layer(panels, "title", "RMS", ["kda", "moe"])
    names = [[t.get_text() for t in ax.get_xticklabels()] for ax in figure.axes]
    assert names == [["kda", "moe", "final"], ["kda", "moe"]]
