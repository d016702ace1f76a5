"""What check() shows in a kernel, with the reader's line, and how it keeps the score."""

import re
from html.parser import HTMLParser
from itertools import chain
from traceback import FrameSummary

import pytest
from nbformat import v4

import cells
import course
import exercises
from exercises import box

# In a module of their own, as the course's checks are.
CHECKS = '''
source = """
from exercises import exercise

@exercise("99.1")
def doubles(answer):
    double, half = answer(2)
    assert double == 4, "2 gives 4, as 2 < 3"

@exercise("99.2")
def calls(answer):
    answer().go(2)
"""
exec(source, {"__name__": "checks"})
from exercises import check
import json
import torch
'''
HELPER = '''\
def third(x):
    y = x
    return y[2]
'''
# What stands in a cell; the line to be named, in which function; its exercise.
WRONG = {
    "a helper of another cell": ("def f(x):\n    return third(x), 1", 3, "third"),
    "a nested lambda": ("def f(x):\n    g = lambda y: (lambda z: z.no)(y)\n    return g(x)",
                        2, "<lambda>"),
    "a library": ("def f(x):\n\n    return json.loads('{')", 3, "f"),
    "torch": ("def f(x):\n    return torch.ones(2) @ torch.ones(3)", 2, "f"),
    "markup": ("def f(x):\n    raise ValueError('<b>&')", 2, "f"),
    "its own assertion": ("def f(x):\n    assert x > 3", 2, "f"),
    "arguments that do not fit": ("x = 1\ndef f(x, y):\n    return 4, 1", 2, "f"),
    "half an answer": ("# half\n@torch.no_grad()\ndef f(x):\n    return 4", 2, "f"),
    "a method": ("class f:\n    def go(self, x):\n        return self.no", 3, "go"),
    "an assertion of the check": ("def f(x):\n    return 3, 1", None, None),
    "right": ("def f(x):\n    return 4, 1", None, None),
    "the stub": ("def f(x):\n    ...", None, None),
}


class Read(HTMLParser):
    """The words of a box, its tags and attributes, and what is in `code`."""

    def __init__(self, html):
        super().__init__()
        self.words, self.tags, self.named, self.code = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.named += [name for name, _ in attributes]

    def handle_data(self, data):
        self.words += data.split()
        if self.tags[-1] == "code" and data.strip():
            self.code.append(data)
        self.tags += ["div"]                   # text behind a tag is not in it


@pytest.fixture(scope="module")
def shown():
    """From each wrong answer to the data of the one output of its cell."""
    name = lambda source: "99.2" if source.startswith("class") else "99.1"
    answers = [f'{source}\ncheck("{name(source)}", f)' for source, *_ in WRONG.values()]
    code = [v4.new_code_cell(source) for source in (CHECKS, HELPER, *answers)]
    assert course.run(v4.new_notebook(cells=code), cells.ROOT / "notebooks") is None
    assert all(len(cell.outputs) == 1 for cell in code[2:])
    return dict(zip(WRONG, (cell.outputs[0]["data"] for cell in code[2:])))


@pytest.mark.parametrize("case", WRONG)
def test_a_kernel_shows_a_box_and_text_with_the_readers_line(shown, case):
    source, number, function = WRONG[case]
    assert set(shown[case]) == {"text/html", "text/plain"}
    seen, text = Read(shown[case]["text/html"]), shown[case]["text/plain"]
    assert ("your line" in text) == bool(seen.code) == bool(number)
    if number:
        cell = HELPER if function == "third" else source
        line = cell.splitlines()[number - 1].strip()
        assert f"(your line {number}, in {function}: {line})\n" in text
        assert seen.code == [line]
    words = re.sub(r"[():]", "", " ".join(seen.words[1:]))         # without the sign
    assert words == re.sub(r"[():]", "", " ".join(text.split()))


def test_an_exception_keeps_its_type_and_its_markup_is_text(shown):
    html = shown["markup"]["text/html"]
    assert "ValueError: &lt;b&gt;&amp;</div>" in html
    assert "raise ValueError(&#x27;&lt;b&gt;&amp;&#x27;)</code>" in html
    assert "2 gives 4, as 2 &lt; 3" in shown["an assertion of the check"]["text/html"]


def test_a_box_needs_no_script_and_no_style_sheet(shown):
    boxes = [Read(data["text/html"]) for data in shown.values()]
    assert set(chain.from_iterable(seen.tags for seen in boxes)) == {"div", "b", "code"}
    assert set(chain.from_iterable(seen.named for seen in boxes)) == {"style"}
    signs = {seen.words[0] for seen in boxes}
    assert signs == {"✓", "✗", "○"}, "colour alone tells the boxes apart"


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("status", box.WORDS)
def test_ink_and_verdict_stand_out_from_the_ground_and_the_edge_from_any_page(status):
    html = box.as_html("99.1", exercises.Outcome(status), "")
    edge, ground, ink, verdict = re.findall("#[0-9a-f]{6}", html)
    assert min(contrast(ground, ink), contrast(ground, verdict)) >= 4.5
    assert min(contrast(edge, page) for page in ("#ffffff", "#111111")) >= 3


def test_a_line_whose_source_is_not_known_is_named_by_its_number():
    found = exercises.Outcome("failed", "no", FrameSummary("nowhere", 7, "f"))
    assert box.as_text("99.1", found) == "99.1 not yet right: no (your line 7, in f)"
    assert "<code" not in box.as_html("99.1", found, "")


def test_the_score_counts_what_is_right_now_in_this_notebook(monkeypatch, capsys):
    def is_two(answer):
        assert answer == 2

    checks = dict.fromkeys(["98.1", "99.1", "99.2", "99.10"], is_two)
    monkeypatch.setattr(exercises, "_checks", checks)
    monkeypatch.setattr(exercises, "names", lambda: sorted(checks))
    monkeypatch.setattr(exercises, "_solved", set())
    for name, answer in [("98.1", 2), ("99.1", 2), ("99.1", 2), ("99.10", 2), ("99.1", 1),
                         ("99.1", 2), ("99.10", ...), ("99.10", 2), ("99.2", 2)]:
        exercises.check(name, answer)
    *scores, last = capsys.readouterr().out.splitlines()[1::2]
    well_done = ". Well done, these are all the exercises of this notebook!"
    assert scores[0] == f"1 of 1 solved{well_done}"
    assert scores[1:] == [f"{n} of 3 solved" for n in (1, 1, 2, 1, 2, 1, 2)]
    assert last == f"3 of 3 solved{well_done}"
