"""Notebook 01's preview of the three matrices shows the weights that it computes."""

import math

import pytest

from attnres_ref.plots import triptych


@pytest.mark.parametrize("block_size", [1, 4, 8])
def test_a_reader_spreads_one_over_all_that_was_written(block_size):
    for layer, read in enumerate(triptych.reads(block_size)):
        assert sum(weight for _, weight in read) == pytest.approx(1)
        assert [i for outputs, _ in read for i in outputs] == [*range(layer + 1)]
        assert all(len(outputs) <= block_size for outputs, _ in read)


def test_the_weights_are_those_of_the_worked_example():
    weights = [round(weight, 2) for _, weight in triptych.reads(1)[3]]
    assert weights == [0.53, 0.2, 0.07, 0.2]
    _, (_, first), *_, (_, loud) = triptych.reads(1)[4]
    assert loud == pytest.approx(math.e * first)       # the key of v_4 scores 2, not 4
    first_of_block, after_it = triptych.reads(4)[4:6]
    assert [[*outputs] for outputs, _ in first_of_block] == [[0], [1, 2, 3, 4]]
    assert [[*outputs] for outputs, _ in after_it] == [[0], [1, 2, 3, 4], [5]]
    # Query (1, 1, 1, 0) scores v_0 with 2 and b_1 = (2, 4, 4, 2), of RMS 10^(1/2), with
    # 10 over that.
    gap = math.exp(math.sqrt(10) - 2)
    assert after_it[1][1] == pytest.approx(gap * after_it[0][1])


def test_prenorm_reads_one_sum_at_weight_one():
    assert triptych.reads(None) == [[(range(layer + 1), 1.0)] for layer in range(9)]


def test_a_bar_is_as_wide_as_its_source_and_as_dark_as_its_weight():
    figure = triptych.triptych()
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["PreNorm", "Full AttnRes", "Block AttnRes, S = 4"]
    for ax, size, absent in zip(figure.axes[1:], (1, 4), (0, 2)):
        # Full's green has no red in it, Block's orange no blue: there white fades most.
        shades = [patch.get_facecolor()[absent] for patch in ax.patches]
        widths = [round(patch.get_width() + 0.12) for patch in ax.patches]
        sources = [source for read in triptych.reads(size) for source in read]
        assert widths == [len(outputs) for outputs, _ in sources]
        light = [1 - 1.3 * min(weight, 0.5) for _, weight in sources]
        assert shades == pytest.approx(light)


def test_prenorms_rows_sum_to_their_length():
    words = [text.get_text() for text in triptych.triptych().axes[0].texts]
    assert words.count("1") == 45 + 1                  # of the cells, and the first sum
    assert [str(n) for n in range(2, 10)] == [word for word in words if word in "23456789"]
