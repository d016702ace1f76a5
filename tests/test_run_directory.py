"""A run's folder holds a whole checkpoint or none, belongs to one run, and loses no work
to a power cut, a full disk, a drive without locks or a damaged file."""

import errno
import fcntl
import json
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

import small
from attnres_ref.training import disk, run_directory, train
from attnres_ref.training.run_directory import CheckpointError, load_checkpoint
from small import MODEL, RECIPE, corpus


@pytest.fixture
def finished(tmp_path):
    """The folder of a finished run."""
    train(MODEL, RECIPE, corpus(), tmp_path)
    return tmp_path


class PowerCut:
    """The power goes before the folder's `at`-th fsync or rename. What remains was surely
    on the disk: the names as of the folder's last fsync, the bytes as of each file's."""

    def __init__(self, folder, at, patch):
        self.folder, self.left, self.names, self.bytes = folder, at, {}, {}
        rename = os.replace
        patch.setattr(os, "replace", lambda *paths: self.go_on() or rename(*paths))
        patch.setattr(os, "fsync", self.fsync)

    def go_on(self):
        self.left -= 1
        if not self.left:
            raise small.Killed

    def fsync(self, descriptor):
        inode = os.fstat(descriptor).st_ino
        files = {path.stat().st_ino: path for path in self.folder.iterdir()}
        if inode in files:
            self.go_on()
            self.bytes[inode] = files[inode].read_bytes()
        elif inode == self.folder.stat().st_ino:
            self.go_on()
            self.names = {path: inode for inode, path in files.items()}

    def what_is_left(self):
        """How many lines there were, and are; and the step of the checkpoint there is."""
        metrics, checkpoint = self.folder / "metrics.jsonl", self.folder / "checkpoint.pt"
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        for path in self.folder.iterdir():
            path.unlink()
        for path, inode in self.names.items():
            path.write_bytes(self.bytes.get(inode, b""))
        left = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        step = load_checkpoint(checkpoint)["step"] if checkpoint.exists() else 0
        return lines, left, step


@pytest.mark.filterwarnings("ignore:.* is not there")
def test_after_a_power_cut_at_any_moment_the_run_goes_on(tmp_path, monkeypatch):
    recipe = replace(RECIPE, steps=2, checkpoint_every=1)
    whole = train(MODEL, recipe, corpus())
    for at in range(1, 3 + 2 * 4 + 3 + 1):     # 4 for a checkpoint, 3 for another file
        folder = tmp_path / str(at)
        with monkeypatch.context() as patch, pytest.raises(small.Killed):
            cut = PowerCut(folder, at, patch)
            train(MODEL, recipe, corpus(), folder)
        lines, left, step = cut.what_is_left()
        assert lines - 1 <= step <= left
        run = train(MODEL, recipe, corpus(), folder, resume=True)
        assert run.metrics == whole.metrics and small.same_weights(run.model, whole.model)


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half(tmp_path, monkeypatch):
    def full(descriptor):
        if os.fstat(descriptor).st_size > 1e4 and (tmp_path / "checkpoint.pt").exists():
            raise OSError(errno.ENOSPC, "No space left")

    said = r"checkpoint_dir .* \(No space left\): make room.*checkpoint\.pt, step 1$"
    with monkeypatch.context() as patch, pytest.raises(OSError, match=said):
        patch.setattr(os, "fsync", full)
        train(MODEL, RECIPE, corpus(), tmp_path)
    assert not list(tmp_path.glob("*.part"))
    small.assert_resumes_as_the_whole_run(tmp_path)


def test_the_folder_may_be_under_home_and_what_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train(MODEL, RECIPE, corpus(), "~/runs/a")
    assert (tmp_path / "runs" / "a" / "result.json").exists()
    for name in "", "~nobody-at-all/a":
        with pytest.raises(ValueError, match=f"checkpoint_dir is '{name}': "):
            train(MODEL, RECIPE, corpus(), name)
    with pytest.raises(OSError, match="cannot write to checkpoint_dir .*choose a folder"):
        train(MODEL, RECIPE, corpus(), f"{__file__}/run")


def test_what_windows_and_network_drives_refuse_is_done_without(tmp_path, monkeypatch):
    refused, fsync, os_replace = [], os.fsync, os.replace

    def no_fsync(descriptor):                          # of a folder, or for reading only
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    def no_replace(source, target):                    # at first: a reader has it open
        refused.append(target)
        if refused.count(target) == 1:
            raise PermissionError(errno.EACCES, "Access is denied")
        os_replace(source, target)

    monkeypatch.setattr(os, "fsync", no_fsync)
    monkeypatch.setattr(os, "replace", no_replace)
    monkeypatch.setitem(sys.modules, "fcntl", None)    # cannot be imported
    train(MODEL, RECIPE, corpus(), tmp_path)
    small.assert_resumes_as_the_whole_run(tmp_path)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK])
def test_a_drive_without_locks_is_trained_on_with_a_warning(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"\(no locks\): let no second process train"):
        train(MODEL, RECIPE, corpus(), tmp_path)


@pytest.mark.filterwarnings("ignore:no lock")
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl.part", "checkpoint.pt.part"])
def test_a_planted_link_is_not_followed(tmp_path, name):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    train(MODEL, RECIPE, corpus(), tmp_path / "run")
    assert (tmp_path / "mine").read_text() == "mine"


def test_of_two_starts_at_once_one_waits_and_is_refused(tmp_path, monkeypatch):
    waits = threading.Event()
    monkeypatch.setattr(disk.warnings, "warn", lambda *_, **__: waits.set())
    with ThreadPoolExecutor() as pool:
        with disk.locked(tmp_path / ".lock"):
            second = pool.submit(train, MODEL, RECIPE, corpus(), tmp_path)
            assert waits.wait(60)
            (tmp_path / "metrics.jsonl").write_text(small.whole_run()[1])
        with pytest.raises(CheckpointError, match="already holds a run"):
            second.result()


@pytest.mark.parametrize("step", [2, 6], ids=["in its first steps", "later"])
def test_a_folder_with_a_run_is_not_overwritten(tmp_path, step):
    small.train_until_killed(step, tmp_path)
    for file in tmp_path / "metrics.jsonl", tmp_path / "checkpoint.pt":
        file.rename(tmp_path / "away")                 # the other one is a run by itself
        with pytest.raises(CheckpointError, match="already holds a run.*--resume"):
            train(MODEL, RECIPE, corpus(), tmp_path)
        (tmp_path / "away").rename(file)
    other = replace(MODEL, residual="prenorm"), replace(RECIPE, seed=1), corpus(3000)
    message = (
        "model.residual: 'full' there, 'prenorm' here; train.seed: 0 there, 1 here; "
        "data.bytes: 2000 there, 3000 here"
    )
    with pytest.raises(CheckpointError, match=message):
        train(*other, tmp_path, resume=True)
    small.assert_resumes_as_the_whole_run(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": 1}', '{"step": '])
def test_a_finished_run_is_read_back_whatever_its_result(finished, monkeypatch, text):
    """With what made it then, not with what reads it now; and without a warning."""
    path = finished / "result.json"
    whole = json.loads(path.read_text())
    with warnings.catch_warnings(action="error"):
        path.write_text(text)
        again = train(MODEL, RECIPE, corpus(), finished, resume=True, attend=print)
        assert again.result == whole == json.loads(path.read_text())
        monkeypatch.delattr(run_directory, "write_atomically")     # as if read-only
        again = train(MODEL, RECIPE, corpus(), finished, resume=True, attend=print)
    assert again.result == whole and again.metrics == small.whole_run()[0].metrics


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named_and_left_alone(finished, part):
    path = finished / "checkpoint.pt"
    os.truncate(path, int(part * path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is truncated"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert (finished / "metrics.jsonl").read_text() == small.whole_run()[1]


def rewrite(folder, change):
    state = load_checkpoint(folder / "checkpoint.pt")
    change(state)
    torch.save(state, folder / "checkpoint.pt")


@pytest.mark.parametrize("change", [
    lambda state: state["model"].update(new=state["model"].pop("head.weight")),
    lambda state: state.pop("optimizer"),
    lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
    lambda state: state["identity"].pop("data"),
    lambda state: state.update(step="4"),
    lambda state: state.update(step=99),
])
def test_a_checkpoint_that_does_not_fit_is_named(finished, change):
    rewrite(finished, change)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)


@pytest.mark.parametrize("change, differs", [
    (lambda state: state["identity"]["made"].update(torch="1.0"), "torch: '1.0' there"),
    (lambda state: state["identity"]["made"].update(attend="mine"), "attend: 'mine' there"),
    (lambda state: (state["identity"].pop("made"), state.pop("metrics")), "made: None"),
], ids=["versions", "operator", "a checkpoint of version 0.1.0"])
def test_what_else_made_a_checkpoint_is_said_where_it_differs(tmp_path, change, differs):
    small.train_until_killed(6, tmp_path)
    rewrite(tmp_path, change)
    with pytest.warns(UserWarning, match=f"{differs}.*bit for bit is no longer promised"):
        small.assert_resumes_as_the_whole_run(tmp_path)


def test_metrics_without_their_checkpoint_are_not_thrown_away(finished):
    (finished / "checkpoint.pt").unlink()
    before = (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="is gone, but .*restore the checkpoint"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert (finished / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("part", [0, 0.3, 0.97])
def test_metrics_that_were_cut_are_whole_again(finished, part):
    path = finished / "metrics.jsonl"
    os.truncate(path, int(part * path.stat().st_size))
    small.assert_resumes_as_the_whole_run(finished)


@pytest.mark.parametrize("line", [b"x\n", b"\xff\n", b'{"step": 1}\n'])
def test_metrics_of_another_run_are_named_and_left_alone(finished, line):
    path = finished / "metrics.jsonl"
    path.write_bytes(12 * line)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl does not fit.*delete"):
        train(MODEL, RECIPE, corpus(), finished, resume=True)
    assert path.read_bytes() == 12 * line
    path.unlink()
    small.assert_resumes_as_the_whole_run(finished)


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"step": 1, "identity": {}, "model": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()
