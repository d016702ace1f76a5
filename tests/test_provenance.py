"""Which code made a result: its commit, and whether anything differed from it."""

import subprocess

import pytest
import torch

from attnres_ref.training import provenance as module
from attnres_ref.training.provenance import provenance, require_clean


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of one commit that seems to hold the package."""
    inside = tmp_path / "attnres_ref" / "training"
    inside.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(inside / "provenance.py"))
    (inside / "provenance.py").write_text("1\n")
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_a_clean_checkout_names_its_commit(checkout):
    made = provenance(torch.device("cpu"))
    head = (checkout / ".git" / "refs" / "heads").iterdir()
    assert next(head).read_text().startswith(made["commit"]) and made["dirty"] is False
    (checkout / "recorded.json").write_text("{}")          # a record is no code
    require_clean()


@pytest.mark.parametrize("file", ["attnres_ref/training/provenance.py", "new.py"])
def test_code_that_differs_is_named_and_refused(checkout, file):
    (checkout / file).write_text("2\n")
    assert provenance(torch.device("cpu"))["dirty"] is True
    with pytest.raises(RuntimeError, match=f"{file}: not committed"):
        require_clean()


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))
    made = provenance(torch.device("cpu"))
    assert made["commit"] is None and made["dirty"] is None
    require_clean()
