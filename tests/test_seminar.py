"""Talks: what every one has, whose numbers it takes, and the marks it is written with."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import cells
import made_up
import pages
import seminar
import slides

TALKS = {path.stem: path.read_text(encoding="utf-8") for path in seminar.decks()}
of_a_talk = pytest.mark.parametrize("number", TALKS)
POLL = re.compile(r"(?:^\+ \*\*\w\*\* .+\n){2,}", re.MULTILINE)
# Answers to a poll, which may be wrong; names of figures; links; minutes; notebooks.
NO_CLAIM = re.compile(
    r"^\+ \*\*\w\*\* .+|\{\{.+\}\}|\]\([^)]+\)|[Mm]inute \d+|notebooks? \d\d", re.MULTILINE
)
MINUTE = re.compile(r"\AMinute (\d+)\. ")


def notebook(number: str):
    (path,) = cells.asked_for([number])
    return cells.read(path)


def slides_of(number: str) -> list[tuple[str, str]]:
    return [seminar.parts(slide) for slide in seminar.slides(TALKS[number])]


def heading(shown: str) -> str:
    return re.match(r"##? (.+)", shown)[1]


def numbers(text: str) -> set[str]:
    """All with a decimal point, and whole ones from ten on."""
    text = NO_CLAIM.sub(" ", text.replace("−", "-"))
    found = re.findall(r"(?<![\w.])\d*\.\d+|(?<![\w.])\d{2,}(?![\w.]*\d)", text)
    return {number for number in found if "." in number or number[0] != "0"}


def known(number: str) -> str:
    parts = []
    for cell in notebook(number).cells:
        outputs = cell.get("outputs", [])
        parts += [cell.source, *(output.get("text", "") for output in outputs)]
        parts += [str(output.get("metadata")) for output in outputs]
    return "\n".join(parts)


def strange(text: str, source: str) -> set[str]:
    """The numbers of `text` that `source` does not have."""
    def there(number: str) -> bool:
        return re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", source) is not None

    return {number for number in numbers(text) if not there(number)}


def test_the_seminars_notebooks_have_talks():
    assert list(TALKS) == ["01", "02", "03", "10"]


@of_a_talk
def test_a_talk_fills_45_minutes_and_begins_with_a_picture(number):
    shown = [shown for shown, _ in slides_of(number)]
    assert 12 <= len(shown) <= 18
    assert shown[0].startswith("# ") and all(one.startswith("## ") for one in shown[1:])
    assert "{{figure: " in shown[1]
    assert all(len(heading(one).split()) >= 4 for one in shown), "a heading is a sentence"
    assert shown[-1].count("\n+ ") == 3 and "Open next" in shown[-1]


@of_a_talk
def test_every_slide_has_notes_of_some_sentences_in_order(number):
    minutes = []
    for _, notes in slides_of(number):
        assert 2 <= len(re.findall(r"[.?](?=\s|$)", MINUTE.sub("", notes))) <= 6, notes
        minutes.append(int(MINUTE.match(notes)[1]))
    assert minutes == sorted(set(minutes)) and minutes[0] == 0 and minutes[-1] <= 45


@of_a_talk
def test_polls_come_before_the_slide_that_answers_them(number):
    decks = slides_of(number)
    polls = [place for place, (shown, _) in enumerate(decks) if POLL.search(shown)]
    assert len(polls) >= 3
    for place in polls:
        assert heading(decks[place][0]).endswith("?")
        assert not heading(decks[place + 1][0]).endswith("?")
    assert sum(heading(shown).endswith("?") for shown, _ in decks) == len(polls)


@of_a_talk
def test_numbers_are_the_notebooks(number):
    assert strange(TALKS[number], known(number)) == set()


def test_a_changed_number_is_found():
    assert strange("−0.0572 ± 0.0193 in 300 steps", "-0.0572 +/- 0.0193, 300") == set()
    assert strange("a gain of −0.0573 in 301 steps", "-0.0572 and 300") == {"0.0573", "301"}
    assert strange(".59 and 5", "0.59") == {".59"}


@of_a_talk
def test_links_lead_somewhere_and_texts_keep_to_their_language(number):
    assert [*pages.dead_links(seminar.FOLDER / f"{number}.md")] == []
    shown = "".join(shown for shown, _ in slides_of(number))
    assert re.findall(r"\{\{(?!figure: |code: |lens: )", shown) == []


@of_a_talk
def test_a_deck_has_the_notebooks_pictures_and_little_code(number):
    deck = seminar.deck(seminar.FOLDER / f"{number}.md")
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in deck.cells]
    assert kinds.count("slide") == kinds.count("notes") == len(slides_of(number))
    assert "fragment" in kinds
    figures = seminar.figures(deck)
    stored = seminar.figures(notebook(number))
    assert len(figures) >= 5
    for alt, figure in figures.items():
        whole = stored[re.sub(r"^The (top|bottom) of a figure\. ", "", alt)]
        assert figure.data == whole.data or alt not in stored
    code = [c.source for c in deck.cells if c.source.startswith("```python")]
    assert len(code) <= 2 and all(source.count("\n") <= 14 for source in code)


def test_a_part_of_a_figure_is_its_upper_or_lower_panels():
    def pixels(output):
        png = base64.b64decode(output.data["image/png"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def part(side):
        line = f"{{{{figure: {side} 25% | RNN and PreNorm}}}}"
        return seminar.taken(line, notebook("02")).outputs[0]

    (alt,) = [alt for alt in seminar.figures(notebook("02")) if "RNN and PreNorm" in alt]
    whole = pixels(seminar.figures(notebook("02"))[alt])
    quarter = round(len(whole) / 4)
    assert np.array_equal(pixels(part("top")), whole[:quarter])
    assert np.array_equal(pixels(part("bottom")), whole[-quarter:])
    assert part("top").metadata["image/png"]["alt"] == f"The top of a figure. {alt}"


@pytest.mark.parametrize("number", ["02", "03"])
def test_the_lens_is_in_with_a_link_and_a_still(number):
    deck = seminar.deck(seminar.FOLDER / f"{number}.md")
    (lens,) = cells.tagged(deck, "lens")
    page = lens.outputs[0].data["text/html"]
    assert re.search(r'<iframe data-src="lens/index.html\?embed#residual=\w+&amp;', page)
    assert re.search(r'<a href="lens/index.html#residual', page)
    assert re.search(r'<img alt="[^"]{20,}" src="data:image/png;base64,\w', page)


def made(slide: str) -> list[tuple[str, str]]:
    """Kind and text of the cells of a slide."""
    found = seminar.slide_cells(slide, notebook("02"))
    return [(c.metadata["slideshow"]["slide_type"], c.source.strip()) for c in found]


def test_what_waits_is_a_fragment_and_notes_belong_to_the_slide():
    slide = "## A\n\nnow\n\n. . .\n\nthen\n\n+ **A** one\n+ two\n\nNote:\nsay it\n"
    assert made(slide) == [
        ("slide", "## A\n\nnow"), ("notes", "say it"), ("fragment", "then"),
        ("fragment", "+ **A** one"), ("fragment", "+ two"),
    ]
    options = [cells.tags(c) for c in seminar.slide_cells(slide, notebook("02"))]
    assert options[3:] == [["option"], []]


def test_code_is_a_definition_of_the_notebook():
    *_, (_, source) = made("## A\n{{code: FullFromScratch.write}}\n\nNote:\nx")
    assert source == (
        "```python\ndef write(self, sources, layer, output):\n"
        "    return (*sources, output)\n```"
    )


def test_definitions_are_the_lessons_and_their_remarks_are_left_out():
    lesson = made_up.code("class A:\n    def f(self):    # Eq. 1\n        return 1")
    stub = made_up.code("class A:\n    def g(self):\n        ...", "exercise")
    taken_from = made_up.v4.new_notebook(cells=[lesson, stub])
    assert [*seminar.definitions(taken_from)] == ["A", "A.f"]
    shown = seminar.taken("{{code: A.f}}", taken_from).source
    assert shown == "```python\ndef f(self):\n    return 1\n```"


@pytest.mark.parametrize("line, message", [
    ("{{figure: a cat}}", "fits 0; choose of\n  Above, RNN and PreNorm"),
    ("{{figure: triangle}}", r"fits \d+; choose of\n"),
    ("{{figure: left 50% | RNN and}}", "a part is top 50% or bottom 50%, not 'left 50%'"),
    ("{{code: FullFromScratch.wrote}}", "no definition .*FullFromScratch.write"),
    ("{{film: under a slider}}", "there are figure, code and lens"),
])
def test_a_name_that_does_not_fit_is_an_error_that_says_which_do(line, message):
    with pytest.raises(ValueError, match=message):
        made(f"## A\n{line}\n\nNote:\nx")


def test_an_error_names_the_deck_and_the_slide(tmp_path):
    text = "# A\n\nNote:\nx\n---\n## B\n{{figure: a cat}}\n"
    (tmp_path / "02.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"02\.md, slide 2: figure 'a cat'"):
        seminar.deck(tmp_path / "02.md")


def test_links_lead_to_talks_and_handouts():
    assert slides.place(seminar.FOLDER / "03.md") == "seminar_03.html"
    assert slides.place(cells.ROOT / "notebooks/03_block_attnres.ipynb") == (
        "03_block_attnres.html"
    )
