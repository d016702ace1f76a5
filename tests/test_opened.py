"""A notebook where it is opened: its links and its metadata in JupyterLab, as `make lab`
starts it, and its folded cells on GitHub. tests/browser opens some in JupyterLab itself."""

import html
import re
from html.parser import HTMLParser

import pytest

import cells
import lint
import pages

markdown_it = pytest.importorskip("markdown_it", reason="of the extra `site`")

PATHS = cells.notebooks()
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:2])


# --- JupyterLab -----------------------------------------------------------------------


def root_of_lab():
    makefile = (cells.ROOT / "Makefile").read_text(encoding="utf-8")
    folder = re.search(r"^lab:.*\n\t.* --ServerApp\.root_dir=(\S+)", makefile, re.M)[1]
    return (cells.ROOT / folder).resolve()


def jupyter_anchors(text: str) -> set[str]:
    """The anchors that JupyterLab gives a Markdown text: a heading's is its words, case
    and all, with hyphens for spaces; ids set by hand hold too."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", text, re.M)
    by_hand = re.findall(r'<\w+ [^>]*id="([^"]+)"', text)
    return {*by_hand, *(re.sub(r"[`*]", "", h).replace(" ", "-") for h in headings)}


def links_of(path) -> list[str]:
    """All links of a notebook that lead to a file: in its text and in its HTML outputs."""
    notebook = cells.read(path)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pieces = [out.get("data", {}).get("text/html", "") for out in outputs]
    found = re.findall(r'<a [^>]*href="([^"]+)"', "".join(pieces) + cells.prose(notebook))
    found = pages.targets(cells.prose(notebook)) + [*map(html.unescape, found)]
    return [link for link in found if not pages.ELSEWHERE.match(link)]


def dead_in_lab(link: str, page) -> str | None:
    """What is wrong with a link, or None."""
    path, anchor = pages.resolve(link, page)
    if not path.is_relative_to(root_of_lab()):
        return f"{link} is outside of the folder that JupyterLab serves"
    if not path.is_file():
        return f"{link} is no file"
    if anchor and anchor not in jupyter_anchors(pages.prose(path)):
        return f"{link}: JupyterLab has no such anchor"
    return None


@each_notebook
def test_every_link_leads_somewhere_under_make_lab(path):
    links = links_of(path)
    assert len(links) > 5 and any(link.startswith("README.md") for link in links)
    assert [*filter(None, (dead_in_lab(link, path) for link in links))] == []


@pytest.mark.parametrize(("link", "fault"), [
    ("README.md#Map", None),
    ("README.md#map", "no such anchor"),       # as GitHub has it
    ("README.md#set-ups", None),               # set by hand, for both
    ("../../elsewhere.md", "outside"),
    ("guide", "no file"),
])
def test_a_link_that_jupyterlab_cannot_follow_is_named(link, fault):
    said = dead_in_lab(link, PATHS[0])
    assert said is None if fault is None else fault in said


def test_notebooks_name_the_kernel_that_a_new_environment_has():
    """Or JupyterLab writes another name in, and the notebook is changed once it is open."""
    kernelspec = pytest.importorskip("ipykernel.kernelspec")
    fresh = kernelspec.get_kernel_dict()
    assert lint.KERNEL["display_name"] == fresh["display_name"]
    assert lint.KERNEL["language"] == fresh["language"]
    assert lint.KERNEL["name"] == kernelspec.KERNEL_NAME


# --- titles ---------------------------------------------------------------------------


@each_notebook
def test_no_heading_has_tex(path):
    """JupyterLab's contents, search results and the tab of a browser would show it raw."""
    headings = re.findall(r"^#+ .+", cells.prose(cells.read(path)), re.M)
    assert [heading for heading in headings if "$" in heading] == []


# --- GitHub ---------------------------------------------------------------------------

# Elements that GitHub leaves in Markdown, as far as the course could want them.
KEPT = {
    "h1", "h2", "h3", "h4", "p", "br", "hr", "blockquote", "ol", "ul", "li", "a", "img",
    "em", "strong", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "details",
    "summary", "sub", "sup", "kbd",
}


def on_github(source: str) -> str:
    """The HTML of a Markdown cell. TeX is set aside first, as GitHub sets it."""
    source = re.sub(r"\$[^$`\n]+\$", "TeX", source)
    parser = markdown_it.MarkdownIt("commonmark", {"html": True})
    return parser.enable(["table", "strikethrough"]).render(source)


class Outline(HTMLParser):
    """A page's kinds of elements, its text outside of code, and what is open at its end.
    Raises ValueError where an element is closed that is not the last one opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.text, self.kinds = [], "", set()
        self.feed(page)

    def handle_starttag(self, tag, attributes) -> None:
        self.kinds.add(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.kinds.add(tag)

    def handle_endtag(self, tag) -> None:
        if self.open[-1:] != [tag]:
            raise ValueError(f"</{tag}> closes {self.open[-1:]}")
        self.open.pop()

    def handle_data(self, data) -> None:
        if "code" not in self.open:
            self.text += data


def fault_on_github(source: str) -> str | None:
    """What GitHub does not show of a cell as it was meant, or None."""
    try:
        outline = Outline(on_github(source))
    except ValueError as error:
        return str(error)
    if not outline.kinds <= KEPT:
        return f"GitHub strips {outline.kinds - KEPT}"
    if outline.open:
        return f"{outline.open} stay open"
    raw = re.search(r"`|\*\*|^#+ |\]\(|^\|", outline.text, re.M)
    return raw and f"Markdown stays raw: {outline.text[raw.start() :][:60]}"


@each_notebook
def test_github_shows_every_cell_as_it_was_meant(path):
    markdown = [c.source for c in cells.read(path).cells if c.cell_type == "markdown"]
    folded = [source for source in markdown if "<details>" in source]
    assert len(folded) >= 6
    assert [*filter(None, map(fault_on_github, markdown))] == []


@pytest.mark.parametrize(("source", "fault"), [
    ("<details><summary>Hint</summary>\n\nUse `x`.\n\n</details>", None),
    ("<details><summary>Hint</summary>\nUse `x`.\n\n</details>", "raw: `x`"),
    ("<details><summary>Hint</summary>\n\n```python\nx\n```\n</details>", None),
    ("<details><summary>Hint</summary>\n\nUse `x`.", "stay open"),
    ("<details><summary>Hint\n\nUse `x`.\n\n</details>", "closes"),
    ("<details>\n\nUse **x**</details>", "closes"),
    ("<video>x</video>", "strips"),
])
def test_a_folded_cell_that_github_breaks_is_named(source, fault):
    said = fault_on_github(source)
    assert said is None if fault is None else said and fault in said
