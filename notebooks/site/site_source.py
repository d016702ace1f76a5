"""Gather what the site shows into one folder, build/site-source, for Sphinx.

    PYTHONPATH=notebooks/tools:notebooks/recording python notebooks/site/site_source.py

README, guide and notebooks keep their places, so links between them stay; a link to any
other file leads to it on GitHub, once the address is known. Each module of the packages
gets a page. What is there is taken: a new notebook or guide page needs no entry anywhere.
The front page is of its own: see front.py.
"""

import argparse
import ast
import os
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import cells
import front
import links
import pages

ROOT = cells.ROOT
PICTURES = ("notebooks/**/*.png", "notebooks/**/*.gif")
SHOWN = ("*.md", "notebooks/*.md", "notebooks/guide/*.md", *PICTURES)
FILES = [*cells.notebooks(), *(path for pattern in SHOWN for path in ROOT.glob(pattern))]
# A heading's id, set by hand because JupyterLab would give it another than GitHub does.
FOR_JUPYTER = re.compile(r'^<a id="[\w-]+"></a>\n\n(?=#)', re.M)
PACKAGES = ("attnres_ref", "kernels/attnres_kernels", "tiny_data")
GUIDE = "notebooks/guide/"
CONTENTS = {  # of the sidebar, as patterns for Sphinx's toctree
    "Course": ["notebooks/README", "notebooks/[0-9]*"],
    "Reference": ["notebooks/[a-z]*", "api/index"],
    "Teaching": [GUIDE + "README", GUIDE + "seminar", GUIDE + "course", GUIDE + "[0-9]*"],
    "Project": ["The repository <README>", "CONTRIBUTING", "CHANGELOG"],
}
TOCTREE = "\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {}\n\n{}\n```\n"
MODULE = "# {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"
BADGE = re.compile(
    rf"(?P<dot> · )?\[!\[Open in Colab\]\({re.escape(links.BADGE)}\)\]\((?P<url>.+?)\)"
)
# A cell that does more than draw: it defines, computes with tensors, or asks for a guess.
DOES_MORE = re.compile(r"^ *(?:def|class) |\btorch\.|^my_\w+ = None|your prediction", re.M)


def write(to: Path) -> None:
    """Write the folder `to` anew."""
    shutil.rmtree(to, ignore_errors=True)
    for path in FILES:
        target = to / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            nbformat.write(notebook(path), target)
        elif path.suffix == ".md":
            text = relinked(path.read_text(encoding="utf-8"), path)
            target.write_text(FOR_JUPYTER.sub("", text), encoding="utf-8")
        else:
            shutil.copy(path, target)
    text = relinked(front.page(), ROOT / "index.md")
    contents = (TOCTREE.format(k, "\n".join(v)) for k, v in CONTENTS.items())
    (to / "index.md").write_text(text + "".join(contents), encoding="utf-8")
    front.draw(to / "_static")
    write_api(to / "api")


def relinked(text: str, page: Path) -> str:
    """Markdown of `page` with links that hold on the site, and no picture from afar."""

    def place(path: Path) -> str | None:
        if path not in FILES:
            if links.known() or path not in MODULES:
                return None
            path = ROOT / "api" / f"{MODULES[path]}.md"
        return os.path.relpath(path, page.parent)

    in_words = r"\g<dot>[Open in Colab](\g<url>)" if links.known() else ""
    text = BADGE.sub(in_words, text)
    return pages.moved(text, page, place)


def notebook(path: Path) -> NotebookNode:
    """The notebook as the site shows it: links moved, one to its slides added, set-up and
    the code of figures folded, and the alt text of pictures where MyST-NB looks for it."""
    notebook = cells.read(path)
    slides = f'<a href="../slides/{path.stem}.html">Slides</a>'
    ways = rf"\g<badge> · {slides} · " if links.known() else f"{slides} · "
    opening = notebook.cells[0]
    opening.source = re.sub(rf"(?P<badge>{BADGE.pattern})\s+", ways, opening.source)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path)
        outputs = [out.get("metadata", {}) for out in cell.get("outputs", [])]
        alts = [out["image/png"]["alt"] for out in outputs if "image/png" in out]
        cell.metadata["mystnb"] = {"image": {"alt": " ".join(alts)}}
        if "bootstrap" in cells.tags(cell):
            fold(cell, "Code that finds the course")
        elif only_draws(cell):
            fold(cell, "Code of the figure")
    return notebook


def only_draws(cell: NotebookNode) -> bool:
    """Does this cell show pictures, print nothing and do nothing else?"""
    outputs = cell.get("outputs", [])
    pictures = all("image/png" in output.get("data", {}) for output in outputs)
    return bool(outputs) and pictures and not DOES_MORE.search(cell.source)


def fold(cell: NotebookNode, prompt: str) -> None:
    cell.metadata.setdefault("tags", []).append("hide-input")
    cell.metadata["mystnb"] |= {"code_prompt_show": prompt, "code_prompt_hide": prompt}


def modules() -> dict[Path, str]:
    """The public modules with a docstring, by file; a package's folder leads there too."""
    found = {}
    for folder in (ROOT / package for package in PACKAGES):
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder.parent).with_suffix("")
            module = ".".join(name.parts).removesuffix(".__init__")
            if docstring(path) and "._" not in module:
                found[path] = module
                if path.name == "__init__.py":
                    found[path.parent] = module
    return found


def docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


MODULES = modules()


def write_api(to: Path) -> None:
    """One page for each public module with a docstring, and the page that lists them."""
    to.mkdir()
    listing = "# The code\n"
    for folder in (ROOT / package for package in PACKAGES):
        listing += f"\n## {folder.name}\n\n| module | what it holds |\n|---|---|\n"
        for path, module in MODULES.items():
            if path.is_file() and path.is_relative_to(folder):
                first = docstring(path).partition("\n\n")[0]
                first = " ".join(first.split()).replace("|", r"\|")
                listing += f"| [`{module}`]({module}.md) | {first} |\n"
                (to / f"{module}.md").write_text(MODULE.format(module), encoding="utf-8")
    listing += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    (to / "index.md").write_text(listing, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    write(ROOT / "build" / "site-source")


if __name__ == "__main__":
    main()
