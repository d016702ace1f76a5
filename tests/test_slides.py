"""Slides: what a deck shows and what it does not, and that it has all it loads."""

import re

import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

import cells
import quiz
import seminar
import slides

PATHS = cells.notebooks()


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A folder with the deck of notebook 03."""
    for package in ("sphinx_revealjs", "mathjax", "a11y_pygments"):
        pytest.importorskip(package, reason="make slides installs the extra `site`")
    folder = tmp_path_factory.mktemp("slides")
    slides.BUILD, before = folder, slides.BUILD
    slides.main([PATHS[3].name[:2]])
    slides.BUILD = before
    return folder


def test_a_deck_loads_and_links_what_is_there(build):
    names = (PATHS[3].stem, "seminar_03", "index")
    pages = [build / f"{name}.html" for name in names]
    assert set(pages) == set(build.glob("*.html"))
    decks = {f"{path.stem}.html" for path in PATHS}
    decks |= {slides.talk_page(path) for path in seminar.decks()}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        targets = re.findall(r'(?:href|src)="([^"#?]+)', text)
        own = [to for to in targets if not re.match(r"https://|data:", to)]
        theme = "seminar" if page.stem == "seminar_03" else "course"
        assert {f"reveal/dist/theme/{theme}.css", "icon.svg"} <= set(own)
        assert all((build / to).is_file() or to in decks for to in own)
        assert not re.search(r'<(?:script|link)[^>]*(?:src|href)="https?:', text)
    assert decks <= set(targets), "the index lists every deck"


def test_the_lens_beside_the_decks_leads_to_the_decks(build):
    html = (build / "lens" / "index.html").read_text(encoding="utf-8")
    up = re.findall(r'href="\.\./([^"#]+)', html)
    assert len(up) >= 3
    assert {*up} <= {"index.html", *(f"{path.stem}.html" for path in PATHS)}


def test_set_up_badges_and_solutions_are_left_out_and_figures_described(build):
    text = (build / f"{PATHS[3].stem}.html").read_text(encoding="utf-8")
    for absent in ("colab-badge", "<summary>Solution", "<summary>Hint", "subprocess",
                   "Minutes", "Previous:", "start({", "not solved yet"):
        assert absent not in text, absent
    notebook = cells.read(PATHS[3])
    drawing = [c for c in notebook.cells if "image/png" in str(c.get("outputs"))]
    assert text.count("<summary>Code of the figure") == len(drawing) > 3
    shown = [out for cell in drawing for out in cell.outputs]
    pictures = [out for out in shown if "image/png" in out.get("metadata", {})]
    assert all(f'alt="{out.metadata["image/png"]["alt"]}"' in text for out in pictures)


def test_the_three_questions_are_one_section_of_a_slide_each(build):
    text = (build / f"{PATHS[3].stem}.html").read_text(encoding="utf-8")
    asked = [part for part in text.split("<section>") if "<summary>A. " in part]
    assert len(asked) == 3 and all(part.count("<details>") == 3 for part in asked)
    assert "<h2>Three questions" in asked[0] and "<strong>3.</strong>" in asked[2]
    (cell,) = filter(quiz.is_quiz, cells.read(PATHS[3]).cells)
    kinds = [part.metadata["slideshow"]["slide_type"] for part in quiz.slides(cell)]
    assert kinds == ["slide", "subslide", "subslide"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:2])
def test_the_opening_of_a_deck_has_no_badge_and_no_minutes(path):
    opening = "\n\n".join(cell.source for cell in cells.read(path).cells[:4])
    assert "colab-badge" in opening and "**Minutes**" in opening
    shown = slides.NOT_SHOWN.sub("", opening)
    assert "colab-badge" not in shown and "Map" not in shown
    assert "Minutes" not in shown and "These are minutes" not in shown


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:2])
def test_objectives_are_the_second_slide_and_the_first_section_the_third(path):
    first, second, third, *_ = slides.of_slides(slides.shown(cells.read(path)))
    assert first[0].source.startswith("# ") and "**Objectives**" not in first[0].source
    assert second[0].source.startswith("**Objectives**")
    assert third[0].source.startswith("## ")


def test_a_long_text_under_a_figure_goes_on_the_next_slide():
    def sources(text, kind="-"):
        cell = new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})
        parts = slides.parted(cell)
        kinds = [part.metadata["slideshow"]["slide_type"] for part in parts]
        assert kinds == ["-", "subslide"][:len(parts)]
        return [part.source for part in parts]

    long = "word " * 150
    for kind in ("-", "subslide"):
        assert sources(f"*Figure: a line.*\n\n{long}", kind) == ["*Figure: a line.*", long]
    for kept in (f"words\n\n{long}", "*Figure: a line.*\n\na remark"):
        assert sources(kept) == [kept]


def held(slide) -> str:
    """What a slide has to show: words, code, printed lines; a picture is worth some."""
    parts = []
    for cell in slide:
        parts.append(cell.source)
        for output in cell.get("outputs", []):
            parts.append(output.get("text", ""))
            parts.append("picture" * 30 if "image/png" in output.get("data", {}) else "")
    return "".join(parts).strip()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:2])
def test_no_slide_holds_next_to_nothing(path):
    notebook = slides.shown(cells.read(path))
    assert "not solved yet" not in str(notebook.cells)
    assert [held(s) for s in slides.of_slides(notebook) if len(held(s)) < 150] == []


def test_an_empty_slide_is_gathered():
    def cell(text, kind, tags=()):
        metadata = {"slideshow": {"slide_type": kind}, "tags": list(tags)}
        return new_markdown_cell(text, metadata=metadata)

    words = "word " * 60
    notebook = new_notebook(cells=[
        cell("## A", "slide"), cell(words, "subslide"), cell("a remark", "subslide"),
        cell("### Exercise", "subslide"), cell("stub", "-", ["exercise"]),
        cell("stub", "subslide", ["exercise"]), cell(words, "subslide"),
    ])
    slides.gather(notebook)
    sizes = [len(slide) for slide in slides.of_slides(notebook)]
    assert sizes == [3, 2, 1]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:2])
def test_sections_are_slides_of_a_size(path):
    kinds, shown = [], 0
    for cell in cells.read(path).cells:
        kind = cell.metadata["slideshow"]["slide_type"]
        if cell.cell_type == "markdown":
            is_section = cell.source.startswith(("# ", "## "))
            assert (kind == "slide") == is_section, cell.source[:60]
            folded = cell.source.startswith("<details>")
            assert (kind == "skip") == folded, cell.source[:60]
        kinds.append(kind)
        shown = 0 if kind in ("slide", "subslide") else shown + (kind == "-")
        assert shown <= 5, f"six cells on a slide: {cell.source[:60]}"
    assert 10 < sum(kind in ("slide", "subslide") for kind in kinds) < 80
