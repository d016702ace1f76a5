"""The pictures of notebook 08 show the schedule that the package runs."""

import pytest
import torch

from attnres_ref import LM, LMConfig
from attnres_ref.inference import traffic
from attnres_ref.inference.io_counts import count_layer_wise, count_two_phase
from attnres_ref.plots import schedule

TOKEN = torch.tensor([[7]])
SHAPES = [(8, 4), (8, 3), (6, 1), (5, 5)]


def block(L, S):
    return LM(LMConfig(vocab_size=16, d_model=8, n_layers=L, n_heads=2, context=4,
                       block_size=S))


@pytest.mark.parametrize("L, S", SHAPES)
def test_layer_by_layer_reads_what_the_model_reads(L, S):
    drawn = [len(step.reads) for step in schedule.layer_by_layer(L, S)]
    assert drawn == [row.reads // 16 for row in count_layer_wise(block(L, S), TOKEN)]


@pytest.mark.parametrize("L, S", SHAPES)
def test_two_phases_read_what_the_package_reads(L, S):
    drawn = schedule.two_phases(L, S)
    firsts = [step for step in drawn if step.name == "ph. 1"]
    rows = count_two_phase(block(L, S), TOKEN, group_size=S)
    assert [len(step.reads) for step in firsts] == [
        row.reads // 16 for row in rows if row.phase == 1
    ]
    joined = [step.name for step in drawn if schedule.PARTIAL in step.reads]
    assert joined == [
        "final" if row.layer == L else str(row.layer) for row in rows if row.phase == 2
    ]
    assert sum(schedule.RESULTS in step.reads for step in drawn) == L + 1


def test_the_words_say_how_many_queries_read_what():
    said = [step.said for step in schedule.two_phases(8, 4)]
    assert said[0] == "phase 1: 4 queries together, over $b_0$"
    assert said[5] == "phase 1: 4 queries together, over $b_0$, $b_1$"
    assert said[10] == "phase 1: the final read's query, over $b_0$, $b_1$, $b_2$"
    assert said[1] == "layer 0: its result as it is; its output begins a partial sum"
    assert said[4].endswith("joined with the partial sum; its output completes $b_1$")


def marks(ax, marker):
    """Where the picture has this mark, row by row."""
    lines = [line for line in ax.lines if line.get_marker() == marker]
    return [line.get_xdata().tolist() for line in lines]


def test_dots_are_reads_and_squares_writes():
    above, below = schedule.both_orders().axes
    assert [*map(len, marks(above, "o"))] == [9, 5, 1, 6]
    assert [*map(len, marks(below, "o"))] == [3, 2, 1, 6, 9]
    assert [*map(len, marks(below, "s"))] == [0, 1, 1, 6, 3]
    counted = [text.get_text() for text in below.texts]
    assert counted == ["3 reads", "2 reads", "1 read", "6 reads", "9 reads"]


def test_a_partial_sum_lives_while_its_block_is_open():
    _, below = schedule.both_orders().axes
    row = [patch for patch in below.patches if patch.get_y() == 3 - 0.3]
    spans = {(patch.get_x(), patch.get_width()) for patch in row}
    assert spans == {(1, 3.5), (6, 3.5)}                     # layers 0 to 3, and 4 to 7


def test_a_moment_shows_nothing_of_what_comes_later():
    ax, = schedule.moment(6).axes
    assert max(x for row in marks(ax, "o") + marks(ax, "s") for x in row) < 7
    assert ax.get_title(loc="left").startswith("layer 4:")


def test_a_rank_holds_its_own_tokens_but_for_attention():
    ax, = schedule.shards(4).axes
    orange = [p for p in ax.patches if p.get_facecolor()[2] < 0.6]
    assert len(orange) == 4 + 4
    assert sum(bool(p.get_hatch()) for p in ax.patches) == 16
    grey = [p for p in ax.patches if set(p.get_facecolor()[:3]) == {0.8}]
    assert len(grey) == 16


def test_no_key_lies_among_the_marks():
    """The legend's dot once looked like a read of something between two rows."""
    figure = schedule.both_orders()
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert all(ax.get_legend() is None for ax in figure.axes)
    for ax in figure.axes:
        assert not box.overlaps(ax.get_window_extent())
        assert not box.overlaps(ax.title.get_window_extent())


def test_every_arrow_says_what_it_stands_for():
    ax, = schedule.shards().axes
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    where = {text.get_text(): text.get_position() for text in ax.texts}
    said = "all-\ngather", "reduce-\nscatter", "layer"
    for note, words in zip(arrows, said, strict=True):
        (start, height), (end, _) = note.xyann, note.xy
        assert start < where[words][0] < end and where[words][1] > height


def test_shares_are_those_of_the_counts():
    name, passes = "Block AttnRes, two phases", traffic.depth_passes(128, 16)
    figure = schedule.decode_shares(traffic.TYPICAL, (128, 8192), [name], 8, (1, 64))
    step = traffic.decode_step(traffic.TYPICAL, passes[name], 64, 8192, sharing=8)
    (line, fifth) = figure.axes[1].lines
    assert [*line.get_xdata()] == [1, 64] and [*fifth.get_ydata()] == [0.05, 0.05]
    assert line.get_ydata()[1] == step.depth / (step.weights + step.kv + step.depth)


def test_a_case_has_an_open_and_a_filled_mark_in_both_panels():
    rows = {
        name + kind: dict(decode_time_ratio=ratio / 10, operations=ratio)
        for name, ratio in (("PreNorm", 10), ("Block two-phase", 12))
        for kind in ("", ", compiled")
    }
    rows["Block two-phase, compiled"] = dict(decode_time_ratio=1.1, operations=3)
    times, operations = schedule.clocked(rows).axes
    drawn = [[line.get_xdata()[0] for line in ax.lines[2:4]] for ax in (times, operations)]
    assert drawn == [[1.2, 1.1], [12, 3]]
    faces = [line.get_markerfacecolor() for line in times.lines[2:4]]
    assert faces == ["white", times.lines[2].get_color()]
    assert [tick.get_text() for tick in times.get_yticklabels()] == [
        "PreNorm", "Block two-phase",
    ]
