"""The course's own notebooks keep to the anatomy; tools/lint.py has the rules."""

import os
import re

import pytest

import cells
import course
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


def test_notebook_12_runs_without_transformers(tmp_path):
    """Up to one sentence where it is needed."""
    fake = tmp_path / "transformers"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise ImportError\n", encoding="utf-8")
    path = next(path for path in cells.notebooks() if path.name.startswith("12"))
    folders = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    env = os.environ | dict(
        PYTHONPATH=os.pathsep.join(folders), ATTNRES_PRESET="ci",
        ATTNRES_CACHE_DIR=str(tmp_path / "cache"),
    )
    notebook = cells.read(path)
    assert course.run(notebook, path.parent, timeout=120, env=env) is None
    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert printed.count("transformers is not installed: a decoder of PyTorch's") == 1
    assert "skipped: transformers is not installed" in printed
