"""Links and headings of Markdown and notebooks, for the tools that follow or move them."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import cells

# Fenced blocks and inline code hold examples of links, not links.
CODE = re.compile(
    r"^(?P<f>`{3,}|~{3,}).*?^(?P=f)[ \t]*$|(?P<i>`+)(?!`).+?(?<!`)(?P=i)(?!`)", re.M | re.S
)
# The text of a link may hold a picture, [![badge](a.svg)](b), or brackets.
LINK = re.compile(r"!?\[(?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*\]\((?P<to>[^)\s]+)")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.M)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)  # https:, mailto:, //host


def without_code(text: str) -> str:
    """`text` with its code blanked out, every other character where it was."""
    return CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def relinked(text: str, new: Callable[[str], str]) -> str:
    """`text` with each link's target `to` replaced by `new(to)`; code stays."""
    bare, pieces, done = without_code(text), [], 0
    for start, end in target_spans(bare):
        pieces += [text[done:start], new(text[start:end])]
        done = end
    return "".join([*pieces, text[done:]])


def target_spans(bare: str) -> Iterator[tuple[int, int]]:
    """Where the targets of links and images stand, badges inside links too."""
    found = {match.span("to") for match in LINK.finditer(bare)}
    found |= {match.span(1) for match in re.finditer(r"!\[[^\]]*\]\(([^)\s]+)", bare)}
    found |= {match.span(1) for match in re.finditer(r'<img [^>]*src="([^"]+)"', bare)}
    yield from sorted(found)


def targets(text: str) -> list[str]:
    """The targets of all links and images, in order."""
    bare = without_code(text)
    return [text[start:end] for start, end in target_spans(bare)]


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading, before it counts duplicates."""
    heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    heading = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Every anchor of a Markdown text: its headings', and ids set by hand."""
    fenced = re.sub(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", "", text, flags=re.M | re.S)
    found: set[str] = set()
    for heading in HEADING.findall(fenced):
        name, count = slug(heading), 0
        while (anchor := f"{name}-{count}" if count else name) in found:
            count += 1
        found.add(anchor)
    return found | set(re.findall(r'<\w+ [^>]*(?:id|name)="([^"]+)"', fenced))


def prose(path: Path) -> str:
    """The Markdown of a .md file, or of a notebook's Markdown cells."""
    if path.suffix == ".ipynb":
        found = [c.source for c in cells.read(path).cells if c.cell_type == "markdown"]
        return "\n\n".join(found)
    return path.read_text(encoding="utf-8")


def resolve(link: str, page: Path) -> tuple[Path, str] | None:
    """File and anchor that `link` on `page` leads to; None for another site."""
    if ELSEWHERE.match(link):
        return None
    target, _, anchor = link.partition("#")
    path = page.parent / unquote(target) if target else page
    return Path(os.path.normpath(path)), unquote(anchor)


def public(path: Path, repo: str, root: Path = cells.ROOT) -> str:
    """The address of a file or folder of the repository on GitHub."""
    kind = "tree" if path.is_dir() else "blob"
    return f"https://github.com/{repo}/{kind}/main/{path.relative_to(root).as_posix()}"
