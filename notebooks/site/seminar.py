"""Seminar decks: talks of 45 minutes, written in Markdown, with the notebooks' own figures.

seminar/02.md is the talk on notebook 02. A line `---` stands between slides, and a line of
its own may be

    {{figure: piece of its alt text}}   a figure of the notebook's stored outputs
    {{figure: top 52% | piece ...}}     its upper part alone, or `bottom`: it has panels
    {{code: FullFromScratch.read}}      a definition of the notebook
    {{lens: residual=full | piece ...}}  the depth lens; a figure where none can run
    . . .                               what follows waits for a key
    + item                              an item that waits for a key
    + **A** item                        the same, as one of the answers to a poll
    Note:                               the rest is for the speaker, who presses S

slides.py makes the pages of it, seminar_02.html and so on.
"""

import ast
import html
import re
import textwrap
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import cells

FOLDER = cells.ROOT / "notebooks" / "site" / "seminar"
BETWEEN = re.compile(r"^---\n", re.MULTILINE)
WAITS = re.compile(r"^\. \. \.\n|^(?=\+ )", re.MULTILINE)
FROM_NOTEBOOK = re.compile(r"^(\{\{\w+: .+?\}\})$", re.MULTILINE)
REMARK = re.compile(r" {2,}# .*$", re.MULTILINE)      # at the end of a line of code
OPTION = re.compile(r"\+ \*\*\w\*\* ")       # of a poll
PART = re.compile(r"(top|bottom) (\d+)%")

# reveal.js loads data-src when the slide comes near, and keeps it while it is near.
LENS = """<div class="lens">
<div class="frame">
<iframe data-src="lens/index.html?embed#{state}" data-preload title="Depth lens"></iframe>
</div>
<img alt="{alt}" src="data:image/png;base64,{png}">
<a href="lens/index.html#{state}" target="_blank">The lens on a page of its own</a>
</div>"""


def decks() -> list[Path]:
    return sorted(FOLDER.glob("[0-9][0-9].md"))


def slides(text: str) -> list[str]:
    return BETWEEN.split(text)


def title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def parts(slide: str) -> tuple[str, str]:
    """What is shown, and the speaker's notes."""
    shown, _, notes = slide.partition("\nNote:")
    return shown.strip() + "\n", notes.strip()


def figures(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """The outputs that are pictures, by alt text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    return {output.metadata["image/png"]["alt"]: output for output in drawn}


def definitions(notebook: NotebookNode) -> dict[str, str]:
    """The source of every function, class and method outside the exercises, by name."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "exercise" not in cells.tags(cell):
            for name, node in named(ast.parse(cell.source)):
                source = ast.get_source_segment(cell.source, node, padded=True)
                found[name] = textwrap.dedent(source)
    return found


def named(owner: ast.AST, before: str = "") -> Iterator[tuple[str, ast.AST]]:
    """What is defined in `owner`; a method's name begins with that of its class."""
    for node in owner.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield before + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from named(node, f"{before}{node.name}.")


def the_one(kind: str, words: str, things: Mapping):
    """The thing whose name holds `words`. Raises ValueError unless there is just one."""
    found = [name for name in things if words in name]
    if len(found) != 1:
        there = "\n  ".join(found or things)
        raise ValueError(f"{kind} {words!r} fits {len(found)}; choose of\n  {there}")
    return things[found[0]]


def part(output: NotebookNode, side: str, percent: int) -> NotebookNode:
    """The upper or lower panels of a picture, which a room could not read beside others."""
    whole = Image.open(BytesIO(b64decode(output.data["image/png"])))
    height = round(whole.height * percent / 100)
    above = 0 if side == "top" else whole.height - height
    png = BytesIO()
    whole.crop((0, above, whole.width, above + height)).save(png, "PNG")
    alt = f"The {side} of a figure. {output.metadata['image/png']['alt']}"
    return new_output(
        "display_data", {"image/png": b64encode(png.getvalue()).decode()},
        metadata={"image/png": {"alt": alt}},
    )


def taken(line: str, notebook: NotebookNode) -> NotebookNode:
    """The cell that a line like {{figure: ...}} stands for."""
    kind, _, words = line.strip("{}").partition(": ")
    if kind == "code":
        names = definitions(notebook)
        if words not in names:
            raise ValueError(f"no definition {words!r}; choose of {', '.join(names)}")
        source = REMARK.sub("", names[words])      # a slide is narrow
        return new_markdown_cell(f"```python\n{source}\n```")
    how, _, words = words.rpartition(" | ")
    output = the_one(kind, words, figures(notebook))
    if kind == "lens":
        alt, png = output.metadata["image/png"]["alt"], output.data["image/png"]
        page = LENS.format(state=html.escape(how), alt=html.escape(alt), png=png)
        output = new_output("display_data", {"text/html": page})
    elif kind != "figure":
        raise ValueError(f"{line}: there are figure, code and lens")
    elif how:
        if not (asked := PART.fullmatch(how)):
            raise ValueError(f"{line}: a part is top 50% or bottom 50%, not {how!r}")
        output = part(output, asked[1], int(asked[2]))
    return new_code_cell(outputs=[output], metadata={"tags": [kind]})


def slide_cells(slide: str, notebook: NotebookNode) -> Iterator[NotebookNode]:
    shown, notes = parts(slide)
    kind = "slide"
    for step in WAITS.split(shown):
        for piece in FROM_NOTEBOOK.split(step):
            if piece.strip():
                is_taken = FROM_NOTEBOOK.match(piece)
                cell = taken(piece, notebook) if is_taken else new_markdown_cell(piece)
                cell.metadata["slideshow"] = {"slide_type": kind}
                if OPTION.match(piece):
                    cell.metadata["tags"] = ["option"]
                yield cell
                if kind == "slide":        # notes belong to the slide, not to a fragment
                    metadata = {"slideshow": {"slide_type": "notes"}}
                    yield new_markdown_cell(notes, metadata=metadata)
                kind = "-"
        kind = "fragment"


def deck(path: Path) -> NotebookNode:
    """A notebook of the talk at `path`, in memory, for the exporter of slides."""
    (source,) = cells.asked_for([path.stem])
    notebook, made = cells.read(source), []
    for number, slide in enumerate(slides(path.read_text(encoding="utf-8")), start=1):
        try:
            made += slide_cells(slide, notebook)
        except ValueError as error:
            raise ValueError(f"{path.name}, slide {number}: {error}") from None
    result = new_notebook(cells=made)
    nbformat.validate(result)
    return result
