"""Gather what the site shows into one folder, build/site-source, for Sphinx.

    python notebooks/site/site_source.py        # the first half of `make site`

README, guide and notebooks keep their places, so links between them stay. The sections
of notebooks/README.md become pages of their own (notation, ledger, ...), each module of
the packages gets a page, and a link to any other file leads to it on GitHub. What is
there is taken: a new notebook or guide page needs no entry anywhere.
"""

import ast
import os
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat

import cells
import links
import pages
import web_assets

TEXTS = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
    "notebooks/*.md", "notebooks/guide/*.md",
]
GUIDE_FIRST = ["README", "index", "seminar", "course"]
PACKAGES = {"attnres_ref": ".", "attnres_kernels": "kernels", "tiny_data": "."}
COURSE = "notebooks/README.md"  # its sections become pages
# Pictures from afar: a page of ours asks no other server for anything.
BADGE = re.compile(r"!\[([^\]]+)\]\(" + re.escape(links.BADGE) + r"\)")


class Site:
    """The pages of the site: their text, and where each file of the repository went."""

    def __init__(self, root: Path = cells.ROOT) -> None:
        self.root, self.repo = root, links.setting(root)
        self.texts: dict[str, str] = {}                     # place on the site -> Markdown
        self.places: dict[tuple[str, str], str] = {}        # (file, anchor) -> place
        self.origin: dict[str, str] = {}                    # place -> file
        for name in self.files(TEXTS):
            text = (root / name).read_text(encoding="utf-8")
            if name == COURSE:
                self.add_sections(text)
            else:
                self.add(name, "index.md" if name == "README.md" else name, text)
        for path in cells.notebooks(root):
            name = path.relative_to(root).as_posix()
            self.places[name, ""] = name

    def files(self, patterns: Iterable[str]) -> list[str]:
        found = [p for pattern in patterns for p in sorted(self.root.glob(pattern))]
        return [path.relative_to(self.root).as_posix() for path in found]

    def add(self, name: str, place: str, text: str) -> None:
        self.texts[place], self.origin[place] = text, name
        self.places[name, ""] = place

    def add_sections(self, text: str) -> None:
        """The top and first section stay one page; each later section is a page."""
        top, first, *rest = re.split(r"^(?=## )", text, flags=re.M)
        self.add(COURSE, COURSE, top + first)
        for section in rest:
            anchor = pages.slug(re.match(r"## (.+)", section)[1])
            place = f"notebooks/{anchor}.md"
            self.texts[place], self.origin[place] = promoted(section), COURSE
            for inner in pages.anchors(section):
                below = "" if inner == anchor else f"#{inner}"
                self.places[COURSE, inner] = place + below

    def relink(self, text: str, name: str, place: str) -> str:
        """`text` of the file `name` with links that hold at `place` on the site."""

        def new(link: str) -> str:
            if (found := pages.resolve(link, self.root / name)) is None:
                return link
            path, anchor = found
            if not path.is_relative_to(self.root) or not path.exists():
                return link  # dead: check_links says so
            file = path.relative_to(self.root).as_posix()
            if (file, anchor) in self.places:
                target, _, anchor = self.places[file, anchor].partition("#")
            elif (file, "") in self.places:
                target = self.places[file, ""]
            elif path.suffix == ".png":
                target = file
            else:
                return pages.public(path, self.repo, self.root)
            if target == place and anchor:
                return f"#{anchor}"
            target = os.path.relpath(target, Path(place).parent)
            return target + (f"#{anchor}" if anchor else "")

        return pages.relinked(BADGE.sub(r"\1", text), new)

    def write(self, to: Path) -> None:
        """Make `to` hold what Sphinx needs and nothing else. What is right already is
        left alone, and Sphinx will not read it again."""
        wanted: dict[str, str | bytes] = {
            place: self.relink(text, self.origin[place], place)
            for place, text in self.texts.items()
        }
        wanted["index.md"] += self.contents()
        for path in cells.notebooks(self.root):
            name = path.relative_to(self.root).as_posix()
            wanted[name] = self.notebook(path, name)
        for name in self.files(["notebooks/**/*.png"]):
            wanted[name] = (self.root / name).read_bytes()
        wanted |= api(self.root)
        for name, content in wanted.items():
            save(to / name, content)
        for path in [path for path in to.rglob("*") if path.is_file()]:
            if path.relative_to(to).as_posix() not in wanted:
                path.unlink()

    def notebook(self, path: Path, name: str) -> str:
        """The notebook as the site shows it: links moved, the bootstrap cell folded."""
        notebook = cells.read(path)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.relink(cell.source, name, name)
            elif "bootstrap" in cells.tags(cell):
                cell.metadata.tags = [*cells.tags(cell), "hide-input"]
        return nbformat.writes(notebook)

    def contents(self) -> str:
        """The table of contents, as toctrees that show in the sidebar alone."""
        guide = [place for place in self.texts if place.startswith("notebooks/guide/")]
        rank = {f"notebooks/guide/{name}.md": n for n, name in enumerate(GUIDE_FIRST)}
        guide.sort(key=lambda place: (rank.get(place, len(rank)), place))
        top = [place for place in self.texts if "/" not in place and place != "index.md"]
        beside = [p for p in self.texts if p not in {*guide, *top, COURSE, "index.md"}]
        course = [COURSE, *self.files([f"notebooks/{cells.NUMBERED}"])]
        groups = {"Course": course, "Reference": [*beside, "api/index.md"],
                  "Teaching": guide, "Project": top}
        return "".join(
            "\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n"
            + "\n".join(place.rpartition(".")[0] for place in places) + "\n```\n"
            for caption, places in groups.items() if places
        )


def promoted(text: str) -> str:
    """Markdown with every heading a level up."""
    for match in reversed(list(re.finditer(r"^##", pages.without_code(text), re.M))):
        text = text[: match.start()] + text[match.start() + 1 :]
    return text


def api(root: Path) -> dict[str, str]:
    """One page for each public module with a docstring, and the page that lists them."""
    listing, texts = ["# The code", ""], {}
    for package, folder in PACKAGES.items():
        listing += [f"## {package}", "", "| module | what it holds |", "|---|---|"]
        names = []
        for path in sorted((root / folder / package).rglob("*.py")):
            module = ".".join(path.relative_to(root / folder).with_suffix("").parts)
            module = module.removesuffix(".__init__")
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if doc is None or "._" in module:
                continue
            names.append(f"{module.removeprefix('attnres_')} <{module}>")
            first = " ".join(doc.partition("\n\n")[0].split()).replace("|", r"\|")
            listing.append(f"| [`{module}`]({module}.md) | {first} |")
            texts[f"api/{module}.md"] = (
                f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n"
                "   :members:\n   :ignore-module-all:\n```\n"
            )
        listing += ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    return {"api/index.md": "\n".join(listing), **texts}


def save(path: Path, content: str | bytes) -> None:
    content = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    Site().write(cells.ROOT / "build" / "site-source")
    web_assets.mathjax(cells.ROOT / "build" / "site-static" / "mathjax")
