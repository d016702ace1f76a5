"""The pictures of notebook 10 show what Layout, simulate and Job say."""

import base64
import io
import json
import re

import pytest
from matplotlib.colors import to_hex
from PIL import Image

from attnres_ref import plots
from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.layout import MODES
from attnres_ref.plots import dials, pipeline, store
from attnres_ref.plots.schematic import PROBE

OWNERS = [plots.STYLES[name] for name in ("prenorm", "block", "full")]
FIG_3 = 4, 2, 16, 4


def test_no_mode_and_no_stage_takes_a_colour_or_marker_of_a_residual():
    for _, colour, marker in OWNERS:
        assert colour not in pipeline.STAGES
        for _, ours, our_marker in pipeline.MODE_STYLES.values():
            assert ours != colour and our_marker != marker


def words(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("chunk", [0, 3, 6])
def test_a_transition_has_a_square_for_every_tensor(chunk):
    (ax,) = store.transition(FIG_3, chunk).axes
    naive, received = (Layout(*FIG_3, mode) for mode in ("naive", "received"))
    held = received.held(chunk + 1)
    drawn = [patch for patch in ax.patches if hasattr(patch, "get_xy")]
    colours = [to_hex(patch.get_edgecolor()).upper() for patch in drawn]
    assert colours.count(OWNERS[0][1]) == 1                # PreNorm's sum
    squares = naive.n_tensors(chunk) + received.n_tensors(chunk) + held
    assert colours.count(OWNERS[1][1]) == squares
    assert [p.get_hatch() for p in drawn].count("///") == 2 * naive.has_partial(chunk)
    named = [word for word in words(ax) if word.startswith("$b") or word == "sum"]
    expected = [*naive.sent(chunk), *received.sent(chunk), *range(held)]
    assert named == ["sum", *(f"$b_{{{n}}}$" for n in expected)]


def test_gradients_go_back_in_the_order_of_their_numbers():
    (ax,) = store.hand_over(block=3, first=1, later=9).axes
    assert {"$b_3$", "chunk 1", "chunk 9"} <= {*words(ax)}
    notes = [t for t in ax.texts if getattr(t, "arrow_patch", None)]
    back = [n for n in notes if to_hex(n.arrow_patch.get_edgecolor()) == PROBE.lower()]
    steps = [((*note.xyann,), (*note.xy,)) for note in back]
    (from_later, to_leaf), (from_first, to_view), (up, added), (out, wire) = steps
    assert from_later[0] > to_leaf[0] and from_later[1] == to_leaf[1]
    assert from_first[0] > to_view[0] and from_first[1] == to_view[1] > to_leaf[1]
    assert up[0] == added[0] and up[1] < added[1] <= to_view[1] and wire[0] < out[0]
    marks = [line.get_xydata()[0].tolist() for line in ax.lines]
    assert marks == [[(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] for a, b in steps]
    assert [word for word in words(ax) if word.isdigit()] == ["1", "2", "3", "4"]


def bars_of(ax, colour):
    patches = [p for p in ax.patches if to_hex(p.get_edgecolor()).upper() == colour]
    spans = [(round(p.get_x() + 0.42), round(p.get_width() + 0.16)) for p in patches]
    return [[*range(first, first + size)] for first, size in spans]


@pytest.mark.parametrize("segment, counts", [(4, "393"), (3, "494"), (1, "999")])
def test_checkpoints_keep_a_bar_for_every_vector(segment, counts):
    (ax,) = store.kept(8, segment).axes
    assert [word for word in words(ax) if word.isdigit()] == [*counts]
    sums, outputs, blocks = (bars_of(ax, colour) for _, colour, _ in
                             (OWNERS[0], OWNERS[2], OWNERS[1]))
    assert outputs == [[i] for i in range(9)]
    assert [i for block in blocks for i in block] == [*range(9)]
    assert all(len(block) <= segment for block in blocks[:-1])
    running = [[i for block in blocks[: n + 1] for i in block] for n in range(len(blocks))]
    assert sums == running


def test_counts_stand_beside_their_equations():
    rows = {"cut": {"naive": (35, 28.0), "received": (25, 22.0), "all": (21, None)}}
    (ax,) = pipeline.against_formulas(rows).axes
    marks = [(line.get_xdata()[0], line.get_markerfacecolor()) for line in ax.lines
             if len(line.get_xdata()) == 1]
    colours = [pipeline.MODE_STYLES[mode][1] for mode in MODES]
    naive, received, everything = colours
    assert marks == [(35, naive), (28, "white"), (25, received), (22, "white"),
                     (21, everything)]
    # A count on its equation lies inside the hollow mark, and on top of it.
    looks = {line.get_markerfacecolor() == "white":
             (line.get_zorder(), line.get_markersize())
             for line in ax.lines if len(line.get_xdata()) == 1}
    (on_top, small), (below, large) = looks[False], looks[True]
    assert on_top > below and small < large


def test_a_tornado_has_the_widest_bar_on_top_and_starts_at_what_is_stated():
    rows = {"latency": (4.0, 4.0), "link": (7.9, 2.0), "ranks": (0.9, 15.1)}
    (ax,) = pipeline.tornado(rows, 4.0, "%").axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["ranks", "link", "latency"]
    ends = [(round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6)) for p in ax.patches]
    assert ends == [(4, 0.9), (4, 15.1), (4, 7.9), (4, 2), (4, 4), (4, 4)]
    assert [text.get_text() for text in ax.texts] == ["0.9", "15.1", "7.9", "2.0"]
    hatched = [patch.get_hatch() for patch in ax.patches]
    assert hatched == ["///", None] * 3                   # halved, doubled


# --- the dials ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown():
    """What `dials` displays: its bundle, and the numbers that travel with the page."""
    found = []
    patch = pytest.MonkeyPatch()
    show = lambda data, **rest: found.append((data, rest))
    patch.setattr("IPython.display.display", show)
    dials.dials('lines & "dials"')
    patch.undo()
    (data, rest), = found
    numbers = re.search(r'application/json">(.+?)</script>', data["text/html"])[1]
    return data, rest, json.loads(numbers)


@pytest.mark.parametrize("at", [(0, 1, 0, 2, 4), (2, 2, 1, 0, 2), (1, 0, 2, 1, 1)])
def test_a_position_of_the_dials_has_the_numbers_of_the_simulator(shown, at):
    numbers = shown[2]
    P, V, M, N, link = (d[i] for d, i in zip(numbers["dials"], at))
    lines = numbers["steps"][at[0]][at[1]][at[2]][at[3]]
    forward = 1 / (P * V)                  # of a chunk, if the whole model's is 1
    for line, mode in zip(lines, MODES, strict=True):
        layout = Layout(P, V, 32, 32 // N, mode)
        step = simulate(layout, M, forward, 2 * forward, link / 100).makespan
        assert line[at[4]] == pytest.approx(step / (3 * M / P), abs=6e-4)
        assert line[0] == pytest.approx(1 + (P - 1) / (M * V), abs=6e-4)   # the bubble
        assert line == sorted(line)
    assert (lines[0] == lines[1] == lines[2]) == (V == 1)


def test_with_free_links_every_line_is_on_the_scale(shown):
    table = shown[2]["steps"]
    for _ in range(4):
        table = [part for whole in table for part in whole]
    assert len(table) == 3**4 * 3 and {len(line) for line in table} == {5}
    lowest, *_, highest = shown[2]["scale"]
    assert all(lowest < line[0] < highest for line in table)


def test_dials_are_labelled_and_stand_where_the_still_does(shown):
    data, rest, numbers = shown
    page = data["text/html"]
    positions = [int(at) for at in re.findall(r'type="range".*? value="(\d+)"', page)]
    last = [int(n) for n in re.findall(r'max="(\d+)"', page)]
    assert last == [len(values) - 1 for values in numbers["dials"]]
    values = re.findall(r"<output>(.+?)</output>", page)
    assert values == [str(d[i]) for d, i in zip(numbers["dials"], positions)]
    assert page.count("<label") == page.count("</label>") == 5
    assert 'alt="lines &amp; &quot;dials&quot;"' in page
    assert f'base64,{data["image/png"]}"' in page         # where scripts may not run
    assert rest["metadata"]["image/png"]["alt"] == data["text/plain"] == 'lines & "dials"'
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 600


def test_the_still_draws_the_lines_it_is_given():
    cut = dict(P=4, V=2, M=16, N=8, link=4)
    figure = dials.still(cut, [[1, 2, 3, 4, 5], [1, 1, 2, 2, 3], [1, 1, 1, 1, 2]])
    (ax,) = figure.axes
    assert [list(line.get_ydata()) for line in ax.lines[:3]] == [
        [1, 2, 3, 4, 5], [1, 1, 2, 2, 3], [1, 1, 1, 1, 2],
    ]
    assert list(ax.lines[3].get_xdata()) == [4, 4]
    assert ax.get_title(loc="left") == "P = 4, V = 2, M = 16, N = 8, link = 4 %"
