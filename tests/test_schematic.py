"""Schematics draw the numbers they were given, and frames lie under a slider."""

import base64
import io
import json
import math
import re
from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

from attnres_ref import BlockAttnRes, plots
from attnres_ref.plots import blocks, film, reads, schematic

WEIGHTS = [0.5, 0.2, 0.1, 0.2]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_all_vectors_of_the_example_have_rms_1_but_the_loud_one():
    sizes = [schematic.rms(vector) for vector in schematic.TOKEN]
    assert sizes == [1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_the_running_sum_is_written_with_its_size():
    found = texts(schematic.running_sum())
    total = [sum(column) for column in zip(*schematic.TOKEN)]
    assert total == [6, 6, 6, 4]
    assert "5.6" in found and f"{schematic.rms(total):.1f}" == "5.6"
    heights = [patch for patch in schematic.running_sum().axes[0].patches
               if len(patch.get_path().vertices) > 15]
    band = heights[0].get_path().vertices[:, 1]
    assert band.max() - 3.65 == pytest.approx(0.16 * schematic.rms(total))


def test_a_fan_is_as_wide_as_the_weights_and_ends_in_the_mix():
    figure = schematic.fan(schematic.TOKEN[:4], WEIGHTS, "a read")
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert widths == pytest.approx([14 * weight + 0.4 for weight in WEIGHTS])
    found = texts(figure)
    assert {"0.50", "0.20", "0.10"} <= set(found)
    assert found[-5:-1] == ["1.4", ".6", "0", ".4"]   # 0.5 v_0 + 0.2 v_1 + ...


def test_sources_of_a_fan_have_names():
    read = schematic.TOKEN[:2], [0.5, 0.5], "", "block"
    assert {"$b_0$", "$b_1$"} <= set(texts(schematic.fan(*read, ["$b_0$", "$b_1$"])))
    assert {"$v_0$", "$v_1$"} <= set(texts(schematic.fan(*read)))


def test_a_bar_holds_the_outputs_of_one_source():
    kinds = [("prenorm", [[0, 1, 2]], [1]), ("full", [[0], [1], [2]], [0.2, 0.3, 0.5])]
    figure = schematic.one_read(kinds, "layer 3")
    bars = [[round(patch.get_width(), 2) for patch in ax.patches
             if patch.get_height() == 0.72] for ax in figure.axes]
    assert bars == [[2.84], [0.84] * 3]
    assert len(schematic.one_read(kinds[:1], "layer 3").axes) == 1


def test_open_blocks_are_hatched():
    ax = plots.sheet(3, 3).subplots()
    schematic.staircase(ax, [[[0]], [[0], [1]], [[0], [1, 2]]], 2, "#E69F00")
    assert [patch.get_hatch() for patch in ax.patches] == [None, None, "///", None, None]


@pytest.mark.parametrize("n_reads, ticks", [(5, "0 2 final"), (4, "0 2 final")])
def test_the_final_read_is_named_whatever_the_depth(n_reads, ticks):
    ax = plots.sheet(3, 3).subplots()
    schematic.triangle_of_reads(ax, n_reads)
    assert " ".join(label.get_text() for label in ax.get_yticklabels()) == ticks
    assert ax.get_yticks()[-1] == n_reads - 1


def test_probes_stand_on_the_read_on_the_write_and_on_the_way_back():
    ax = schematic.probes().axes[0]
    marks = [tuple(line.get_xydata()[0]) for line in ax.lines]
    arrows = [(note.xyann, note.xy) for note in ax.texts if hasattr(note, "xyann")]
    (read, write, _), (back,) = arrows[:3], arrows[3:]
    assert read[0][1] > read[1][1] and write[0][1] < write[1][1]       # down, up
    for (x, y), ((x0, y0), (x1, y1)) in zip(marks, (read, write, back), strict=True):
        assert min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)
    found = texts(schematic.probes())
    assert found.index("1") < found.index("2") < found.index("3")


def test_states_draw_the_partial_sum_dotted():
    rows = [("before", [schematic.TOKEN[0]], schematic.TOKEN[1])]
    styles = [patch.get_linestyle() for patch in schematic.states(rows, "").axes[0].patches]
    assert styles == ["solid"] * 4 + [":"] * 4
    empty = schematic.states([("before", [schematic.TOKEN[0]], None)], "")
    assert "None" in texts(empty) and "None" not in texts(schematic.states(rows, ""))


@pytest.mark.parametrize("block_size", range(1, 9))
def test_bars_are_the_sources_of_the_stream(block_size):
    seen, outputs = [], torch.eye(9)

    def attend(query, sources, norm_weight):
        seen.append([torch.nonzero(source).flatten().tolist() for source in sources])
        return sources[0]

    stream = BlockAttnRes(8, 9, block_size, attend)
    state = stream.begin(outputs[0])
    for layer in range(8):
        stream.read(state, layer)
        state = stream.write(state, layer, outputs[layer + 1])
    stream.read(state, 8)
    assert blocks.reads(8, block_size) == seen


def test_blocks_of_one_have_the_colour_of_full():
    figure = blocks.melting((1, 2, 4, 8))
    faces = [ax.patches[0].get_edgecolor() for ax in figure.axes]
    assert faces == [to_rgba(plots.STYLES[name][1])
                     for name in ("full", "block", "block", "block")]


def test_a_frame_names_sums_and_partial_sums():
    found = texts(blocks.frame(3))
    assert found[-4:] == ["$b_0$", "$b_1$", "$b_2$", "$b_3^2$"]
    assert "4 vectors" in blocks.frame(3).axes[0].get_title()


@pytest.mark.parametrize("value, text", [
    (1.456, "1.46"), (-1, "-1"), (0.531, ".53"), (-0.25, "-.25"), (0, "0"), (10.0, "10"),
])
def test_numbers_are_short(value, text):
    assert schematic.written(value) == text


def frames():
    return [film.unfolding([[1.0], [0.5, 0.5]], 0), film.unfolding([[1.0], [0.9, 0.1]], 6)]


def test_a_slider_holds_every_frame_and_falls_back_to_the_last(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **rest: shown.append((data, rest))
    )
    film.slider(frames(), 'the "step"', "two frames")
    film.slider(frames(), "step", "two frames", still=0)
    (data, rest), (other, _) = shown
    inside = re.search(r'text/plain">(.+?)</script>', data["text/html"])[1].split()
    first, last = (plots.png(figure, 110, None) for figure in frames())
    assert inside == [first, last] and first != last
    assert f'src="data:image/png;base64,{first}"' in data["text/html"]
    assert data["image/png"] == last and other["image/png"] == first
    assert rest["metadata"]["image/png"]["alt"] == "two frames"
    assert 'max="1"' in data["text/html"] and "the &quot;step&quot;" in data["text/html"]


def test_a_gif_has_every_frame(tmp_path):
    film.gif(frames(), tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as picture:
        assert picture.n_frames == 2 and picture.info["loop"] == 2


def test_frames_of_different_sizes_are_refused(tmp_path):
    figures = [*frames(), blocks.frame(3)]
    with pytest.raises(ValueError, match="different sizes"):
        film.gif(figures, tmp_path / "film.gif")
    with pytest.raises(ValueError, match="different sizes"):
        film.slider(figures, "step", "three frames")


def test_a_picture_has_a_palette_and_its_colours():
    picture = Image.open(io.BytesIO(base64.b64decode(plots.png(frames()[1]))))
    assert picture.mode == "P"
    assert len(picture.convert("RGB").getcolors(10**6)) > 20


def test_reads_of_attention_and_mlp_stand_apart():
    rows = [[1.0], [0.75, 0.25], [0.2, 0.2, 0.6]]
    figure = reads.by_kind(rows, "", ["e", "A", "M"])
    attention, mlp = (ax.images[0] for ax in figure.axes[:2])
    nan = math.nan
    assert attention.get_array().filled(nan)[1].tolist() == [0.2, 0.2, 0.6]
    assert mlp.get_array().filled(nan)[0].tolist()[:2] == [0.75, 0.25]
    assert attention.get_clim() == mlp.get_clim() == (0, 0.6)
    words = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert words == ["0", "final"]
    assert "final read" in figure.axes[0].get_title()    # it is drawn in this panel
    assert mlp.colorbar.extend == "max"     # the first read's 1 is beyond 0.6
    assert not [patch for ax in figure.axes[:2] for patch in ax.patches]
    outlined = reads.by_kind(rows, "", ["e", "A", "M"], block_size=2).axes[1].patches
    assert [patch.get_xy() for patch in outlined] == [pytest.approx((0.53, -0.47))]


def test_the_record_begins_at_the_plain_mean():
    path = Path(__file__).parents[1] / "notebooks/recorded/depth_weights.json"
    for record in json.loads(path.read_text(encoding="utf-8"))["python_sources"]:
        (step, first), *_, (end, _) = record["observed"]
        assert (step, end, len(record["observed"])) == (0, 300, 51)
        for row in first["depth_weights"]:
            assert row == pytest.approx([1 / len(row)] * len(row), abs=1e-4)
