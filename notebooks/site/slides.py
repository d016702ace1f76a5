"""Decks of slides, made by nbconvert: a handout of every notebook, and talks on some.

    make slides
    PYTHONPATH=notebooks/tools:notebooks/site python notebooks/site/slides.py 02     # one

A handout has the notebook's own cells; what is a slide stands in their metadata
(notebooks/README.md, "How a notebook is built"), and the code of a figure is folded. A
talk is written by hand, see seminar.py. Decks and all they need go to build/slides.
"""

import argparse
import re
import shutil
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path

from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from traitlets.config import Config

import cells
import lens_page
import links
import pages
import quiz
import seminar

SITE = cells.ROOT / "notebooks" / "site"
BUILD = cells.ROOT / "build" / "slides"
OURS = {
    "deck/course.css": "reveal/dist/theme", "deck/seminar.css": "reveal/dist/theme",
    "deck/deck.js": ".", "static/icon.svg": ".",
}
THEIRS = {                             # package (of the extra `site`), file -> folder
    ("sphinx_revealjs", "_static/revealjs/dist/reveal.js"): "reveal/dist",
    ("sphinx_revealjs", "_static/revealjs/dist/reveal.css"): "reveal/dist",
    ("sphinx_revealjs", "_static/revealjs/plugin/notes/notes.js"): "reveal/plugin/notes",
    ("mathjax", "static/mathjax/es5/tex-svg.js"): "mathjax",
}
# Lines of the opening that are not for a room: badge, neighbours, minutes.
NOT_SHOWN = re.compile(
    rf"^(?:.*{re.escape(links.BADGE)}.*|\[(?:Previous|Next|Map)\b.*"
    r"|\*\*Minutes\*\*.*\n+(?:\|.*\n?)+|These are minutes .*)$",
    re.MULTILINE,
)
OBJECTIVES = "**Objectives**"          # begin a slide, with all up to the first section
CAPTION = "*Figure: "                  # stays with its figure
LONG = 600                             # characters under a figure; the next slide has them
LITTLE = 180                           # characters; too few for a slide of their own


def place(path: Path) -> str | None:
    """Links to notebooks lead to their decks, and those to talks to the talks."""
    if path.parent == seminar.FOLDER:
        return talk_page(path)
    return f"{path.stem}.html" if path.suffix == ".ipynb" else None


def talk_page(path: Path) -> str:
    return f"seminar_{path.stem}.html"


def handout(path: Path) -> str:
    """The deck of the notebook at `path`."""
    return html(shown(cells.read(path)), path, "course")


def shown(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what is not for a room, changed in place."""
    notebook.cells = [part for cell in notebook.cells for part in quiz.slides(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = NOT_SHOWN.sub("", cell.source)
        elif "exercise" in cells.tags(cell):
            cell.outputs = []          # "not solved yet"
    notebook.cells = [part for cell in notebook.cells for part in parted(cell)]
    gather(notebook)
    return notebook


def parted(cell: NotebookNode) -> list[NotebookNode]:
    """Objectives, or a long text under a figure, begin a slide."""
    first, _, rest = cell.source.partition("\n\n")
    if OBJECTIVES in cell.source:
        first, begin, rest = cell.source.partition(OBJECTIVES)
        rest = begin + rest
    elif not first.startswith(CAPTION) or len(rest) < LONG:
        return [cell]
    else:
        cell.metadata["slideshow"]["slide_type"] = "-"
    cell.source = first
    metadata = {"slideshow": {"slide_type": "subslide"}}
    return [cell, new_markdown_cell(rest, metadata=metadata)]


def gather(notebook: NotebookNode) -> None:
    """A slide that holds little goes on the one before it; where it opens a section, the
    next one comes to it, as to the objectives. A stub that stands alone is left out."""
    opens = False
    for slide in of_slides(notebook):
        where, little = slide[0].metadata["slideshow"], holds_little(slide)
        if all("exercise" in cells.tags(cell) for cell in slide):
            where["slide_type"] = "skip"
        elif where["slide_type"] == "subslide" and (little or opens):
            where["slide_type"] = "-"
        opens = slide[0].source.startswith(OBJECTIVES) or (
            where["slide_type"] == "slide" and little
        )


def of_slides(notebook: NotebookNode) -> list[list[NotebookNode]]:
    """The cells of each slide, without those that are not shown."""
    slides = []
    for cell in notebook.cells:
        kind = cell.metadata["slideshow"]["slide_type"]
        if kind in ("slide", "subslide"):
            slides.append([])
        if kind != "skip":
            slides[-1].append(cell)
    return slides


def holds_little(slide: list[NotebookNode]) -> bool:
    """A sentence or two: no formula, no code, no exercise."""
    text = slide[0].source
    is_more = len(slide) > 1 or slide[0].cell_type == "code" or "$$" in text
    return not is_more and len(text) < LITTLE and not text.startswith("### ")


def talk(path: Path) -> str:
    """The seminar deck written at `path`."""
    return html(seminar.deck(path), path, "seminar", exclude_input=True)


def html(notebook: NotebookNode, path: Path, theme: str, **settings) -> str:
    """A deck that loads nothing from afar, with the links that hold at `path` moved."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = pages.moved(cell.source, path, place)
    notebook.metadata["title"] = title(notebook)
    style = {"CSSHTMLHeaderPreprocessor": {"style": "a11y-high-contrast-light"}}
    exporter = SlidesExporter(
        config=Config(style), extra_template_basedirs=[str(SITE)], template_name="deck",
        reveal_url_prefix="reveal", reveal_theme=theme, exclude_anchor_links=True,
        exclude_input_prompt=True, exclude_output_prompt=True, **settings,
    )
    return exporter.from_notebook_node(notebook)[0]


def title(notebook: NotebookNode) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def index() -> str:
    """The page that lists talks, then handouts."""
    talks = {talk_page(p): f"{p.stem} · {seminar.title(p)}" for p in seminar.decks()}
    handouts = {f"{path.stem}.html": title(cells.read(path)) for path in cells.notebooks()}
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" '
        'href="reveal/dist/theme/course.css"><link rel="icon" href="icon.svg">'
        '<body class="list"><main><h1>Slides</h1><h2>Talks of 45 minutes</h2>'
        "<p>Press S for the speaker's notes and F for the full screen.</p>"
        f"<ul>{listed(talks)}</ul><h2>Handouts</h2>"
        "<p>The cells of every notebook, for reading afterwards.</p>"
        f"<ul>{listed(handouts)}</ul></main></html>\n"
    )


def listed(decks: dict[str, str]) -> str:
    return "".join(f'<li><a href="{to}">{escape(said)}</a>' for to, said in decks.items())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    paths = cells.asked_for(parser.parse_args(arguments).numbers)
    assets = {SITE / name: folder for name, folder in OURS.items()}
    assets |= {files(package) / name: folder for (package, name), folder in THEIRS.items()}
    for source, folder in assets.items():
        (BUILD / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, BUILD / folder)
    lens_page.copy_to(BUILD / "lens", notebooks="..")      # the handouts
    numbers = [path.name[:2] for path in paths]
    made = {f"{path.stem}.html": partial(handout, path) for path in paths}
    made |= {talk_page(p): partial(talk, p) for p in seminar.decks() if p.stem in numbers}
    for name, page in made.items():
        (BUILD / name).write_text(page(), encoding="utf-8")
        print(f"wrote build/slides/{name}", flush=True)
    (BUILD / "index.html").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
