"""What the figures of notebooks 06 and 07 draw, and what the recorder of 07 writes."""

import json
import math

import pytest

import mixing as record_mixing
from attnres_ref.plots import mixing as plots_mixing
from attnres_ref.plots import scaling as plots_scaling
from attnres_ref.study.scaling import PowerLaw
from test_variants import TOKENS, build


def test_colours_compare_with_the_mean_of_the_row():
    assert plots_mixing.of_plain_mean([1.0, 1.0, 1.0]) == [0, 0, 0]
    assert plots_mixing.of_plain_mean([0.25, 0.75]) == pytest.approx([-1, math.log2(1.5)])
    none, negative, all_of_it = plots_mixing.of_plain_mean([0.0, -1.0, 2.0])
    assert math.isnan(none) and negative < -10 and all_of_it == 1


def test_labels_tell_all_runs_of_the_gallery_apart():
    def record(residual, block_size=4, window=8):
        return dict(model=dict(residual=residual, block_size=block_size, window=window))

    records = [record("full"), record("block"), record("block", 2), record("window", 4, 4),
               record("window"), record("full")]
    found = plots_mixing.by_label(records, lambda r: r["model"]["window"])
    assert found == {
        "Full AttnRes": [8, 8], "Block AttnRes": [8], "Block AttnRes, S=2": [8],
        "sliding window, W=4": [4], "sliding window, W=8": [8],
    }


def test_a_law_reaches_as_far_as_the_live_run():
    sweep, laws = {"full": {1.0: [2.0], 10.0: [1.5]}}, {"full": PowerLaw(2.0, 0.125)}
    figure = plots_scaling.laws(sweep, laws, "made up", {"full": (100.0, 1.1)})
    line, marker = figure.axes[0].lines
    assert list(line.get_xdata()) == [1.0, 100.0]
    assert list(marker.get_xdata()) == [100.0] and list(marker.get_ydata()) == [1.1]


def test_gaps_are_paired():
    sweep = {"prenorm": {1.0: [2.0, 3.0]}, "full": {1.0: [1.9, 2.5]}}
    figure = plots_scaling.gaps(sweep, "prenorm", "made up")
    points = figure.axes[0].collections[0].get_offsets()
    assert points.tolist() == [[1.0, pytest.approx(-0.1)], [1.0, pytest.approx(-0.5)]]


def test_the_lowest_mean_is_ringed():
    sweep = {"full": {4.0: [1.0, 1.4], 8.0: [1.1, 1.1], 16.0: [1.3, 1.3]}}
    ring = plots_scaling.shapes(sweep, "made up").axes[0].collections[1]
    assert ring.get_offsets().tolist() == [[8.0, pytest.approx(1.1)]]


def test_the_recorder_writes_json_without_nan():
    found = record_mixing.rounded([math.nan, 0.123456, dict(rows=[[1e-56]])])
    assert found == [None, 0.1235, dict(rows=[[1e-56]])]
    record = record_mixing.matrix_and_ranks(build("block", 0.5, block_size=4), TOKENS)
    assert [len(row) for row in record["matrix"]] == list(range(1, 10))
    assert set(record["rank"]) == {3} and record["rank_bound"] == 3
    json.loads(json.dumps(record, allow_nan=False))
