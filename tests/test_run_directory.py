"""A run's folder holds a whole checkpoint or none, and belongs to one run."""

import os
from dataclasses import replace

import pytest
import torch

import small
from attnres_ref.training import run_directory, train
from attnres_ref.training.run_directory import CheckpointError
from small import MODEL, RECIPE, corpus


@pytest.fixture
def finished(tmp_path):
    """The folder of a finished run."""
    train(MODEL, RECIPE, corpus(), tmp_path)
    return tmp_path


def test_killed_while_saving_and_resumed_is_the_same_run(tmp_path, monkeypatch):
    save = torch.save

    def dying_save(state, path):
        save(state, path)
        if state["step"] == 8:
            os.truncate(path, path.stat().st_size // 2)
            raise small.Killed

    with monkeypatch.context() as patch, pytest.raises(small.Killed):
        patch.setattr(torch, "save", dying_save)
        train(MODEL, RECIPE, corpus(), tmp_path)
    assert run_directory.load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
    small.assert_resumes_as_the_whole_run(tmp_path)


def test_a_file_takes_its_name_once_it_is_on_the_disk(tmp_path, monkeypatch):
    """Or a power cut could leave an empty file; and without the rename nothing stays."""
    calls = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, lambda *_, name=name: calls.append(name))
    run_directory.write_atomically(tmp_path / "file", lambda path: path.write_text("new"))
    assert calls == ["fsync", "replace"] and os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write to checkpoint_dir .*choose a folder"):
        train(MODEL, RECIPE, corpus(), tmp_path / "file" / "run")


@pytest.mark.parametrize("step", [2, 6], ids=["before its first checkpoint", "after it"])
def test_a_folder_with_a_run_is_not_overwritten(tmp_path, step):
    small.train_until_killed(step, tmp_path)
    with pytest.raises(CheckpointError, match="already holds a run.*--resume"):
        train(MODEL, RECIPE, corpus(), tmp_path)
    small.assert_resumes_as_the_whole_run(tmp_path)


def test_another_configuration_is_named(finished):
    other = replace(MODEL, residual="prenorm"), replace(RECIPE, lr=1e-3), corpus(3000)
    message = (
        "model.residual: 'full' there, 'prenorm' here; train.lr: 0.002 there, 0.001 here; "
        "data.bytes: 2000 there, 3000 here"
    )
    with pytest.raises(CheckpointError, match=message):
        train(*other, finished, resume=True)
    assert (finished / "metrics.jsonl").read_text() == small.whole_run()[1]


def test_a_finished_run_is_read_back_unless_its_checkpoint_is_gone(finished):
    path = finished / "result.json"
    path.write_text(path.read_text().replace('"commit": ', '"commit_then": '))
    again = train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert "commit_then" in again.result and len(again.metrics) == 12
    (finished / "checkpoint.pt").unlink()
    again = train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert "commit_then" not in again.result and len(again.metrics) == 12


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named_and_left_alone(finished, part):
    path = finished / "checkpoint.pt"
    os.truncate(path, int(part * path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is truncated"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert (finished / "metrics.jsonl").read_text() == small.whole_run()[1]


def test_metrics_shorter_than_the_checkpoint_are_named(finished):
    (finished / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="has 0 lines, the checkpoint is of step 12"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"step": 1, "identity": {}, "model": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        run_directory.load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()
