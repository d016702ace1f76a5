"""The anatomy of a notebook, as rules that read its JSON.

    python notebooks/tools/lint.py           # every notebook
    python notebooks/tools/lint.py 02 03     # two of them

notebooks/README.md, "How a notebook is built", says the same in words. A rule is a
function of a `Page` that yields one sentence per fault; `faults` runs them all.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import cells
import devices
import links
import outputs


@dataclass(frozen=True)
class Page:
    """A notebook with its place in the course."""

    path: Path

    @cached_property
    def notebook(self) -> NotebookNode:
        return cells.read(self.path)

    @property
    def root(self) -> Path:
        return self.path.parent.parent

    @property
    def cells(self) -> list[NotebookNode]:
        return self.notebook.cells

    @property
    def code(self) -> list[tuple[int, NotebookNode]]:
        return [(i, c) for i, c in enumerate(self.cells) if c.cell_type == "code"]

    @cached_property
    def prose(self) -> str:
        found = [c.source for c in self.cells if c.cell_type == "markdown"]
        return "\n\n".join(found)


def is_valid(page: Page) -> Iterator[str]:
    try:
        nbformat.validate(page.notebook)
    except nbformat.ValidationError as error:
        yield f"is not valid nbformat: {error.message}"
    metadata = page.notebook.metadata
    if metadata.get("kernelspec", {}).get("name") != "python3":
        yield "needs the kernelspec python3 in its metadata"
    if metadata.get("accelerator") != "GPU":
        yield 'needs "accelerator": "GPU" in its metadata, which Colab reads'


def opens_with_title_and_links(page: Page) -> Iterator[str]:
    first = page.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "cell 0: must be markdown that starts with a title, # ..."
    if links.badge(links.setting(page.root), page.path.name) not in first.source:
        yield "cell 0: lacks the Colab badge of this notebook; see links.badge"
    order = cells.notebooks(page.root)
    place = order.index(page.path)
    for neighbour in order[max(place - 1, 0) : place] + order[place + 1 : place + 2]:
        if f"]({neighbour.name})" not in first.source:
            yield f"cell 0: lacks the link to its neighbour {neighbour.name}"


def links_to_files_that_exist(page: Page) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.prose):
        if "://" not in target and not (page.path.parent / target).exists():
            yield f"links to {target}, which does not exist"


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
    found = cells.tagged(page.notebook, "bootstrap")
    if [c for _, c in page.code][:1] != found:
        yield "the first code cell, and no other, must carry the tag bootstrap"
    elif found[0].source != links.bootstrap(links.setting(page.root)):
        yield "the bootstrap cell differs from links.BOOTSTRAP; run links.py"
    if not any(outputs.STARTS.search(cell.source) for _, cell in page.code):
        yield "no cell calls attnres_ref.notebook.start, which prints the device"


def keeps_its_size(page: Page) -> Iterator[str]:
    if len(page.cells) > 60:
        yield f"has {len(page.cells)} cells, more than 60"
    words = len(re.sub(r"```.+?```", "", page.prose, flags=re.DOTALL).split())
    if words > 2500:
        yield f"has {words} words of markdown, more than 2500"
    for index in range(len(page.cells) - 2):
        if all(c.cell_type == "code" for c in page.cells[index : index + 3]):
            yield f"cell {index}: starts three code cells in a row"
    lengths = []
    for index, cell in page.code:
        lines = cell.source.splitlines()
        lengths.append(sum(is_code(line) for line in lines))
        if len(lines) > 40:
            yield f"cell {index}: has {len(lines)} lines, more than 40"
        if any(len(line) > 80 for line in lines):
            yield f"cell {index}: has a line of more than 80 columns"
    if lengths and statistics.median(lengths) > 8:
        yield f"the median code cell has {statistics.median(lengths):g} lines, not <= 8"


def is_code(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def has_plain_python(page: Page) -> Iterator[str]:
    """No magics: a magic does not parse, and nbval passes a cell whose magic fails."""
    for index, cell in page.code:
        if "bootstrap" in cells.tags(cell):
            continue
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"cell {index}: is not plain Python (a magic?): {error.msg}"
        if found := re.search(r"\b(subprocess|os\.system|get_ipython)\b", cell.source):
            yield f"cell {index}: uses {found[0]}; only the bootstrap cell may"


def has_exercises(page: Page) -> Iterator[str]:
    for index, cell in page.code:
        if re.search(r"^check\(", cell.source, re.MULTILINE) and (
            "exercise" not in cells.tags(cell)
        ):
            yield f"cell {index}: calls check(...) without the tag exercise"
    try:
        found = cells.exercises(page.notebook)
    except ValueError as error:
        yield str(error)
        return
    if len(found) < 3:
        yield f"has {len(found)} exercises, fewer than 3"
    titles = [match["title"].lower() for match in cells.HEADING.finditer(page.prose)]
    if not any("spot the bug" in title for title in titles):
        yield 'no exercise has "spot the bug" in its heading'
    expected = [f"{page.path.name[:2]}.{n}" for n in range(1, len(found) + 1)]
    if [exercise.name for exercise in found] != expected:
        yield f"exercises are to be named {', '.join(expected)}, in this order"


def shows_what_the_package_has(page: Page) -> Iterator[str]:
    """A definition in an `inline` cell equals the package's, docstrings aside."""
    package = definitions(page.root / "attnres_ref", page.root / "kernels")
    for index, cell in page.code:
        if "inline" not in cells.tags(cell):
            continue
        shown = [node for node in ast.parse(cell.source).body if is_definition(node)]
        if not shown:
            yield f"cell {index}: carries the tag inline and defines nothing"
        for node in shown:
            if node.name not in package:
                yield f"cell {index}: the package has no {node.name}"
            elif bare(node) not in package[node.name]:
                yield f"cell {index}: {node.name} differs from the package's"


def is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)


def definitions(*folders: Path) -> dict[str, list[str]]:
    """Every top-level function and class of the folders' files, by name."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if is_definition(node):
                found.setdefault(node.name, []).append(bare(node))
    return found


def bare(node: ast.AST) -> str:
    """The node as text, without positions and docstrings. Edits `node`."""
    for inner in ast.walk(node):
        if is_definition(inner) and ast.get_docstring(inner, clean=False) is not None:
            del inner.body[0]
    return ast.dump(node)


RULES = [
    is_valid,
    opens_with_title_and_links,
    links_to_files_that_exist,
    says_what_it_promises,
    starts_with_the_bootstrap,
    keeps_its_size,
    has_plain_python,
    has_exercises,
    shows_what_the_package_has,
    *devices.RULES,
    *outputs.RULES,
]


def faults(path: Path) -> list[str]:
    """Everything wrong with the notebook at `path`, one sentence each."""
    page = Page(path)
    return [fault for rule in RULES for fault in rule(page)]


if __name__ == "__main__":
    wanted = tuple(sys.argv[1:])
    found = [
        f"{path.name}: {fault}"
        for path in cells.notebooks()
        if path.name.startswith(wanted or ("",))
        for fault in faults(path)
    ]
    print("\n".join(found) or "no faults")
    sys.exit(bool(found))
