"""What a shared link shows of a page of the site, and where its feedback goes."""

import pytest

import links
from made_up import REPO

pytest.importorskip("docutils", reason="make site installs the extra `site`")
from docutils import nodes, utils

import head


def page(*paragraphs):
    document = utils.new_document("page")
    document += nodes.section("", nodes.title("", "A page"), *paragraphs)
    return document


def text(words, *inside):
    return nodes.paragraph("", "", nodes.Text(words), *inside)


ROW = text("Previous: ", nodes.reference("", 50 * "x"))
FORMULA = text("A formula that nobody can read in a message: ", nodes.math("", "x^2"))
HTML = text("Slides of this notebook, slides of it, ", nodes.raw("", "<a>", format="html"))
PLAIN = "In PreNorm every layer adds\nits output to one sum."


def test_the_description_is_the_first_paragraph_that_can_be_read_alone():
    last = text("Short."), text(PLAIN), text("And so on for a second paragraph.")
    found = head.description(page(ROW, FORMULA, HTML, *last))
    assert found == PLAIN.replace("\n", " ")
    assert head.description(page(ROW)) == head.description(None) == head.SITE
    cut = head.description(page(text("word " * 100)))
    assert cut.endswith("word ...") and head.LONGEST - 5 < len(cut) - 4 <= head.LONGEST


@pytest.mark.parametrize("repo", [REPO, "your-name/some-course"])
def test_addresses_are_absolute_or_left_out(repo, monkeypatch):
    monkeypatch.setattr(links, "setting", lambda root=None: repo)
    home = "https://someone.github.io/some-course/"
    known = repo == REPO
    found = head.tags('A "page"', "What it holds", known and home + "a.html")
    assert 'property="og:title" content="A &quot;page&quot;"' in found
    assert 'name="description" content="What it holds"' in found
    assert (f'property="og:image" content="{home}_static/card.png"' in found) == known
    assert (f'property="og:url" content="{home}a.html"' in found) == known
    assert ("http" in found) == known
    new = f"https://github.com/{repo}/issues/new?title=02%20%C2%B7%20Full%3A%20something"
    assert head.feedback("02 · Full").startswith(new) == known
    assert bool(head.feedback("02 · Full")) == known
