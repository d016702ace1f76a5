"""One deck of slides per notebook, made of the notebook's own cells by nbconvert.

    make slides
    PYTHONPATH=notebooks/tools python notebooks/site/slides.py 02        # one

What is a slide stands in the cells' metadata (notebooks/README.md, "How a notebook is
built"). The code of a figure is folded. Decks and all they need go to build/slides.
"""

import argparse
import re
import shutil
from importlib.resources import files
from pathlib import Path

from nbconvert import SlidesExporter
from traitlets.config import Config

import cells
import links
import pages
import quiz

SITE = cells.ROOT / "notebooks" / "site"
BUILD = cells.ROOT / "build" / "slides"
OURS = {"deck/course.css": "reveal/dist/theme", "deck/deck.js": ".", "static/icon.svg": "."}
THEIRS = {                             # package (of the extra `site`), file -> folder
    ("sphinx_revealjs", "_static/revealjs/dist/reveal.js"): "reveal/dist",
    ("sphinx_revealjs", "_static/revealjs/dist/reveal.css"): "reveal/dist",
    ("mathjax", "static/mathjax/es5/tex-svg.js"): "mathjax",
}
# Lines of the opening that are not for a room: badge, neighbours, minutes.
NOT_SHOWN = re.compile(
    rf"^(?:.*{re.escape(links.BADGE)}.*|\[(?:Previous|Next|Map)\b.*"
    r"|\*\*Minutes\*\*.*\n+(?:\|.*\n?)+)$",
    re.MULTILINE,
)


def place(path: Path) -> str | None:
    """Links to notebooks lead to their decks."""
    return f"{path.stem}.html" if path.suffix == ".ipynb" else None


def html(path: Path) -> str:
    """The deck of the notebook at `path`, a page that loads nothing from afar."""
    notebook = cells.read(path)
    notebook.cells = [part for cell in notebook.cells for part in quiz.slides(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = pages.moved(NOT_SHOWN.sub("", cell.source), path, place)
    notebook.metadata["title"] = title(path)
    style = {"CSSHTMLHeaderPreprocessor": {"style": "a11y-high-contrast-light"}}
    exporter = SlidesExporter(
        config=Config(style), extra_template_basedirs=[str(SITE)], template_name="deck",
        reveal_url_prefix="reveal", reveal_theme="course", exclude_anchor_links=True,
        exclude_input_prompt=True, exclude_output_prompt=True,
    )
    return exporter.from_notebook_node(notebook)[0]


def title(path: Path) -> str:
    return cells.read(path).cells[0].source.splitlines()[0].removeprefix("# ")


def index(paths: list[Path]) -> str:
    items = "".join(f'<li><a href="{p.stem}.html">{title(p)}</a>' for p in paths)
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" '
        'href="reveal/dist/theme/course.css"><link rel="icon" href="icon.svg">'
        f'<body class="list"><main><h1>Slides</h1><ul>{items}</ul></main></html>\n'
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    paths = cells.asked_for(parser.parse_args(arguments).numbers)
    assets = {SITE / name: folder for name, folder in OURS.items()}
    assets |= {files(package) / name: folder for (package, name), folder in THEIRS.items()}
    for source, folder in assets.items():
        (BUILD / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, BUILD / folder)
    for path in paths:
        (BUILD / f"{path.stem}.html").write_text(html(path), encoding="utf-8")
        print(f"wrote build/slides/{path.stem}.html", flush=True)
    (BUILD / "index.html").write_text(index(cells.notebooks()), encoding="utf-8")


if __name__ == "__main__":
    main()
