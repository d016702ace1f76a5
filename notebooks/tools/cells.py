"""The few questions the tools and tests ask of a notebook's JSON."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]

HEADING = re.compile(
    r"^#+ Exercise (?P<name>\d\d\.\d+) · (?P<title>.+) \((?:easy|medium|hard), \d+ min\)$",
    re.MULTILINE,
)
CHECK = re.compile(r'^check\("(?P<name>[\d.]+)", (?P<answer>\w+)\)\Z', re.MULTILINE)
FOLDED = "<details><summary>{}</summary>\n\n...\n\n</details>"
PYTHON_BLOCK = re.compile(r"^```python\n(.+?)^```$", re.DOTALL | re.MULTILINE)


def notebooks(root: Path = ROOT) -> list[Path]:
    """The course's notebooks in reading order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def asked_for(numbers: Iterable[str], root: Path = ROOT) -> list[Path]:
    """The notebooks that a command line names ("02", ...), or all. Ends the program with
    a sentence where it names one that is not there."""
    there = {path.name[:2]: path for path in notebooks(root)}
    unknown = [number for number in numbers if number not in there]
    if unknown or not there:
        sys.exit(f"no notebook {', '.join(unknown)}; there are: {', '.join(there)}")
    return [path for number, path in there.items() if number in (numbers or there)]


def read(path: Path) -> NotebookNode:
    """The notebook at `path`, in nbformat 4; each source is one string."""
    return nbformat.read(path, as_version=4)


def prose(notebook: NotebookNode) -> str:
    """The text of all Markdown cells."""
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The code cells that carry `tag`, in order."""
    return [c for c in notebook.cells if c.cell_type == "code" and tag in tags(c)]


@dataclass(frozen=True)
class Exercise:
    name: str  # "02.1"
    answer: str  # the name the stub defines and hands to check(...)
    imports: str  # source of the notebook's `imports` cells
    stub: str  # source of the stub cell without its last line
    solution: str  # source of the python block in the collapsed solution


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """Every exercise of a notebook. Raises ValueError for one that is malformed."""
    imports = "\n".join(cell.source for cell in tagged(notebook, "imports"))
    exercises = []
    for index, cell in enumerate(notebook.cells):
        if "exercise" in tags(cell):
            try:
                exercises.append(_exercise(imports, *notebook.cells[index - 1 : index + 3]))
            except ValueError as error:
                raise ValueError(f"cell {index}: {error}") from None
    return exercises


def _exercise(imports: str, title, stub, hint, solution) -> Exercise:
    """The exercise of four cells in a row."""
    heading, check = HEADING.search(title.source), CHECK.search(stub.source)
    name = check and check["name"]
    blocks = PYTHON_BLOCK.findall(solution.source)
    for is_right, rule in (
        (check, 'the last line of a stub is check("02.1", your_name)'),
        (heading and heading["name"] == name, "before a stub comes markdown with a heading "
         f"like ### Exercise {name} · Title (easy, 5 min)"),
        (_folded(hint, "Hint"), f"after a stub comes {FOLDED.format('Hint')}"),
        (_folded(solution, "Solution"), f"after a hint comes {FOLDED.format('Solution')}"),
        ("solution" in tags(solution), "the cell of a solution has the tag solution"),
        (len(blocks) == 1, f"a solution has one ```python block, not {len(blocks)}"),
    ):
        if not is_right:
            raise ValueError(rule)
    return Exercise(name, check["answer"], imports, stub.source[: check.start()], blocks[0])


def _folded(cell: NotebookNode, word: str) -> bool:
    before, _, after = FOLDED.format(word).partition("...")
    return cell.source.startswith(before) and cell.source.endswith(after)
