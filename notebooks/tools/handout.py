"""Write the notebooks for a class: without solutions, badges and outputs.

    python notebooks/tools/handout.py      # what `make handout` does

build/handout/ holds the notebooks, README.md with the map, the notation and the ledger, and
course/, the code they run on, where their bootstrap cell finds it: the folder runs wherever
it is copied, without a network. build/handout.zip is the same folder in one file. Hints,
stubs and checks stay, and so do the three questions with their answers, which are feedback
and no solutions. A link to a file that is not handed out leads to the public one.
"""

import argparse
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor
from nbformat import NotebookNode

import cells
import links
import pages

# What a notebook runs on; it goes to course/ under the same name.
CODE = [
    "attnres_ref", "kernels", "tiny_data", "notebooks/exercises", "notebooks/recorded",
    "pyproject.toml", "constraints.txt", "LICENSE",
]
FOR_AUTHORS = "How a notebook is built"  # the section of the README that stays here

INTRODUCTION = """\
# Attention Residuals from scratch: the notebooks of the class

Open a notebook, run it from top to bottom, and solve its exercises: replace the body of
each stub, run the cell, and read what its check says. Below each stub is a folded hint.

- **On Colab**: upload one notebook (File, Upload notebook) and run it. Its first cell
  fetches the code; nothing is installed.
- **On your own machine**, Python 3.11 to 3.13, in this folder:

  ```bash
  pip install -c course/constraints.txt ./course
  jupyter lab 00_start_here.ipynb
  ```

The course itself: [{repo}](https://github.com/{repo}), Apache-2.0.

"""


def place(path: Path) -> str | None:
    """Where a file or folder of the checkout lies in the handout, if it does."""
    if path in (*cells.notebooks(), cells.ROOT / "notebooks" / "README.md"):
        return path.name
    name = path.relative_to(cells.ROOT)
    return f"course/{name.as_posix()}" if any(map(name.is_relative_to, CODE)) else None


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """Take solutions and outputs out of `notebook`, which is changed. Raises ValueError
    for a malformed exercise, whose solution might stay."""
    cells.exercises(notebook)
    no_solutions = TagRemovePreprocessor(remove_cell_tags={"solution"})
    for step in (no_solutions, ClearOutputPreprocessor()):
        notebook, _ = step.preprocess(notebook, {})
    return notebook


def handed_out(path: Path) -> NotebookNode:
    notebook = without_solutions(cells.read(path))
    badge = re.escape(links.badge(links.setting(), path.name)) + "( · )?"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = pages.moved(re.sub(badge, "", cell.source), path, place)
    return notebook


def readme() -> str:
    """The sections of notebooks/README.md that a reader of the notebooks needs."""
    path = cells.ROOT / "notebooks" / "README.md"
    _, *sections = re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.M)
    kept = [s for s in sections if not s.startswith(f"## {FOR_AUTHORS}\n")]
    text = pages.moved("".join(kept), path, place)
    return INTRODUCTION.format(repo=links.setting()) + text


def write(target: Path) -> None:
    """Write the folder `target` anew, and target.zip."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "course" / "notebooks").mkdir(parents=True)
    (target / "README.md").write_text(readme(), encoding="utf-8")
    for path in cells.notebooks():
        nbformat.write(handed_out(path), target / path.name)
    made = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in CODE:
        source, copy = cells.ROOT / name, target / "course" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=made)
        else:
            shutil.copy(source, copy)
    shutil.make_archive(str(target), "zip", target.parent, target.name)


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    write(cells.ROOT / "build" / "handout")
    print(f"{len(cells.notebooks())} notebooks in build/handout and build/handout.zip")


if __name__ == "__main__":
    main()
