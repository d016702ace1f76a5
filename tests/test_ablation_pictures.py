"""The pictures of notebook 07 show the weights, costs and ranks that they were given."""

import math

import numpy
import pytest

from attnres_ref.plots import STYLES, ablation, mixing, triptych
from attnres_ref.study.mixing import Lost

WEIGHTS = [[1.0], [0.25, 0.75], [0.2, 0.2, 0.6]]
COSTS = [[0.0], [2.0, 0.01], [0.0001, 0.1, 0.001]]


def words(ax):
    return [text.get_text() for text in ax.texts]


def titled(figure):
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def test_the_framed_row_is_the_one_that_is_drawn_below():
    triangle, read = ablation.row_of_the_triangle(3).axes
    frame = triangle.patches[-1]
    assert (frame.get_y(), frame.get_width()) == (2.48, 4.04) and not frame.get_fill()
    framed = [text.get_text() for text in triangle.texts
              if text.get_position()[1] == 3 and text.get_text()[:4] != "read"]
    assert framed == [".53", ".2", ".07", ".2"]
    ticks = [tick.get_text() for tick in triangle.get_yticklabels()]
    assert ticks == [*"01234567", "final"]
    one, half, *_ = (patch.get_facecolor()[0] for patch in triangle.patches)
    assert 1 - one == pytest.approx(2 * (1 - half))                  # half is half as dark
    assert {"0.53", "0.20", "0.07", "$v_3$"} <= set(words(read))
    assert "$v_4$" not in words(read)
    mixed = [word for word in words(read) if word in ("1.46", ".54", ".39")]
    assert mixed == ["1.46", ".54", ".39"]


def test_without_a_source_the_others_share_its_weight():
    whole, rest = ablation.without(3, lost=0).axes
    widths = [14 * weight + 0.4 for _, weight in triptych.reads(1)[3]]
    assert [line.get_linewidth() for line in whole.lines] == pytest.approx(widths)
    *left, _, _ = rest.lines                                # the last two are the cross
    shared = [(line.get_linewidth() - 0.4) / 14 for line in left]
    assert sum(shared) == pytest.approx(1) and len(shared) == 3
    assert shared[0] / shared[1] == pytest.approx((widths[1] - 0.4) / (widths[2] - 0.4))
    assert not [word for word in words(rest) if word == "0.53"]


def test_maps_compare_weights_with_the_mean_and_costs_by_powers_of_ten():
    weights, costs = titled(ablation.maps(WEIGHTS, COSTS, {0: 1}))
    assert weights.images[0].get_array()[1, 0] == -1                 # half of the mean
    grid = costs.images[0].get_array()
    assert grid[2].tolist() == pytest.approx([-4, -1, -3])
    assert math.isnan(numpy.ma.filled(grid, math.nan)[0, 2])
    for ax in (weights, costs):
        assert ax.lines[-1].get_xydata().tolist() == [[0, 1]]


def test_the_embedding_is_as_loud_as_its_part_of_the_size():
    read = dict(weights=[0.5, 0.5], shares=[3.0, 4.0])
    assert ablation.audible(read) == 0.6
    alone = dict(weights=[0.2] * 3, shares=[1, 0, 0])
    left, right = ablation.of_embedding([[read, read, alone]]).axes
    assert left.lines[0].get_ydata().tolist() == pytest.approx([1, 0.6])
    assert right.lines[0].get_ydata().tolist() == [0.6, 1]


def test_importance_is_the_increase_over_what_was_measured():
    lost = [Lost(1, 0, 2.0, 0.1, 0.7), Lost(2, 0, 1.5, 0.2, -0.1),
            Lost(2, 1, 0.9, 0.3, 0.8), Lost(3, 2, 0.8, 0.4, 0.9)]
    weight, share = ablation.importance(lost, {"weight": "w", "share": "s"}).axes
    others, mlp, embedding = (dots.get_offsets().tolist() for dots in share.collections)
    assert (others, mlp) == ([[0.3, 0.8]], [[0.4, 0.9]])
    assert embedding == [[0.1, 0.7], [0.2, -0.1]]
    assert weight.collections[2].get_offsets().tolist() == [[2.0, 0.7], [1.5, -0.1]]
    assert (weight.get_xlabel(), share.get_xlabel()) == ("w", "s")
    assert weight.get_title(loc="left") == "by weight"
    some = [x for x in lost if x.source != 2]               # a kind may be empty
    assert len(ablation.importance(some, {"share": "s"}).axes[0].collections) == 3
    notes = [(note.get_text(), note.xy) for note in weight.texts]
    assert notes == [("read 1", (2.0, 0.7)), ("all later reads", (1.5, -0.1))]


def test_an_interval_is_written_beside_its_seeds():
    rows = {"Full, share": [1.0, 2.0, 3.0], "Block, share": [1.0, 1.0, 1.0]}
    ax, = ablation.intervals({"t": (0.5, rows)}).axes
    assert words(ax) == ["2.00 +/- 2.48", "1.00 +/- 0.00"]           # t = 4.3, three seeds
    dots = [marks for marks in ax.collections if len(marks.get_offsets()) == 3]
    assert [row.get_offsets()[:, 0].tolist() for row in dots] == [*rows.values()]
    assert ax.lines[-1].get_xdata() == [0.5, 0.5]


def test_missed_sets_the_embedding_beside_the_mean_of_the_others():
    one, two = ablation.missed({"a": COSTS, "b": COSTS}, {1: 0.5}).axes
    others, embedding = one.lines
    assert others.get_ydata().tolist() == pytest.approx([0.01, 0.0505])
    assert embedding.get_ydata().tolist() == [2, 0.0001]
    pairs = ablation.beside_others([[0.0], [-2.0, 0.5], [1.0, -3.0, 1.0]])
    assert pairs == [(2.0, 0.5), (1.0, 2.0)]
    assert len(two.lines) == 3 and two.lines[-1].get_xydata().tolist() == [[1, 0.5]]


def test_a_matrix_is_white_at_the_start():
    start = [[1.0], [0.5, 0.5], [0.1, 0.1, 0.0]]
    flat = [x for row in mixing.since_start(start, start) for x in row]
    assert flat[:-1] == [0] * 5 and math.isnan(flat[-1])
    last = mixing.since_start([[1], [1, 0.25], [0.2, -1, 0]], start)[1:]
    assert last[0] == [1, -1] and last[1][0] == 1 and last[1][1] < -10


def test_each_triangle_of_the_gallery_has_its_own_start():
    starts = {name: [[size]] for name, size in zip(STYLES, (1.0, 2.0, 3.0))}
    panels = titled(mixing.gallery({name: [[4.0]] for name in starts}, starts, "step 7"))
    titles = [ax.get_title(loc="left") for ax in panels]
    assert titles == [STYLES[name][0] for name in starts]
    changes = [ax.images[0].get_array()[0, 0] for ax in panels]
    assert changes == pytest.approx([2, 1, math.log2(4 / 3)])


def test_row_sums():
    ax, = mixing.row_sums({"prenorm": [[1], [1, 1]], "full": [[1], [0.5, 0.5]]}).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 2], [1, 1]]


def test_cuts_show_both_bounds_and_the_guess_is_block_s():
    panels = {"full": ([1, 2, 1], [1, 2, 3]), "block": ([1, 1, 1], [1, 2, 2])}
    full, block, *_ = mixing.cuts(panels, {1: 2}).axes
    to_come, kept, ranks = full.lines
    assert to_come.get_ydata().tolist() == [3, 2, 1]
    assert (kept.get_ydata().tolist(), ranks.get_ydata().tolist()) == ([1, 2, 3], [1, 2, 1])
    assert full.get_title(loc="left") == "Full AttnRes: at most 2"
    assert len(full.lines) == 3 and block.lines[-1].get_xydata().tolist() == [[1, 2]]


def test_between_spans_n_to_n_plus_s():
    ax, = mixing.between([(16, 8, 3, 9), (48, 12, 5, 15)]).axes
    spans = [(bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert spans == [(2, 8), (4, 12)]
    marks = [m.get_offsets().tolist() for m in ax.collections if len(m.get_offsets())]
    assert [[0, 9]] in marks and [[0, 3]] in marks and [[1, 15]] in marks
