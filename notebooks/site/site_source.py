"""Gather what the site shows into one folder, build/site-source, for Sphinx.

    PYTHONPATH=notebooks/tools python notebooks/site/site_source.py    # see `make site`

README, guide and notebooks keep their places, so links between them stay; a link to any
other file leads to it on GitHub. Each module of the packages gets a page. What is there
is taken: a new notebook or guide page needs no entry anywhere.
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
import links
import pages

ROOT = cells.ROOT
PICTURES = ("notebooks/**/*.png", "notebooks/**/*.gif")
SHOWN = ("*.md", "notebooks/*.md", "notebooks/guide/*.md", *PICTURES)
FILES = [*cells.notebooks(), *(path for pattern in SHOWN for path in ROOT.glob(pattern))]
# Where each file lies on the site.
PLACES = {path: path.relative_to(ROOT) for path in FILES}
PLACES[ROOT / "README.md"] = Path("index.md")
# A heading's id, set by hand because JupyterLab would give it another than GitHub does.
FOR_JUPYTER = re.compile(r'^<a id="[\w-]+"></a>\n\n(?=#)', re.M)
PACKAGES = ("attnres_ref", "kernels/attnres_kernels", "tiny_data")
GUIDE = "notebooks/guide/"
CONTENTS = {  # of the sidebar, as patterns for Sphinx's toctree
    "Course": ["notebooks/README", "notebooks/[0-9]*"],
    "Reference": ["notebooks/[a-z]*", "api/index"],
    "Teaching": [GUIDE + "README", GUIDE + "seminar", GUIDE + "course", GUIDE + "[0-9]*"],
    "Project": ["CONTRIBUTING", "CHANGELOG"],
}
TOCTREE = "\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {}\n\n{}\n```\n"
MODULE = "# {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"


def write(to: Path) -> None:
    """Write the folder `to` anew."""
    shutil.rmtree(to, ignore_errors=True)
    for path, place in PLACES.items():
        target = to / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            nbformat.write(notebook(path), target)
        elif path.suffix == ".md":
            text = relinked(path.read_text(encoding="utf-8"), path)
            target.write_text(FOR_JUPYTER.sub("", text), encoding="utf-8")
        else:
            shutil.copy(path, target)
    with (to / "index.md").open("a", encoding="utf-8") as index:
        index.writelines(TOCTREE.format(k, "\n".join(v)) for k, v in CONTENTS.items())
    write_api(to / "api")


def relinked(text: str, page: Path) -> str:
    """Markdown of `page` with links that hold on the site, and no picture from afar."""

    def place(path: Path) -> str | None:
        to = PLACES.get(path)
        return to and os.path.relpath(to, PLACES[page].parent)

    text = text.replace(f"![Open in Colab]({links.BADGE})", "Open in Colab")
    return pages.moved(text, page, place)


def notebook(path: Path) -> NotebookNode:
    """The notebook as the site shows it: links moved, the bootstrap cell folded, and the
    alt text of pictures where MyST-NB looks for it."""
    notebook = cells.read(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path)
        if "bootstrap" in cells.tags(cell):
            cell.metadata.tags.append("hide-input")
        outputs = [out.get("metadata", {}) for out in cell.get("outputs", [])]
        alts = [out["image/png"]["alt"] for out in outputs if "image/png" in out]
        cell.metadata["mystnb"] = {"image": {"alt": " ".join(alts)}}
    return notebook


def write_api(to: Path) -> None:
    """One page for each public module with a docstring, and the page that lists them."""
    to.mkdir()
    listing = "# The code\n"
    for folder in (ROOT / package for package in PACKAGES):
        listing += f"\n## {folder.name}\n\n| module | what it holds |\n|---|---|\n"
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder.parent).with_suffix("")
            module = ".".join(name.parts).removesuffix(".__init__")
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if doc and "._" not in module:
                first = " ".join(doc.partition("\n\n")[0].split()).replace("|", r"\|")
                listing += f"| [`{module}`]({module}.md) | {first} |\n"
                (to / f"{module}.md").write_text(MODULE.format(module), encoding="utf-8")
    listing += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    (to / "index.md").write_text(listing, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    write(ROOT / "build" / "site-source")


if __name__ == "__main__":
    main()
