"""Notebook 11's figures draw what layers keep, what a read finds, what records say."""

import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from attnres_ref import BlockAttnRes, LMConfig
from attnres_ref.hybrid import MLA
from attnres_ref.plots import STYLES, hybrid
from attnres_ref.study import paper
from attnres_ref.study.intervals import paired_difference
from attnres_ref.study.puzzles import gains

KINDS = ["KDA", "MoE"] * 3 + ["MLA", "MoE"]
T_2 = 12.7062047                       # Student's t for two seeds
FOUND = dict(prenorm=[[0.9, 0.2], [1.0, 0.3]], full=[[1.0, 0.5], [1.1, 0.7]])


def rectangles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_scores_are_the_papers_and_the_largest_gain_is_on_top():
    ax, = hybrid.scores(paper.DOWNSTREAM, "t").axes
    prenorm, block = (dots.get_offsets().data for dots in ax.collections)
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    drawn = {name: (a[0], b[0]) for name, a, b in zip(names, prenorm, block)}
    assert drawn == paper.DOWNSTREAM and names[-1] == "GPQA-Diamond"
    written = [float(text.get_text()) for text in ax.texts]
    assert written == sorted(written) == pytest.approx([b - a for a, b in drawn.values()])


def test_a_bar_is_as_high_as_what_a_token_leaves_behind():
    attention, mla, kda, moe = hybrid.kept(5).axes
    tokens = 5
    bars = [{p.get_height() for p in rectangles(ax)[tokens:]} for ax in (attention, mla)]
    counts = [len(rectangles(ax)) - tokens for ax in (attention, mla, kda, moe)]
    assert counts == [tokens, tokens, 1, tokens]
    d, T = 32, 7
    _, latents = MLA(LMConfig(d_model=d, n_heads=2)).advance(torch.randn(1, T, d))
    (high,), (low,) = bars
    assert high / low == pytest.approx(2 * d * T / latents.numel())


def test_a_token_is_sent_to_the_experts_that_are_filled():
    *_, moe = hybrid.kept(7).axes
    filled = [patch.get_x() for patch in rectangles(moe)[7:]
              if patch.get_facecolor()[:3] != (1, 1, 1)]
    assert filled == pytest.approx([e - 0.35 for e in (1, 4, 6)])


@pytest.mark.parametrize("reader", range(16))
def test_a_line_comes_from_every_source_of_the_read(reader):
    ax, = hybrid.stack(KINDS * 2, 6, reader).axes
    stream = BlockAttnRes(16, 3, 6)
    state = stream.begin(torch.ones(3))
    for layer in range(reader):
        state = stream.write(state, layer, torch.ones(3))
    # Every output is ones: a source is worth as much as the number of outputs it sums.
    sums = [int(source[0]) for source in state.sources]
    starts = [line.get_xdata()[0] for line in ax.lines]
    first = [0] + [1 + 6 * n for n in range(len(sums) - 1)]
    assert starts == [start + (size - 1) / 2 for start, size in zip(first, sums)]
    assert {line.get_xdata()[1] for line in ax.lines} == {reader + 1}
    framed = [p for p in ax.patches if p.get_edgecolor() == (0, 0, 0, 1)]
    assert [p.get_x() + 0.4 for p in framed] == [reader + 1]
    above = {text.get_text(): text.get_position() for text in ax.texts}
    assert above[str(reader)] == (reader + 1, 3.5)


def test_blocks_cover_every_layer_once_and_only_an_open_one_is_hatched():
    ax, = hybrid.stack(KINDS * 2, 6, 9).axes
    bars = [p for p in ax.patches if p.get_y() < 0]
    hatched = [round(p.get_width() + 0.16) for p in bars if p.get_hatch()]
    whole = [round(p.get_width() + 0.16) for p in bars if not p.get_hatch()]
    assert (whole, hatched) == ([1, 6, 6, 4], [3])
    ax, = hybrid.stack(KINDS * 2, 6, 6).axes       # the first read of a block
    assert not any(p.get_hatch() for p in ax.patches)


def test_states_follow_one_another_a_chunk_each():
    ax, = hybrid.chunks(3).axes
    words = [text.get_text() for text in ax.texts]
    assert [w for w in words if w.startswith("$S")] == ["$S_1$", "$S_2$", "$S_3$", "$S_0$"]
    assert words.count("$M, N$") == 3


def test_untrained_and_trained_models_are_drawn_apart():
    before, after = paired_difference([1, 1.5], [2, 2]), paired_difference([1, 2], [2, 1])
    ax, = hybrid.by_training({"growth": {"plain": (before, after)}}, "t").axes
    crosses, squares = (bar.lines[0] for bar in ax.containers)
    assert crosses.get_xdata() == [-0.75] and squares.get_xdata() == [0]
    assert squares.get_color() == STYLES["block"][1] != crosses.get_color()
    assert squares.get_markerfacecolor() == "white"        # its interval holds zero


def test_every_run_is_a_dot_whatever_its_residual():
    ax, = hybrid.room({"pointer_chasing": {4: FOUND}}, {"pointer_chasing": (0.1, 0.5)},
                      "t").axes
    assert ax.get_title() == "pointer chasing"
    dots = [sorted(cloud.get_offsets().data[:, 1]) for cloud in ax.collections]
    assert dots == [[0.9, 1.0, 1.0, 1.1], [0.2, 0.3, 0.5, 0.7]]
    assert [set(line.get_ydata()) for line in ax.lines] == [{0.1}, {0.5}]
    colours = {tuple(c) for cloud in ax.collections for c in cloud.get_facecolor()}
    assert len(colours) == 1
    ax, = hybrid.room({"a": {4: {"full": [[0.5]]}}}, {"a": [0.1]}, "t").axes
    assert [cloud.get_offsets().tolist() for cloud in ax.collections] == [[[1, 0.5]]]


def test_gains_are_paired_by_seed_and_lie_over_what_could_not_be_seen():
    found = gains(FOUND)
    assert list(found) == ["full"]
    _, gain = found["full"]
    assert gain.mean == pytest.approx(0.35)
    assert gain.half_width == pytest.approx(T_2 * 0.05)
    figure = hybrid.power({"two steps": gain}, 0.075, "t")
    ax, = figure.axes
    grey, = (p for p in ax.patches if isinstance(p, Rectangle))
    assert grey.get_x() == -gain.seen() and grey.get_width() == 2 * gain.seen()
    key, = (line for line in figure.legends[0].get_lines()
            if line.get_label() == "too small to be seen")
    assert to_rgba(key.get_color()) == grey.get_facecolor()
    assert [0.075, 0.075] in [list(line.get_xdata()) for line in ax.lines]
