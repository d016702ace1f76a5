"""Figures of the studies show the numbers they were given."""

import pytest

from attnres_ref.plots.study import Row, by_layer, forest, rate_curves
from attnres_ref.streams import STREAMS
from attnres_ref.study import paper
from attnres_ref.study.compare import Difference


def test_by_layer_draws_means_inside_bands_on_one_scale():
    start, end = {"full": [[1, 2], [3, 6]]}, {"full": [[1, 1]], "block": [[9, 9]]}
    moments = {"start": start, "end": end}
    first, second = by_layer(moments, "t", "y", log=True).axes
    assert list(first.lines[0].get_ydata()) == [2, 4]
    band = first.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(0, 1), (0, 3), (1, 2), (1, 6)}
    assert len(second.lines) == 2 and first.get_ylim() == second.get_ylim()
    assert first.get_yscale() == second.get_yscale() == "log"


def test_rate_curves_ring_the_best_mean_not_the_best_seed():
    ax = rate_curves({"prenorm": {1e-3: [1.0, 5.0], 2e-3: [2.0, 2.0]}}, "t").axes[0]
    assert list(ax.lines[0].get_ydata()) == [3, 2]
    assert ax.collections[-1].get_offsets().tolist() == [[2e-3, 2]]


def test_forest_is_hollow_where_zero_lies_inside():
    clear, open_ = Difference(-0.02, 0.01, 3), Difference(0.01, 0.02, 3)
    ax, = forest([Row("a", clear, "full"), Row("b", open_, "block")], "t").axes
    points = [container[0] for container in ax.containers]
    assert [point.get_xydata().tolist() for point in points] == [[[-0.02, 0]], [[0.01, 1]]]
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True]
    reach = [bars.get_segments()[0][:, 0].tolist() for _, _, (bars,) in ax.containers]
    assert reach == [pytest.approx([-0.03, -0.01]), pytest.approx([-0.01, 0.03])]


def test_forest_draws_the_papers_numbers_in_their_own_panel():
    found = Difference(-0.02, 0.01, 3)
    rows = [Row("a", found, "full", paper=-0.029), Row("b", found, "highway")]
    ours, theirs = forest(rows, "t").axes
    points = [line for line in theirs.lines if line.get_marker() == "^"]
    assert [p.get_xydata().tolist() for p in points] == [[[-0.029, 0]]]
    assert len(ours.containers) == 2


def test_forest_writes_what_is_off_the_scale():
    rows = [Row("a", Difference(mean, 0.01, 3), "full") for mean in (0.1, 0.5, -0.5)]
    ax, = forest(rows, "t", limit=0.2).axes
    assert len(ax.containers) == 1 and ax.get_xlim() == (-0.2, 0.2)
    written = [(text.get_text().strip(), text.get_position()) for text in ax.texts]
    assert written == [
        ("off the scale: +0.50", (0.2, 1)), ("off the scale: -0.50", (-0.2, 2)),
    ]


def test_table_4_goes_by_names_that_exist():
    assert set(paper.TABLE_4) < set(STREAMS)
    assert paper.delta("full", "prenorm") == -0.029
    assert paper.delta("highway", "full") is None
