"""The depth lens of a notebook: its numbers are the model's, and a still stands in."""

import base64
import html
import io
import json
import re

import numpy
import pytest
import torch
from PIL import Image

from attnres_ref import LM, LMConfig, plots
from attnres_ref.plots import depth_lens
from attnres_ref.study.mixing import mixing_matrix

TEXT = "if a < b:\n\tpass  # ü"
BYTES = list(TEXT.encode())


def model(residual, **changes):
    """Away from its initialisation, so that reads and guesses depend on the token."""
    torch.manual_seed(0)
    shape = dict(d_model=16, n_layers=6, n_heads=2, context=32, block_size=2) | changes
    made = LM(LMConfig(residual=residual, **shape))
    for parameter in made.stream.parameters():
        torch.nn.init.normal_(parameter)
    return made


def shown(monkeypatch, *arguments):
    """What `plots.lens` displays: its bundle, and the numbers that travel with the page."""
    found = []
    show = lambda data, **rest: found.append((data, rest))
    monkeypatch.setattr("IPython.display.display", show)
    plots.lens(*arguments)
    (data, rest), = found
    known = re.search(r'application/json">(.+?)</script>', data["text/html"])[1]
    return data, rest, json.loads(known)


@pytest.mark.parametrize("residual", ["prenorm", "block", "full"])
def test_weights_of_every_byte_are_those_with_which_the_model_mixes(residual):
    made = model(residual)
    known = depth_lens.look(made, TEXT)
    M = mixing_matrix(made, torch.tensor([BYTES]))[:, :, 0, :, 0]      # [L + 1, L + 1, T]
    if residual == "prenorm":
        M = M / M.sum(1, keepdim=True)
    if residual == "block":             # one column for a block: that of its first output
        M = M[:, [0, 1, 3, 5]]
    assert known["blocks"] == (residual == "block")
    assert len(known["weights"]) == len(BYTES)
    for t, rows in enumerate(known["weights"]):
        for n_sources, row, mixed in zip(
            [1, 2, 2, 3, 3, 4, 4] if residual == "block" else range(1, 8),
            rows, M[:, :, t].tolist(), strict=True,
        ):
            assert len(row) == n_sources and not any(mixed[n_sources:])
            assert numpy.abs(numpy.array(row) / 1000 - mixed[:n_sources]).max() < 6e-4
    differ = known["weights"][0] != known["weights"][1]
    assert differ == (residual != "prenorm")


def test_the_likeliest_next_bytes_are_the_models_and_the_one_that_came_is_marked():
    made = model("full")
    known = depth_lens.look(made, TEXT)
    with torch.no_grad():
        chances = made(torch.tensor([BYTES]))[0].softmax(-1)
    for t, rows in enumerate(known["next"]):
        values, best = chances[t].topk(5)
        names = [depth_lens.name(depth_lens.label(byte)) for byte in best.tolist()]
        assert [name for name, *_ in rows[:5]] == names
        assert [chance / 1000 for _, chance, _ in rows[:5]] == pytest.approx(
            values.tolist(), abs=6e-4)
        came = [(name, chance) for name, chance, came in rows if came]
        if t + 1 == len(BYTES):
            assert came == [] and len(rows) == 5
            continue
        (name, chance), = came
        assert name == depth_lens.name(known["text"][t + 1])
        assert chance / 1000 == pytest.approx(chances[t, BYTES[t + 1]].item(), abs=6e-4)
        assert len(rows) == (5 if BYTES[t + 1] in best else 6)
    assert {len(rows) for rows in known["next"]} == {5, 6}             # both were seen


def test_bytes_that_are_no_letters_have_names():
    known = depth_lens.look(model("full"), TEXT)
    assert known["text"] == [*"if·a·<·b:↵⇥pass··#·", r"\xc3", r"\xbc"]
    assert [depth_lens.name(x) for x in "·↵⇥"] == ["space", "newline", "tab"]


def test_the_last_context_bytes_are_read():
    short = model("full", context=4)
    assert depth_lens.look(short, TEXT) == depth_lens.look(short, TEXT[-3:])
    assert depth_lens.look(short, TEXT)["text"] == ["#", "·", r"\xc3", r"\xbc"]


@pytest.mark.parametrize("make, words", [
    (lambda: (model("full"), ""), "text is ''"),
    (lambda: (model("highway"), TEXT), "residual 'highway'.*prenorm, block, full"),
    (lambda: (model("full", vocab_size=300), TEXT), "vocab_size 300"),
])
def test_what_the_lens_cannot_show_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        plots.lens(*make())


def test_where_scripts_cannot_run_a_still_with_its_words_stands_in(monkeypatch):
    data, rest, known = shown(monkeypatch, model("full"), TEXT)
    page, alt = data["text/html"], data["text/plain"]
    assert known["at"] == len(BYTES) - 2
    source = f"data:image/png;base64,{data['image/png']}"
    assert f'<img alt="{html.escape(alt)}" src="{source}"' in page
    assert rest["metadata"]["image/png"]["alt"] == alt
    assert f"at number {len(BYTES) - 1}, \\xc3: a triangle of the weights of all 7" in alt
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 600
    script = html.unescape(re.search(r'onload="(.+?)">', page, re.S)[1])
    assert script.startswith('"use strict"') and "function triangle(" in script


def test_the_still_shows_one_byte_the_way_the_lens_does():
    known = depth_lens.look(model("block"), TEXT)
    text, reads, bars, _ = depth_lens.still(known, 4).axes
    letters = [letter.get_text() for letter in text.texts]
    assert letters == known["text"]
    assert [letter.get_color() == "white" for letter in text.texts].index(True) == 4
    drawn = reads.images[0].get_array()
    for drawn_row, row in zip(drawn, known["weights"][4], strict=True):
        found = 2.0 ** drawn_row.compressed() / len(row)
        assert numpy.allclose(found, numpy.array(row) / 1000, atol=1e-5)
    assert [tick.get_text() for tick in reads.get_yticklabels()] == ["0", "4"]
    assert reads.get_xlabel() == "block (0 = embedding)"
    assert reads.get_ylabel() == "reading layer"
    assert [*reads.get_xticks()] == [0, 1, 2, 3]
    widths = [bar.get_width() * 10 for bar in bars.patches]
    assert widths == pytest.approx([chance for _, chance, _ in known["next"][4]])
    names = [tick.get_text() for tick in bars.get_yticklabels()]
    assert names == [name for name, *_ in known["next"][4]]
    said = [words.get_text().strip() for words in bars.texts]
    assert [words != "" for words in said] == [came for *_, came in known["next"][4]]


def test_lines_end_at_newlines_and_where_the_still_does():
    wide = depth_lens.COLUMNS
    places, n_lines = depth_lens.lines([*"ab↵", *"c" * wide, r"\xc3", "d"])
    assert places[:4] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert places[-2:] == [(0, 2), (4, 2)] and n_lines == 3


def test_a_text_of_96_characters_takes_at_most_150_kilobytes(monkeypatch):
    large = model("full", n_layers=16, context=128)
    data, *_ = shown(monkeypatch, large, "def f(x):\n    return x + 1\n\n" * 4)
    assert len(json.dumps(data)) < 150_000
