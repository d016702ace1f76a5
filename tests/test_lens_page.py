"""The folder of the depth lens: complete, small, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

import cells
import lens_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "lens"
    lens_page.copy_to(folder, notebooks="../read")
    return folder


def test_every_part_is_there_and_all_together_are_small(folder):
    html = (folder / "index.html").read_text(encoding="utf-8")
    parts = re.findall(r'(?:src|href)="(?!\.\./)([^"]+)"', html)
    assert len(parts) == 9 and all((folder / part).is_file() for part in parts)
    assert len(list((folder / "weights").glob("*.js"))) == 16
    assert sum(path.stat().st_size for path in folder.rglob("*.*")) <= 8e6
    assert "http" not in html


def test_links_to_notebooks_name_their_sections(folder):
    html = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="\.\./read/(\w+)\.html#?([^"]*)"', html)
    assert len(links) == 2
    for name, section in links:
        notebook = cells.read(Path(cells.ROOT / "notebooks" / f"{name}.ipynb"))
        heads = re.findall(r"(?m)^##+ (.+)$", "\n".join(c.source for c in notebook.cells))
        slugs = {head.lower().replace(" ", "-") for head in heads} | {""}
        assert section in slugs


def test_a_second_copy_replaces_the_first(folder):
    (folder / "weights" / "old.js").write_text("", encoding="utf-8")
    lens_page.copy_to(folder, notebooks="../read")
    assert not (folder / "weights" / "old.js").exists()
