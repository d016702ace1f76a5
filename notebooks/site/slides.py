"""One deck of slides per notebook, made of the notebook's own cells.

    python notebooks/site/slides.py           # all; what `make slides` does
    python notebooks/site/slides.py 02        # one

Nothing in a notebook says what a slide is; its structure does. A `#` or `##` heading
starts a slide, `###` one below it, and so does whatever would not fit any more. A code
cell, its output and the caption of its figure stay together; the code of a figure is
folded. Set-up, badges, minutes, hints and solutions are left out. Decks and all they need
go to build/slides.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbconvert import SlidesExporter
from nbformat import NotebookNode, v4
from traitlets.config import Config

import cells
import links
import outputs
import pages
import web_assets

SITE = cells.ROOT / "notebooks" / "site"
THEME = "reveal/dist/theme/course.css"
LINES = 21         # of a slide
COLUMNS = 80       # of prose
FIGURE = 14.5      # lines that a row of figures takes
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
NAVIGATION = re.compile(r"^\[(?:Previous|Next|Map)\b.*$", re.MULTILINE)
MINUTES = re.compile(r"^\*\*Minutes\*\*.*\n+(?:\|.*\n?)+", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$|^\$\$.*?\$\$\s*$", re.MULTILINE | re.DOTALL)


@dataclass
class Part:
    """What cannot be divided between slides: a paragraph, or a code cell."""

    cell: NotebookNode
    lines: float

    @property
    def level(self) -> int:
        """1 to 6 for a paragraph that is a heading, else 0."""
        heading = self.is_prose and re.match(r"(#+) ", self.cell.source)
        return len(heading[1]) if heading else 0

    @property
    def is_prose(self) -> bool:
        return self.cell.cell_type == "markdown"

    @property
    def announces(self) -> bool:
        """Whether it belongs with what follows: a heading, "... as a table:"."""
        return self.level > 0 or self.is_prose and self.cell.source.endswith(":")

    @property
    def is_caption(self) -> bool:
        return self.is_prose and self.cell.source.startswith("*Figure:")


def parts(notebook: NotebookNode) -> Iterator[Part]:
    """The notebook's paragraphs and code cells, without what is not for a room."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_set_up(cell):
            mark_figures(cell)
            yield Part(cell, code_lines(cell))
        elif cell.cell_type == "markdown":
            for text in paragraphs(cell.source):
                yield Part(v4.new_markdown_cell(text), prose_lines(text))


def is_set_up(cell: NotebookNode) -> bool:
    tagged = {"bootstrap", "imports"} & set(cells.tags(cell))
    return bool(tagged) or bool(outputs.STARTS.search(cell.source))


def figures(cell: NotebookNode) -> int:
    return sum("image/png" in out.get("data", {}) for out in cell.outputs)


def mark_figures(cell: NotebookNode) -> None:
    """Tag a cell that draws, for the template, which folds its code."""
    if count := figures(cell):
        cell.metadata["tags"] = [*cells.tags(cell), "figure" if count == 1 else "figures"]


def paragraphs(source: str) -> list[str]:
    """Markdown cut at blank lines and after headings; fenced code and $$ stay whole."""
    for pattern in (DETAILS, NAVIGATION, MINUTES):
        source = pattern.sub("", source)
    source = "\n".join(line for line in source.splitlines() if links.BADGE not in line)
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0].strip())
        return f"\n\n\0{len(kept) - 1}\0\n\n"

    source = re.sub(r"^(#+ .+)$", r"\1\n", FENCE.sub(keep, source), flags=re.MULTILINE)
    found = [text.strip() for text in re.split(r"\n\s*\n", source) if text.strip()]
    return [kept[int(text[1:-1])] if text.startswith("\0") else text for text in found]


def prose_lines(text: str) -> float:
    if text.startswith("|"):
        return 1.5 * text.count("\n") + 1
    if text.startswith("$$"):
        return 3
    if text.startswith("```"):
        return 1 + 0.75 * text.count("\n")
    return 0.8 + sum(1 + len(line) // COLUMNS for line in text.splitlines())


def code_lines(cell: NotebookNode) -> float:
    """Height of code and output, in smaller type than prose."""
    text = "".join(out.get("text", "") for out in cell.outputs)
    if figures(cell):
        return 1 + FIGURE + 0.75 * text.count("\n")
    return 1 + 0.75 * (cell.source + "\n" + text).count("\n")


def slides(found: list[Part]) -> Iterator[list[Part]]:
    """Fill slides with parts, in order."""
    slide: list[Part] = []
    for place, part in enumerate(found):
        follows = found[place + 1] if place + 1 < len(found) else None
        need = part.lines + (follows.lines if follows and part.announces else 0)
        full = sum(other.lines for other in slide) + need > LINES
        after_heading = bool(slide) and slide[-1].level
        starts = 0 < part.level <= 3 and not after_heading
        if slide and not part.is_caption and (starts or full and not slide[-1].announces):
            yield slide
            slide = []
        slide.append(part)
    if slide:
        yield slide


def deck(notebook: NotebookNode) -> NotebookNode:
    """A notebook of the same cells, with nbconvert's slide types."""
    found = v4.new_notebook(metadata=dict(notebook.metadata))
    for slide in slides(list(parts(notebook))):
        below = slide[0].level not in (1, 2)
        for place, part in enumerate(slide):
            kind = "-" if place else "subslide" if below else "slide"
            part.cell.metadata["slideshow"] = {"slide_type": kind}
            found.cells.append(part.cell)
    return found


def relinked(text: str, page: Path, repo: str) -> str:
    """Links to other notebooks lead to their decks, links to other files to GitHub."""

    def new(link: str) -> str:
        if (target := pages.resolve(link, page)) is None or not target[0].exists():
            return link
        path, _ = target
        if path == page:
            return "#/"
        same = path.parent == page.parent and path.suffix == ".ipynb"
        return path.with_suffix(".html").name if same else pages.public(path, repo)

    return pages.relinked(text, new)


def html(path: Path, repo: str) -> str:
    """The deck of the notebook at `path`, a page that loads nothing from afar."""
    notebook = deck(cells.read(path))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path, repo)
    notebook.metadata["title"] = notebook.cells[0].source.removeprefix("# ")
    config = Config()
    config.CSSHTMLHeaderPreprocessor.style = "a11y-high-contrast-light"
    exporter = SlidesExporter(
        config=config, extra_template_basedirs=[str(SITE)], template_name="deck",
        reveal_url_prefix="reveal", reveal_theme="course", exclude_anchor_links=True,
        exclude_input_prompt=True, exclude_output_prompt=True,
    )
    return exporter.from_notebook_node(notebook)[0]


def index(paths: list[Path]) -> str:
    titles = {path: cells.read(path).cells[0].source.splitlines()[0][2:] for path in paths}
    items = "".join(
        f'<li><a href="{path.stem}.html">{title}</a></li>' for path, title in titles.items()
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return (
        f'<!DOCTYPE html><html lang="en"><head>{head}<title>Slides</title>'
        f'<link rel="icon" href="icon.svg"><link rel="stylesheet" href="{THEME}"></head>'
        f'<body class="list"><main><h1>Slides</h1><ul>{items}</ul></main></body></html>\n'
    )


def main(numbers: list[str], build: Path = cells.ROOT / "build" / "slides") -> None:
    repo = links.setting()
    web_assets.reveal(build / "reveal")
    web_assets.mathjax(build / "mathjax")
    (build / "reveal" / "dist" / "theme").mkdir(exist_ok=True)
    shutil.copy(SITE / "deck" / "deck.css", build / THEME)
    for name in ("deck/deck.js", "static/icon.svg"):
        shutil.copy(SITE / name, build)
    for path in cells.notebooks():
        if not numbers or path.name[:2] in numbers:
            (build / f"{path.stem}.html").write_text(html(path, repo), encoding="utf-8")
            print(f"wrote build/slides/{path.stem}.html", flush=True)
    (build / "index.html").write_text(index(cells.notebooks()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
