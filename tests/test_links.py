"""Links: found where they are links, moved where a page moves, dead ones named."""

import pytest

import check_links
import pages
import site_source
from made_up import NAME, make_course


@pytest.fixture
def root(tmp_path):
    root = make_course(tmp_path)
    (root / "notebooks" / "README.md").write_text(
        "# The course\n\n## Map\n\n[one](00_start.ipynb)\n\n"
        "## The ledger\n\n### A part\n\n[map](#map) [up](../README.md)\n"
    )
    (root / "README.md").write_text(
        "# Top\n\n[ledger](notebooks/README.md#the-ledger)\n"
        "[part](notebooks/README.md#a-part) [it](pyproject.toml)\n"
    )
    return root


def test_targets_of_links_images_and_badges_but_not_of_code():
    text = (
        "[a](x.md) ![b](y.png) [![c](https://d/e.svg)](https://f) `[g](h)`\n"
        '```\n[i](j)\n```\n<img src="k.png" alt="l">\n'
    )
    assert pages.targets(text) == ["x.md", "y.png", "https://d/e.svg", "https://f", "k.png"]
    moved = pages.relinked(text, lambda link: "Z")
    assert moved.count("(Z)") == 4 and "`[g](h)`" in moved and "[i](j)" in moved


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The ledger", "the-ledger"),
        ("`train` in *full*: a [link](x.md)", "train-in-full-a-link"),
        ("Exercise 02.1 · Mix (easy, 5 min)", "exercise-021--mix-easy-5-min"),
        ("snake_case", "snake_case"),
    ],
)
def test_anchors_are_githubs(heading, anchor):
    assert pages.slug(heading) == anchor


def test_equal_headings_are_counted_and_code_has_none():
    text = '# A\n## A\n```\n# no heading\n```\n<a id="by-hand"></a>\n'
    assert pages.anchors(text) == {"a", "a-1", "by-hand"}


def test_the_repository_has_no_dead_link():
    assert list(check_links.dead_in_sources()) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("missing.md", "no such file"),
        ("notebooks/README.md#nowhere", "no heading"),
        ("#nowhere", "no heading"),
        ("../outside.md", "out of the repository"),
        ("pyproject.toml#repo", "needs a page"),
    ],
)
def test_a_dead_link_is_named(root, link, fault):
    before = len(list(check_links.dead_in_sources(root)))
    with (root / "README.md").open("a") as readme:
        readme.write(f"\n[new]({link})\n")
    found = [line for line in check_links.dead_in_sources(root) if link in line]
    assert len(found) == 1 and fault in found[0] and found[0].startswith("README.md")
    assert len(list(check_links.dead_in_sources(root))) == before + 1


def test_dead_links_of_built_pages(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="b.html#there">2</a>'
        '<a href="c.html">3</a><img src="d.png"><a href="https://e.org">4</a>'
    )
    (tmp_path / "b.html").write_text("<p id='elsewhere'>")
    assert list(check_links.dead_in_html(tmp_path)) == [
        "a.html: b.html#there: nothing has this id",
        "a.html: c.html: there is no such file",
        "a.html: d.png: there is no such file",
    ]


# --- the sources of the site ----------------------------------------------------------


def test_sections_become_pages_and_links_follow(root):
    site = site_source.Site(root)
    site.write(root / "out")
    index = (root / "out" / "index.md").read_text()
    assert "[ledger](notebooks/the-ledger.md)" in index
    assert "[part](notebooks/the-ledger.md#a-part)" in index
    assert "[it](https://github.com/someone/some-course/blob/main/pyproject.toml)" in index
    ledger = (root / "out" / "notebooks" / "the-ledger.md").read_text()
    assert ledger.startswith("# The ledger\n\n## A part")
    assert "[map](README.md#map) [up](../index.md)" in ledger


def test_new_pages_enter_the_contents_by_themselves(root):
    assert "guide" not in site_source.Site(root).contents()
    (root / "notebooks" / "guide").mkdir()
    for name in ("00", "course", "index"):
        (root / "notebooks" / "guide" / f"{name}.md").write_text("# G\n")
    (root / "CHANGELOG.md").write_text("# C\n")
    contents = site_source.Site(root).contents()
    names = [line for line in contents.splitlines() if line[:1].isalnum() or "/" in line]
    assert names == [
        "notebooks/README", "notebooks/00_start", "notebooks/01_next",
        "notebooks/the-ledger", "api/index",
        "notebooks/guide/index", "notebooks/guide/course", "notebooks/guide/00",
        "CHANGELOG",
    ]


def test_a_second_run_touches_nothing_and_removes_what_is_gone(root):
    site_source.Site(root).write(root / "out")
    page = root / "out" / "notebooks" / NAME
    before = page.stat().st_mtime_ns
    (root / "out" / "old.md").write_text("# Old\n")
    site_source.Site(root).write(root / "out")
    assert page.stat().st_mtime_ns == before
    assert not (root / "out" / "old.md").exists()


def test_no_picture_comes_from_another_server(root):
    site_source.Site(root).write(root / "out")
    assert "colab-badge.svg" not in (root / "out" / "notebooks" / NAME).read_text()
