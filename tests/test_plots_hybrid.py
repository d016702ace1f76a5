"""The hybrid's figures draw what they are given; the bench's ratios have their bases."""

import math

import pytest

from attnres_ref.bench.hybrid import BASES, BLOCK, CHUNKS, LOOP, PRENORM, measure, table
from attnres_ref.plots import hybrid as plots_hybrid


def test_recall_has_a_line_for_each_memory():
    errors = {"sums": [1.7, 1.6, 1.8], "corrects": [0.0, 0.4, 0.9]}
    ax, = plots_hybrid.recall(errors, "title").axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert drawn["sums"] == [1.7, 1.6, 1.8] and drawn["corrects"] == [0.0, 0.4, 0.9]
    assert len({line.get_linestyle() for line in ax.lines[1:]}) == 2  # not by colour


def test_equal_loads_are_white_and_none_is_not_infinite():
    loads = [[0.25, 0.25, 0.25, 0.25], [0.5, 0.125, 0.375, 0.0]]
    figure = plots_hybrid.expert_loads({"a": loads, "b": loads}, [1, 3], "title")
    grid = figure.axes[0].images[0].get_array()
    assert grid[0].tolist() == [0, 0, 0, 0]
    assert grid[1, :2].tolist() == [1, -1] and math.isfinite(grid[1, 3]) and grid[1, 3] < -3
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["1", "3"]


def test_layers_are_named_and_the_last_read_is_final():
    panels = {
        "read": {"prenorm": [[1.0, 2.0, 3.0]], "block": [[1.0, 1.0, 1.0]]},
        "written": {"prenorm": [[1.0, 2.0]], "block": [[1.0, 1.0]]},
    }
    figure = plots_hybrid.by_layer_name(panels, ["kda", "moe"], "title", "RMS")
    names = [[t.get_text() for t in ax.get_xticklabels()] for ax in figure.axes]
    assert names == [["kda", "moe", "final"], ["kda", "moe"]]


def test_the_bench_measures_four_cases_against_two():
    size = dict(d_model=16, n_layers=2, n_heads=2, context=8, block_size=2)
    size["layers"] = "kda,moe"
    rows = measure(rounds=1, batch=1, tokens=16, **size)
    assert list(rows) == [LOOP, CHUNKS, PRENORM, BLOCK]
    assert all(rows[base]["time_ratio"] == 1 for base in BASES.values())
    for name, base in BASES.items():
        ratio = rows[name]["time_ms"] / rows[base]["time_ms"]
        assert rows[name]["time_ratio"] == pytest.approx(ratio)
    assert all(name in table(rows) for name in rows)
