"""The pictures of notebook 02 show the numbers and the links that they were given."""

import numpy
import pytest

from attnres_ref.plots import full

ROWS = [[1.0], [0.75, 0.25], [0.2, 0.2, 0.6]]
QUERIES = [(0, 0), (1, 0), (0, 2)]


def arrows(ax):
    """From where to where, in the axes' units."""
    notes = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    return [(note.xyann, note.xy) for note in notes]


def test_depth_is_time_turned_upwards():
    panels = full.duality().axes
    names = [ax.get_title().split(":")[0] for ax in panels]
    assert names == ["RNN", "PreNorm", "attention", "Full AttnRes"]
    for time, depth in (panels[:2], panels[2:]):
        along_time = [(start[0], end[0]) for start, end in arrows(time)]
        assert along_time == [(start[1], end[1]) for start, end in arrows(depth)]


@pytest.mark.parametrize("column", [0, 1])
def test_a_state_is_a_chain_and_attention_reaches_every_source(column):
    chain, attention = full.duality().axes[column::2]
    reader = {end for _, end in arrows(attention)}
    assert len(reader) == 1 and len(arrows(attention)) == 4
    starts = [start for start, _ in arrows(attention)]
    assert len(set(starts)) == 4
    assert [end for _, end in arrows(chain)].count(*reader) == 1     # only from its end
    assert not {start for start, end in arrows(chain) if end in reader} & {*starts}
    assert {*starts} < {start for start, _ in arrows(chain)}         # yet all are written


def test_every_weight_and_query_of_the_worked_reads_is_written():
    ax, = full.worked_reads(ROWS, QUERIES).axes
    at = {text.get_position(): text.get_text() for text in ax.texts}
    assert [at[x, y] for y, row in enumerate(ROWS) for x, _ in enumerate(row)] == [
        "1", ".75", ".25", ".2", ".2", ".6",
    ]
    assert [at[2.8, y] for y in range(3)] == ["(0, 0)", "(1, 0)", "(0, 2)"]
    assert ax.images[0].get_array()[2].tolist() == ROWS[2]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "1", "final"]


def test_moments_share_one_scale_on_which_the_plain_mean_is_zero():
    mean = [[1 / n] * n for n in (1, 2, 3)]
    figure = full.moments({0: mean, 6: ROWS, 36: ROWS, 300: ROWS}, ["e", "A", "M"])
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in panels] == [
        "step 0", "step 6", "step 36", "step 300",
    ]
    first, second, *_ = (ax.images[0] for ax in panels)
    assert numpy.abs(first.get_array()).max() < 1e-9
    assert second.get_array()[1, 1] == -1                            # half of the mean
    assert {ax.images[0].get_clim() for ax in panels} == {(-2, 2)}
    assert [tick.get_text() for tick in panels[-1].get_xticklabels()] == ["e", "A", "M"]
