"""No dead link inside the repository, nor inside what is built from it.

    python notebooks/tools/check_links.py                       # README, notebooks, guide
    python notebooks/tools/check_links.py build/site build/slides     # built HTML

Files must exist, anchors too, by GitHub's rule for headings. Links to other sites are
not followed.
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cells
import pages


def sources(root: Path = cells.ROOT) -> list[Path]:
    """Every page a reader of the repository can open."""
    texts = [*root.glob("*.md"), *(root / "notebooks").rglob("*.md")]
    found = [*texts, *cells.notebooks(root)]
    return sorted(p for p in found if ".ipynb_checkpoints" not in p.parts)


def dead_in_sources(root: Path = cells.ROOT) -> Iterator[str]:
    """One sentence per dead link in the Markdown files and notebooks under `root`."""
    anchors = cache(lambda path: pages.anchors(pages.prose(path)))
    for page in sources(root):
        for link in pages.targets(pages.prose(page)):
            if (found := pages.resolve(link, page)) is None:
                continue
            path, anchor = found
            name = f"{page.relative_to(root)}: {link}"
            if not path.is_relative_to(root):
                yield f"{name} leads out of the repository"
            elif not path.exists():
                yield f"{name}: there is no such file"
            elif anchor and path.suffix not in (".md", ".ipynb"):
                yield f"{name}: an anchor needs a page, .md or .ipynb"
            elif anchor and anchor not in anchors(path):
                yield f"{name}: no heading has this anchor"


class Html(HTMLParser):
    """The ids of a page and what it links to or loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        for name, value in attributes:
            if name in ("id", "name"):
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def dead_in_html(folder: Path) -> Iterator[str]:
    """One sentence per dead link in the built pages under `folder`."""
    html = cache(Html)
    # What lies in _static are templates that the theme leaves there.
    found = (path for path in folder.rglob("*.html") if "_static" not in path.parts)
    for page in sorted(found):
        for link in html(page).links:
            if (target := pages.resolve(link.partition("?")[0], page)) is None:
                continue
            path, anchor = target
            path = path / "index.html" if path.is_dir() else path
            name = f"{page.relative_to(folder)}: {link}"
            if not path.is_relative_to(folder) or not path.exists():
                yield f"{name}: there is no such file"
            elif anchor and path.suffix == ".html" and not reaches(anchor, html(path)):
                yield f"{name}: nothing has this id"


def reaches(anchor: str, page: Html) -> bool:
    # reveal.js numbers its slides itself: #/2/1.
    return anchor in page.ids or unquote(anchor) in page.ids or anchor.startswith("/")


def main(folders: list[str]) -> int:
    found = [
        fault
        for folder in [Path(name).resolve() for name in folders]
        for fault in dead_in_html(folder)
    ]
    if not folders:
        found = list(dead_in_sources())
    print("\n".join(found) or "no dead links")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
