"""Links: found where they are links, moved where a page moves, dead ones named."""

import re

import pytest

import cells
import links
import pages
import site_source
from made_up import make_course

TEXTS = [
    *cells.ROOT.glob("*.md"),
    *(path for path in (cells.ROOT / "notebooks").rglob("*.md")
      if ".ipynb_checkpoints" not in path.parts),
]


def test_targets_of_links_images_and_badges_but_not_of_code():
    text = (
        "[a](x.md) ![b](y.png) [![c](https://d/e.svg)](https://f) `[g](h)`\n"
        "```\n[i](j)\n```\n"
    )
    assert pages.targets(text) == ["x.md", "y.png", "https://d/e.svg", "https://f"]
    page = cells.ROOT / "notebooks" / "x.md"
    moved = pages.moved(text, page, lambda path: f"there/{path.name}")
    assert moved == text.replace("(x.md)", "(there/x.md)").replace("(y.", "(there/y.")


def test_what_does_not_move_along_is_on_github():
    page = cells.ROOT / "notebooks" / "x.md"
    text = pages.moved("[a](../tests#b) [c](../LICENSE)", page, lambda path: None)
    public = f"https://github.com/{links.setting()}"
    assert text == f"[a]({public}/tree/main/tests#b) [c]({public}/blob/main/LICENSE)"


@pytest.mark.parametrize(("heading", "anchor"), [
    ("The ledger", "the-ledger"),
    ("`train` in *full*: a [link](x.md)", "train-in-full-a-link"),
    ("Exercise 02.1 · Mix (easy, 5 min)", "exercise-021--mix-easy-5-min"),
    ("snake_case", "snake_case"),
])
def test_anchors_are_githubs(heading, anchor):
    text = f'# A\n\n## {heading}\n```\n# no heading\n```\n<a id="by-hand"></a>\n'
    assert pages.anchors(text) == {"a", anchor, "by-hand"}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_the_repository_has_no_dead_link(page):
    assert list(pages.dead_links(page)) == []


@pytest.mark.parametrize(("link", "fault"), [
    ("notebooks/README.md#the-course", None),
    ("missing.md", "does not exist"),
    ("notebooks/README.md#nowhere", "no heading"),
    ("#nowhere", "no heading"),
    ("../outside.md", "out of the repository"),
    ("pyproject.toml#repo", "no heading"),
])
def test_a_dead_link_is_named(tmp_path, link, fault):
    root = make_course(tmp_path)
    (root / "notebooks" / "README.md").write_text("# The course\n")
    (root / "README.md").write_text(f"[new]({link}) [elsewhere](https://a/b#c)\n")
    faults = list(pages.dead_links(root / "README.md", root))
    assert len(faults) == bool(fault)
    assert all(link in line and fault in line for line in faults)


# --- the sources of the site ----------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site") / "source"
    site_source.write(target)
    return target


def test_pages_link_to_each_other_and_other_files_to_github(site):
    index = (site / "index.md").read_text(encoding="utf-8")
    assert "](notebooks/README.md#the-ledger)" in index
    assert f"](https://github.com/{links.setting()}/blob/main/LICENSE)" in index
    page = cells.ROOT / "notebooks" / "glossary.md"
    assert site_source.relinked("[up](../README.md#x)", page) == "[up](../index.md#x)"


def test_a_heading_has_one_id_on_the_site_though_another_is_set_for_jupyterlab(site):
    by_hand = '<a id="set-ups"></a>\n\n## Set-ups'
    assert by_hand in (cells.ROOT / "notebooks/README.md").read_text(encoding="utf-8")
    text = (site / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert "## Set-ups" in text and by_hand not in text


def test_every_page_is_in_the_contents(site):
    index = (site / "index.md").read_text(encoding="utf-8")
    patterns = re.findall(r"^[\w\[][\w/\[\]*-]*$", index.partition("```{toctree}")[2], re.M)
    assert len(patterns) == 10
    pages = [path for path in site.rglob("*.*") if path.suffix not in (".png", ".gif")]
    for path in (path.relative_to(site) for path in pages):
        name, own = path.with_suffix(""), path.parts[0] == "api" or path.name == "index.md"
        assert own or any(name.match(pattern) for pattern in patterns), path


def test_pictures_have_their_alt_text_and_none_comes_from_another_server(site):
    for path in cells.notebooks():
        notebook = cells.read(site / path.relative_to(cells.ROOT))
        opening = notebook.cells[0].source
        assert "colab-badge.svg" not in opening and "[Open in Colab](https://" in opening
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output.metadata["image/png"]["alt"]
                    assert alt in cell.metadata["mystnb"]["image"]["alt"]
