"""The course's own notebooks keep to the anatomy; tools/lint.py has the rules."""

import re

import pytest

import cells
import links
import lint


@pytest.mark.parametrize("path", cells.notebooks(), ids=lambda path: path.name)
def test_anatomy(path):
    faults = lint.faults(path)
    assert not faults, "\n".join(faults)


def test_every_address_agrees_with_the_setting():
    stale = links.restamped_files(links.setting())
    assert not stale, f"run `make links REPO={links.setting()}`: {list(stale)}"


def test_the_map_links_every_notebook():
    text = (cells.ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", text)
    assert linked == [path.name for path in cells.notebooks()]
