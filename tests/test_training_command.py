"""`python -m attnres_ref.training`: killed, started twice, misspelt; and its sizes."""

import os
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import torch

from attnres_ref.training import Diverged, presets
from attnres_ref.training.__main__ import train_command


def start(folder, *options):
    """The same small training, in a process of its own."""
    command = [
        sys.executable, "-m", "attnres_ref.training", "--preset", "ci", "--steps", "24",
        "--residual", "full", "--batch-size", "1", "--checkpoint-every", "5",
        "--data", __file__, "--checkpoint-dir", str(folder), *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def test_every_option_reaches_the_run(monkeypatch):
    asked = dict(steps=7, seed=5, batch_size=3, checkpoint_every=2, lr=0.5, block_size=2,
                 query_lr_scale=0.25, query_weight_decay=0.125, checkpoint_dir="x")
    words = [w for n, v in asked.items() for w in (f"--{n.replace('_', '-')}", str(v))]
    seen = {}

    def stand_in(model, recipe, corpus, **rest):
        seen.update(asdict(model) | asdict(recipe) | rest)
        raise Diverged("here")

    monkeypatch.setattr("attnres_ref.training.__main__.train", stand_in)
    monkeypatch.setattr("attnres_ref.training.__main__.holds_run", lambda folder: True)
    with pytest.raises(SystemExit, match="^error: here$"):
        train_command(["--data", __file__, "--compile", "--resume", *words])
    assert (asked | dict(compile=True, resume=True)).items() <= seen.items()


@pytest.mark.parametrize("error, option, message", [
    ("torch._dynamo.exc.TorchDynamoException('No g++\\nand more')", ["--compile"],
     r"error: torch.compile failed \(No g\+\+\): leave out --compile.* or clang$"),
    ("KeyboardInterrupt", ["--checkpoint-dir", "x"], "interrupted: .*with --resume"),
    ("KeyboardInterrupt", [], "interrupted: .*nothing was kept"),
])
def test_how_a_run_ended_is_told_in_one_line(error, option, message, monkeypatch):
    def stand_in(*_, **__):
        raise eval(error)              # torch._dynamo takes seconds to import

    monkeypatch.setattr("attnres_ref.training.__main__.train", stand_in)
    with pytest.raises(SystemExit, match=f"^{message}"):
        train_command(["--data", __file__, *option])


def test_warnings_are_a_line_each(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text("a line of a run whose checkpoint is gone\n")
    options = ["--steps", "2", "--checkpoint-dir", str(tmp_path), "--resume"]
    train_command(["--preset", "ci", "--data", __file__, *options])
    said = f"warning: {tmp_path / 'checkpoint.pt'} is not there: the run begins anew"
    assert said in capsys.readouterr().err.splitlines()


def test_sigkill_then_two_processes_at_once_make_the_same_run(tmp_path):
    victim, whole = start(tmp_path / "killed"), start(tmp_path / "whole")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 6:
        assert victim.poll() is None
        time.sleep(0.01)
    victim.kill()
    assert victim.wait() < 0
    # Each would write its own lines: one waits until the other is done.
    both = [start(tmp_path / "killed", "--resume") for _ in range(2)]
    outputs = [process.communicate()[0] for process in (whole, *both)]
    assert [process.returncode for process in (whole, *both)] == [0, 0, 0]
    assert b"validation loss" in outputs[0] and outputs == outputs[:1] * 3
    assert metrics.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("arguments, message", [
    (["--residual", "postnorm"], "invalid choice"),
    (["--preset", "huge"], "invalid choice"),
    (["--resume"], "--resume needs --checkpoint-dir"),
    (["--data", "no_such_corpus"], "unknown corpus"),
    (["--steps", "0"], "steps is 0"),
    (["--block-size", "99"], "block_size is 99"),
    (["--block-size", "2", "--residual", "full"], "full has no such blocks"),
    (["--checkpoint-dir", ""], "checkpoint_dir is ''"),
    (["--checkpoint-dir", "mistyped", "--resume"], "mistyped holds no run to resume"),
])
def test_the_command_names_bad_arguments_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        train_command(["--preset", "ci", *arguments])
    assert exit_.value.code not in (0, None)
    assert message in capsys.readouterr().err + str(exit_.value.code)


@pytest.mark.parametrize("sm, name", [(None, "cpu"), ((7, 5), "t4"), ((9, 0), "gpu")])
def test_the_preset_suits_the_device_or_is_asked_for(sm, name, monkeypatch):
    monkeypatch.delenv("ATTNRES_PRESET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: sm is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: sm)
    assert presets.current().name == name
    for asked_for in presets.PRESETS:
        monkeypatch.setenv("ATTNRES_PRESET", asked_for)
        assert presets.current().name == asked_for
        assert presets.current().lm("block").block_size == 4
