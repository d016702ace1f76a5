"""The anatomy of a notebook, as rules that read its JSON.

    python notebooks/tools/lint.py           # every notebook
    python notebooks/tools/lint.py 02 03     # two of them

notebooks/README.md, "How a notebook is built", says the same in words. A rule is a
function of a `Page` that yields one sentence per fault; `faults` runs them all.
"""

import argparse
import ast
import re
import statistics
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import nbformat

import cells
import devices
import links
import outputs
import pages
import quiz

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class Page:
    """A notebook with its place in the course.

    code:  its code cells, with their index
    trees: those that are plain Python, parsed
    """

    def __init__(self, path: Path) -> None:
        self.path, self.root = path, path.parent.parent
        self.notebook = cells.read(path)
        self.cells, self.prose = self.notebook.cells, cells.prose(self.notebook)
        self.code = [(i, c) for i, c in enumerate(self.cells) if c.cell_type == "code"]
        self.trees: list[tuple[int, ast.Module]] = []
        for index, cell in self.code:
            with suppress(SyntaxError):
                self.trees.append((index, ast.parse(cell.source)))
        pairs = pairwise(cells.notebooks(self.root))
        self.neighbours = [a if b == path else b for a, b in pairs if path in (a, b)]


def is_valid(page: Page) -> Iterator[str]:
    try:
        nbformat.validate(page.notebook)
    except nbformat.ValidationError as error:
        yield f"is not valid nbformat: {error.message}"
    metadata = page.notebook.metadata
    if metadata.get("kernelspec") != KERNEL:
        yield f"needs the kernelspec that JupyterLab writes on opening it, {KERNEL}"
    if metadata.get("accelerator") != "GPU":
        yield 'needs "accelerator": "GPU" in its metadata, which Colab reads'


def opens_with_title_and_links(page: Page) -> Iterator[str]:
    first = page.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "cell 0: must be markdown that starts with a title, # ..."
    if links.badge(links.setting(page.root), page.path.name) not in first.source:
        yield "cell 0: lacks the Colab badge of this notebook; see links.badge"
    for neighbour in page.neighbours:
        if f"]({neighbour.name})" not in first.source:
            yield f"cell 0: lacks the link to its neighbour {neighbour.name}"


def has_no_dead_link(page: Page) -> Iterator[str]:
    yield from pages.dead_links(page.path, page.root)
    for link in pages.targets(page.prose):
        if pages.resolve(link, page.path)[0].is_dir():
            yield f"links to {link}, a folder, which JupyterLab does not open"


def says_what_is_a_slide(page: Page) -> Iterator[str]:
    for index, cell in enumerate(page.cells):
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        if kind not in ("slide", "subslide", "fragment", "-", "notes", "skip"):
            yield f"cell {index}: lacks a slide type, in metadata.slideshow.slide_type"
        if kind != "skip" and {"bootstrap", "imports", "solution"} & {*cells.tags(cell)}:
            yield f"cell {index}: is no slide, by its tag, so its type is skip"


def says_what_it_promises(page: Page) -> Iterator[str]:
    first_code = page.code[0][0] if page.code else len(page.cells)
    top = "\n\n".join(c.source for c in page.cells[:first_code])
    for word in ("Objectives", "Minutes", "Prerequisites"):
        if f"**{word}**" not in top:
            yield f"the cells before the first code lack **{word}**"
    goals = re.search(r"\*\*Objectives\*\*\s+((?:^(?:[-*]|\d\.) .+\n?)+)", top, re.M)
    count = len(re.findall(r"^(?:[-*]|\d\.) ", goals[1], re.M)) if goals else 0
    if not 3 <= count <= 5:
        yield f"**Objectives** lists {count} items, not 3 to 5"
    for word in ("Takeaways", "References"):
        if not re.search(rf"^## {word}$", page.prose, re.MULTILINE):
            yield f"lacks the closing heading ## {word}"


def starts_with_the_bootstrap(page: Page) -> Iterator[str]:
    ours = cells.tagged(page.notebook, "bootstrap")
    if [c for _, c in page.code][:1] != ours:
        yield "the first code cell, and no other, must carry the tag bootstrap"
    for neighbour in page.neighbours:
        others = cells.tagged(cells.read(neighbour), "bootstrap")
        if [cell.source for cell in ours] != [cell.source for cell in others]:
            yield f"the bootstrap cell differs from that of {neighbour.name}"
    if not any(outputs.STARTS.search(cell.source) for _, cell in page.code):
        yield "no cell calls attnres_ref.notebook.start, which prints the device"


def keeps_its_size(page: Page) -> Iterator[str]:
    if len(page.cells) > 90:
        yield f"has {len(page.cells)} cells, more than 90"
    for index in range(len(page.cells) - 2):
        if all(c.cell_type == "code" for c in page.cells[index : index + 3]):
            yield f"cell {index}: starts three code cells in a row"
    lengths = []
    for index, cell in page.code:
        lines = cell.source.splitlines()
        lengths.append(sum(bool(re.match(r"\s*[^\s#]", line)) for line in lines))
        if len(lines) > 40:
            yield f"cell {index}: has {len(lines)} lines, more than 40"
        if any(len(line) > 80 for line in lines):
            yield f"cell {index}: has a line of more than 80 columns"
    if lengths and statistics.median(lengths) > 8:
        yield f"the median code cell has {statistics.median(lengths):g} lines, not <= 8"


def has_plain_python(page: Page) -> Iterator[str]:
    """No magics: a magic does not parse, and nbval passes a cell whose magic fails."""
    plain = [index for index, _ in page.trees]
    for index, cell in page.code:
        if index not in plain:
            yield f"cell {index}: is not plain Python (a magic?)"
        shell = re.search(r"\b(subprocess|os\.system|get_ipython)\b", cell.source)
        if shell and "bootstrap" not in cells.tags(cell):
            yield f"cell {index}: uses {shell[0]}; only the bootstrap cell may"


def has_exercises(page: Page) -> Iterator[str]:
    for index, cell in page.code:
        if re.search(r"^check\(", cell.source, re.MULTILINE) and (
            "exercise" not in cells.tags(cell)
        ):
            yield f"cell {index}: calls check(...) without the tag exercise"
    try:
        names = [exercise.name for exercise in cells.exercises(page.notebook)]
    except ValueError as error:
        yield str(error)
        return
    if len(names) < 3:
        yield f"has {len(names)} exercises, fewer than 3"
    titles = [match["title"].lower() for match in cells.HEADING.finditer(page.prose)]
    if not any("spot the bug" in title for title in titles):
        yield 'no exercise has "spot the bug" in its heading'
    expected = [f"{page.path.name[:2]}.{n}" for n in range(1, len(names) + 1)]
    if names != expected:
        yield f"exercises are to be named {', '.join(expected)}, in this order"


def shows_what_the_package_has(page: Page) -> Iterator[str]:
    """A definition in an `inline` cell equals the package's, docstrings aside."""
    folders = ("attnres_ref", "kernels", "notebooks/exercises")
    files = [path for folder in folders for path in (page.root / folder).rglob("*.py")]
    package = [definitions(ast.parse(path.read_text(encoding="utf-8"))) for path in files]
    for index, tree in page.trees:
        if "inline" not in cells.tags(page.cells[index]):
            continue
        shown = definitions(tree)
        if not shown:
            yield f"cell {index}: carries the tag inline and defines nothing"
        for name, ours in shown.items():
            theirs = [module[name] for module in package if name in module]
            if not theirs:
                yield f"cell {index}: the package has no {name}"
            elif ours not in theirs:
                yield f"cell {index}: {name} differs from the package's"


def definitions(tree: ast.Module) -> dict[str, str]:
    """The top-level functions and classes of `tree` as text, by name, without positions
    and docstrings. Takes the docstrings out of `tree`."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return {node.name: ast.dump(node) for node in tree.body if isinstance(node, kinds)}


RULES = [
    is_valid,
    opens_with_title_and_links,
    has_no_dead_link,
    says_what_is_a_slide,
    says_what_it_promises,
    starts_with_the_bootstrap,
    keeps_its_size,
    has_plain_python,
    has_exercises,
    shows_what_the_package_has,
    *devices.RULES,
    *outputs.RULES,
    *quiz.RULES,
]


def faults(path: Path) -> list[str]:
    """Everything wrong with the notebook at `path`, one sentence each."""
    page = Page(path)
    return [fault for rule in RULES for fault in rule(page)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    paths = cells.asked_for(parser.parse_args(arguments).numbers)
    lines = [f"{path.name}: {fault}" for path in paths for fault in faults(path)]
    print("\n".join(lines) or "no faults")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
