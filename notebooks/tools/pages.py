"""Links and headings of Markdown and notebooks, for the tools that follow or move them."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import cells
import links

# Fenced blocks and inline code, which hold examples of links, or the target of a link.
CODE_OR_LINK = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[ \t]*$"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    r"|(?<=\]\()(?P<target>[^)\s]+)",
    re.M | re.S,
)
NOWHERE = "nowhere:"                    # a target that is not public yet
LEADS_NOWHERE = re.compile(rf"!?\[([^\[\]]*)\]\({NOWHERE}[^)]*\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)  # https:, mailto:, //host


def targets(text: str) -> list[str]:
    """The targets of all links and images, in order."""
    return [match["target"] for match in CODE_OR_LINK.finditer(text) if match["target"]]


def moved(
    text: str, page: Path, place: Callable[[Path], str | None], root: Path = cells.ROOT
) -> str:
    """Markdown of `page` for another place: a link to a file of the repository leads to
    `place(file)`, or where that is None to the file on GitHub. As long as the address is
    not known, only the words of such a link stay."""
    is_known = links.known(root)

    def new(match: re.Match) -> str:
        link = match["target"]
        if not link or ELSEWHERE.match(link):
            return match[0]
        path, anchor = resolve(link, page)
        target = place(path) or (public(path, root) if is_known else NOWHERE)
        return target + (f"#{anchor}" if anchor else "")

    return LEADS_NOWHERE.sub(r"\1", CODE_OR_LINK.sub(new, text))


def resolve(link: str, page: Path) -> tuple[Path, str]:
    """File and anchor that `link` on `page` leads to, inside the repository."""
    target, _, anchor = link.partition("#")
    path = page.parent / unquote(target) if target else page
    return Path(os.path.normpath(path)), unquote(anchor)


def public(path: Path, root: Path = cells.ROOT) -> str:
    """The address of a file or folder of the repository on GitHub."""
    kind = "tree" if path.is_dir() else "blob"
    name = path.relative_to(root).as_posix()
    return f"https://github.com/{links.setting(root)}/{kind}/main/{name}"


def prose(path: Path) -> str:
    """The Markdown of a .md file, or of a notebook's Markdown cells."""
    if path.suffix == ".ipynb":
        return cells.prose(cells.read(path))
    return path.read_text(encoding="utf-8")


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading, before it counts duplicates."""
    heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    heading = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Every anchor of a Markdown text: its headings', and ids set by hand."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", "", text, flags=re.M | re.S)
    headings = map(slug, re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", text, re.M))
    return {*headings, *re.findall(r'<\w+ [^>]*(?:id|name)="([^"]+)"', text)}


def dead_links(page: Path, root: Path = cells.ROOT) -> Iterator[str]:
    """One sentence per link on `page` that leads nowhere, by GitHub's rule for anchors.
    Links to other sites are not followed."""
    for link in targets(prose(page)):
        if ELSEWHERE.match(link):
            continue
        path, anchor = resolve(link, page)
        if not path.is_relative_to(root):
            yield f"links to {link}, out of the repository"
        elif not path.exists():
            yield f"links to {link}, which does not exist"
        elif anchor and (
            path.suffix not in (".md", ".ipynb") or anchor not in anchors(prose(path))
        ):
            yield f"links to {link}, and no heading has this anchor"
