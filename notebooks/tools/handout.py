"""Write the notebooks for a class: without solutions, badges and outputs.

    python notebooks/tools/handout.py      # what `make handout` does

build/handout/ holds the notebooks, README.md with the map and the notation, and course/,
the code they run on, where their bootstrap cell finds it: the folder runs wherever it is
copied, without a network. build/handout.zip is the same folder in one file. Hints,
stubs and checks stay. A link to a file that is not handed out leads to the public one.
"""

import os
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import cells
import links

# What a notebook runs on; it goes to course/ under the same name.
CODE = [
    "attnres_ref", "kernels", "tiny_data", "notebooks/exercises", "notebooks/recorded",
    "pyproject.toml", "constraints.txt", "LICENSE",
]
FOR_AUTHORS = "How a notebook is built"  # the section of the README that stays here
SOLUTION = re.compile(r"\n*" + cells.SOLUTION.pattern, re.DOTALL)
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]+\)\]\([^)]+\)( · |\n\n)?")
TARGET = re.compile(r"(?<=\]\()[^)#\s]+")

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


class Handout:
    """Where each file of the checkout at `root` lies in the folder handed out."""

    def __init__(self, root: Path) -> None:
        self.root, self.repo = root, links.setting(root)
        self.places = {path: path.name for path in cells.notebooks(root)}
        self.places[root / "notebooks" / "README.md"] = "README.md"
        for picture in sorted((root / "notebooks" / "figures").glob("*.png")):
            self.places[picture] = f"figures/{picture.name}"

    def place(self, path: Path) -> str | None:
        """The path in the handout of `path`, a file or folder of the checkout, or None."""
        if path in self.places:
            return self.places[path]
        inside = path.is_relative_to(self.root) and path.relative_to(self.root).as_posix()
        is_code = inside and any(f"{inside}/".startswith(f"{name}/") for name in CODE)
        return f"course/{inside}" if is_code else None

    def relinked(self, text: str) -> str:
        """Markdown of the folder notebooks/ whose links lead on from the handout."""

        def lead_on(match: re.Match) -> str:
            target = match[0]
            if "://" in target or target.startswith("mailto:"):
                return target
            path = Path(os.path.normpath(self.root / "notebooks" / target))
            public = f"https://github.com/{self.repo}/blob/main/"
            return self.place(path) or public + path.relative_to(self.root).as_posix()

        return TARGET.sub(lead_on, text)

    def notebook(self, notebook: NotebookNode) -> NotebookNode:
        """Take solutions, badge and outputs out of `notebook`, which is changed.

        Raises ValueError for a malformed exercise, whose solution might stay.
        """
        cells.exercises(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            else:
                text = BADGE.sub("", SOLUTION.sub("", cell.source))
                cell.source = self.relinked(text)
        return notebook

    def readme(self, text: str) -> str:
        """The sections of notebooks/README.md that a reader of the notebooks needs."""
        _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
        kept = [s for s in sections if not s.startswith(f"## {FOR_AUTHORS}\n")]
        return INTRODUCTION.format(repo=self.repo) + self.relinked("".join(kept))

    def write(self, target: Path) -> None:
        """Write the folder `target` anew, and target.zip."""
        shutil.rmtree(target, ignore_errors=True)
        for path, place in self.places.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".ipynb":
                nbformat.write(self.notebook(cells.read(path)), target / place)
            elif path.name == "README.md":
                text = self.readme(path.read_text(encoding="utf-8"))
                (target / place).write_text(text, encoding="utf-8")
            else:
                shutil.copy(path, target / place)
        (target / "course" / "notebooks").mkdir(parents=True)
        for name in CODE:
            made = shutil.ignore_patterns("__pycache__", "*.egg-info")
            source, copy = self.root / name, target / "course" / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=made)
            else:
                shutil.copy(source, copy)
        shutil.make_archive(str(target), "zip", target.parent, target.name)


def main(root: Path = cells.ROOT) -> None:
    handout = Handout(root)
    handout.write(root / "build" / "handout")
    print(f"{len(cells.notebooks(root))} notebooks in build/handout and build/handout.zip")


if __name__ == "__main__":
    main()
