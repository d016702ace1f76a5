"""The few questions the tools and tests ask of a notebook's JSON."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NUMBERED = "[0-9][0-9]_*.ipynb"

HEADING = re.compile(
    r"^#+ Exercise (?P<name>\d\d\.\d+) · (?P<title>.+)"
    r" \((?P<difficulty>easy|medium|hard), (?P<minutes>\d+) min\)$",
    re.MULTILINE,
)
DETAILS = r"<details><summary>{}</summary>\n\n(.+?)\n\n</details>"
HINT = re.compile(DETAILS.format("Hint"), re.DOTALL)
SOLUTION = re.compile(DETAILS.format("Solution"), re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.+?)^```$", re.DOTALL | re.MULTILINE)


def notebooks(root: Path = ROOT) -> list[Path]:
    """The course's notebooks in reading order."""
    return sorted((root / "notebooks").glob(NUMBERED))


def read(path: Path) -> NotebookNode:
    """The notebook at `path`, in nbformat 4; each source is one string."""
    return nbformat.read(path, as_version=4)


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
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or "exercise" not in tags(cell):
            continue
        try:
            name, answer, stub = _stub(cell.source)
            _heading(notebook.cells, index, name)
            solution = _solution(notebook.cells, index)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"cell {index}: {error}") from None
        found.append(Exercise(name, answer, imports, stub, solution))
    return found


def _stub(source: str) -> tuple[str, str, str]:
    """Split a stub cell into its exercise's name, its answer's name and the rest."""
    body = ast.parse(source).body
    match body[-1] if body else None:
        case ast.Expr(
            ast.Call(ast.Name("check"), [ast.Constant(str(name)), ast.Name(answer)], [])
        ) as last:
            rest = source.splitlines()[: last.lineno - 1]
            return name, answer, "\n".join(rest) + "\n"
    raise ValueError('the last line of a stub cell must be check("02.1", your_name)')


def _heading(cells: list[NotebookNode], index: int, name: str) -> None:
    before = cells[index - 1]
    heading = before.cell_type == "markdown" and HEADING.search(before.source)
    if not heading or heading["name"] != name:
        raise ValueError(
            f'the markdown cell before the stub needs a heading like "### Exercise '
            f'{name} · Title (easy, 5 min)"'
        )


def _solution(cells: list[NotebookNode], index: int) -> str:
    after = cells[index + 1].source if index + 1 < len(cells) else ""
    hint, solution = HINT.search(after), SOLUTION.search(after)
    if not hint or not solution:
        raise ValueError(
            "the markdown cell after the stub needs <details><summary>Hint</summary> "
            "and <details><summary>Solution</summary>, a blank line inside each end"
        )
    blocks = PYTHON_BLOCK.findall(solution[1])
    if len(blocks) != 1:
        raise ValueError(f"a solution has one ```python block, this has {len(blocks)}")
    return blocks[0]
