"""Slides: cut by structure, complete, in order, and about as full as a screen."""

import pytest
from nbformat import v4

import cells
import slides
from made_up import make_course


def kinds(deck):
    return [cell.metadata["slideshow"]["slide_type"] for cell in deck.cells]


def made_of(*texts):
    return v4.new_notebook(cells=[v4.new_markdown_cell(text) for text in texts])


def test_headings_start_slides():
    deck = slides.deck(made_of("# T\n\na", "## S\n\nb\n\n### X\n\nc", "d"))
    found = [cell.source for cell in deck.cells]
    assert found == ["# T", "a", "## S", "b", "### X", "c", "d"]
    assert kinds(deck) == ["slide", "-", "slide", "-", "subslide", "-", "-"]


def test_a_heading_below_a_heading_shares_its_slide():
    assert kinds(slides.deck(made_of("## S\n\n### X\n\na"))) == ["slide", "-", "-"]


def test_what_does_not_fit_goes_below():
    deck = slides.deck(made_of("## S", *["word " * 60] * 9))
    assert kinds(deck)[0] == "slide" and kinds(deck).count("subslide") >= 1
    for slide in slides.slides(list(slides.parts(deck))):
        assert sum(part.lines for part in slide) <= slides.LINES


def test_a_figure_keeps_its_caption_and_an_announcement_its_table():
    picture = v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    notebook = made_of("## S", *["word " * 60] * 2)
    notebook.cells += [v4.new_code_cell("draw()", outputs=[picture])]
    notebook.cells += [v4.new_markdown_cell("*Figure: a line.*\n\nAs a table:")]
    notebook.cells += [v4.new_markdown_cell("| a |\n|---|\n" + "| 1 |\n" * 9)]
    packed = slides.slides(list(slides.parts(notebook)))
    found = [[part.cell.source[:8] for part in slide] for slide in packed]
    assert ["draw()", "*Figure:"] in found
    assert found[-1][0] == "As a tab" and found[-1][1].startswith("| a |")


def test_set_up_badges_and_solutions_are_left_out(tmp_path):
    notebook = cells.read(cells.notebooks(make_course(tmp_path))[0])
    text = "\n".join(cell.source for cell in slides.deck(notebook).cells)
    assert "# 00 · Start" in text and "Exercise 00.1" in text
    for absent in ("colab-badge", "<details>", "an operator", "subprocess", "**Minutes"):
        assert absent not in text


def test_code_and_formulas_stay_whole():
    source = "a\n\n```python\nx = 1\n\n# no heading\ny = 2\n```\n\n$$\na\n\nb\n$$\n\nc"
    assert slides.paragraphs(source)[1:3] == [
        "```python\nx = 1\n\n# no heading\ny = 2\n```", "$$\na\n\nb\n$$",
    ]


@pytest.mark.parametrize("path", cells.notebooks(), ids=lambda path: path.name[:2])
def test_every_notebook_makes_a_deck(path):
    notebook = cells.read(path)
    deck = slides.deck(notebook)
    assert deck.cells[0].source.startswith("# ")
    shown = [cell.source for cell in deck.cells if cell.cell_type == "code"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert shown == [cell.source for cell in code if not slides.is_set_up(cell)]
    assert 10 < sum(kind != "-" for kind in kinds(deck)) < 80
