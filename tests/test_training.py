"""Training is one run, however often it is interrupted; its failures say what to do."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from attnres_ref import LM, LMConfig, train
from attnres_ref.study.sweep import Trial, run_sweep
from attnres_ref.training import (
    Diverged,
    TrainConfig,
    Trainer,
    half_precision,
    learning_rate,
    make_optimizer,
    presets,
)
from attnres_ref.training import trainer as module
from attnres_ref.training.__main__ import train_command
from attnres_ref.training.run_directory import CheckpointError, load_checkpoint
from tiny_data import Corpus

MODEL = LMConfig(d_model=8, n_layers=4, n_heads=2, context=8, residual="full")
RECIPE = TrainConfig(
    steps=12, batch_size=2, lr=2e-3, warmup_steps=2,
    eval_every=5, eval_windows=3, checkpoint_every=4,
)


def corpus(length=2000):
    text = torch.randint(256, (length,), generator=torch.Generator().manual_seed(3))
    return Corpus("random bytes", text.to(torch.uint8))


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the code may catch it."""


def kill():
    raise Killed


def corpus_that(act, at_step):
    """The corpus, which calls `act` when the batch of `at_step` is drawn."""

    class Acting(Corpus):
        def batch(self, seed, step, *size):
            if step == at_step:
                act()
            return super().batch(seed, step, *size)

    whole = corpus()
    return Acting(whole.name, whole.tokens)


def train_until_killed(at_step, folder):
    with pytest.raises(Killed):
        train(MODEL, RECIPE, corpus_that(kill, at_step), folder)


def replayed(folder):
    return (folder / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(MODEL, RECIPE, corpus(), folder)


def assert_same_run(folder, run, uninterrupted):
    whole_folder, whole = uninterrupted
    assert replayed(folder) == replayed(whole_folder)
    assert run.metrics == whole.metrics
    for ours, theirs in zip(run.model.parameters(), whole.model.parameters()):
        assert torch.equal(ours, theirs)


def test_metrics_have_a_line_per_step(uninterrupted):
    folder, run = uninterrupted
    lines = [json.loads(line) for line in replayed(folder).splitlines()]
    assert lines == run.metrics and [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in lines if "val_loss" in line] == [5, 10, 12]
    result = json.loads((folder / "result.json").read_text())
    assert result["data"] == corpus().fingerprint and result["train"]["lr"] == RECIPE.lr
    assert {"device", "torch", "python", "commit"} <= result.keys()


@pytest.mark.parametrize(
    "step", [0, 7, 8, 11], ids=["first", "before save", "after", "last"]
)
def test_killed_between_steps_and_resumed_is_the_same_run(step, tmp_path, uninterrupted):
    train_until_killed(step, tmp_path)
    run = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert_same_run(tmp_path, run, uninterrupted)


@pytest.mark.parametrize("moment", ["half of the file written", "before the rename"])
def test_killed_while_saving_and_resumed_is_the_same_run(
    moment, tmp_path, monkeypatch, uninterrupted
):
    saves, save, replace = [], torch.save, os.replace

    def dying_save(state, path):
        saves.append(path)
        save(state, path)
        if len(saves) == 2 and moment == "half of the file written":
            os.truncate(path, path.stat().st_size // 2)
            raise Killed

    def dying_replace(source, target):
        if len(saves) == 2 and moment == "before the rename":
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dying_save)
        patch.setattr(os, "replace", dying_replace)
        with pytest.raises(Killed):
            train(MODEL, RECIPE, corpus(), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
    run = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert_same_run(tmp_path, run, uninterrupted)


def test_half_a_line_of_metrics_is_dropped_on_resume(tmp_path, uninterrupted):
    train_until_killed(6, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    run = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert_same_run(tmp_path, run, uninterrupted)


def test_sigkill_of_the_command_and_resume_is_the_same_run(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(256)) * 40)
    command = [
        sys.executable, "-m", "attnres_ref.training",
        "--residual", "full", "--preset", "ci", "--data", str(text),
        "--steps", "24", "--checkpoint-every", "5", "--batch-size", "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder, *more):
        return subprocess.Popen(
            [*command, "--checkpoint-dir", str(folder), *more], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )

    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    victim = start(folder)
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 8:
        assert victim.poll() is None, victim.stderr.read().decode()
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert start(folder, "--resume").wait() == 0
    assert replayed(folder) == replayed(whole)


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(tmp_path, uninterrupted):
    handler = signal.getsignal(signal.SIGINT)
    interrupting = corpus_that(lambda: signal.raise_signal(signal.SIGINT), at_step=6)
    with pytest.raises(KeyboardInterrupt):
        train(MODEL, RECIPE, interrupting, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 7
    assert signal.getsignal(signal.SIGINT) is handler
    run = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert_same_run(tmp_path, run, uninterrupted)


def test_training_works_outside_the_main_thread(uninterrupted):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(train(MODEL, RECIPE, corpus())))
    thread.start()
    thread.join()
    assert runs[0].metrics == uninterrupted[1].metrics


def test_a_finished_run_is_read_back_with_its_own_provenance(tmp_path):
    train(MODEL, RECIPE, corpus(), tmp_path)
    path = tmp_path / "result.json"
    path.write_text(path.read_text().replace('"commit": ', '"commit_then": '))
    again = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert "commit_then" in again.result and len(again.metrics) == 12


def test_seeds_pair_initialisation_and_batches_across_residuals():
    def first_loss(residual, seed=0):
        model = dataclasses.replace(MODEL, residual=residual)
        recipe = dataclasses.replace(RECIPE, seed=seed)
        return Trainer(model, recipe, corpus()).step()["loss"]

    assert first_loss("prenorm") == pytest.approx(first_loss("full"), abs=1e-4)
    assert first_loss("prenorm") == pytest.approx(first_loss("block"), abs=1e-4)
    assert first_loss("full", seed=1) != first_loss("full", seed=0)


def test_training_learns():
    periodic = Corpus("period 4", torch.tensor([1, 2, 3, 4], dtype=torch.uint8).repeat(500))
    run = train(MODEL, dataclasses.replace(RECIPE, steps=60, lr=1e-2), periodic)
    assert run.metrics[0]["loss"] > 5 and run.val_loss < 0.5


def test_queries_neither_decay_nor_share_the_learning_rate():
    model = LM(dataclasses.replace(MODEL, residual="block", block_size=2))
    names = {id(p): name for name, p in model.named_parameters()}
    config = dataclasses.replace(RECIPE, query_lr_scale=0.25)
    matrices, vectors, queries = make_optimizer(model, config).param_groups
    assert {names[id(p)] for p in queries["params"]} == {
        "stream.queries",
        "stream.queries_norm",
    }
    assert queries["weight_decay"] == 0 and queries["lr_scale"] == 0.25
    assert all("norm" in names[id(p)] for p in vectors["params"])
    assert not vectors["weight_decay"]
    assert all(p.dim() == 2 for p in matrices["params"]) and matrices["weight_decay"] == 0.1
    counted = sum(len(group["params"]) for group in (matrices, vectors, queries))
    assert counted == len(names)


def test_query_weight_decay_reaches_the_stream_and_nothing_else():
    model = LM(MODEL)
    recipe = dataclasses.replace(RECIPE, query_weight_decay=0.3)
    groups = make_optimizer(model, recipe).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    of_stream = {id(p) for p in model.stream.parameters()}
    assert {i for i, decay in decays.items() if decay == 0.3} == of_stream


def test_query_lr_scale_moves_the_queries_in_proportion():
    moved = []
    for scale in (1.0, 0.25, 0.0):
        config = dataclasses.replace(RECIPE, query_lr_scale=scale)
        trainer = Trainer(MODEL, config, corpus())
        trainer.step()
        moved.append(trainer.model.stream.queries.detach().clone())
    torch.testing.assert_close(moved[1], 0.25 * moved[0])
    assert moved[0].abs().max() > 0 and torch.equal(moved[2], torch.zeros_like(moved[2]))


def test_learning_rate_warms_up_and_falls():
    config = TrainConfig(steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == [pytest.approx((i + 1) / 10) for i in range(10)]
    assert rates[10] == 1.0 and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55) and 0.1 < rates[-1] < 0.11


def test_precision_follows_the_device(monkeypatch):
    assert half_precision(torch.device("cpu")) is None
    cuda = torch.device("cuda")
    for capability, dtype in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert half_precision(cuda) == dtype


def nan_from(step):
    class Poisoned(Trainer):
        def loss(self, inputs, targets):
            poison = float("nan") if self.done == step else 1
            return poison * super().loss(inputs, targets)

    return Poisoned


def test_nan_loss_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("attnres_ref.training.trainer.Trainer", nan_from(6))
    with pytest.raises(Diverged, match=r"at step 7: lower lr.*checkpoint\.pt, step 4"):
        train(MODEL, RECIPE, corpus(), tmp_path)
    monkeypatch.undo()
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(weight.isfinite().all() for weight in state["model"].values())
    assert len(train(MODEL, RECIPE, corpus(), tmp_path, resume=True).metrics) == 12


def test_nan_loss_without_a_folder_says_so(monkeypatch):
    monkeypatch.setattr("attnres_ref.training.trainer.Trainer", nan_from(0))
    with pytest.raises(Diverged, match="at step 1.*no checkpoint_dir was given"):
        train(MODEL, RECIPE, corpus())


@pytest.fixture
def fp16(monkeypatch):
    """What a T4 does, on the CPU: fp16 layers and a loss scaler."""
    monkeypatch.setattr(module, "half_precision", lambda device: torch.float16)


def test_fp16_comes_with_a_loss_scaler(fp16):
    trainer, seen = Trainer(MODEL, RECIPE, corpus()), []
    trainer.model.head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    trainer.step()
    assert trainer.scaler.is_enabled() and seen == [torch.float16]


def test_fp16_follows_float32_and_resumes_with_its_scale(fp16, tmp_path, uninterrupted):
    whole = train(MODEL, RECIPE, corpus(), tmp_path / "whole")
    for ours, theirs in zip(whole.metrics, uninterrupted[1].metrics):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.02)
    train_until_killed(9, tmp_path / "killed")
    run = train(MODEL, RECIPE, corpus(), tmp_path / "killed", resume=True)
    assert run.metrics == whole.metrics
    scale = load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["scaler"]["scale"]
    assert scale == load_checkpoint(tmp_path / "whole" / "checkpoint.pt")["scaler"]["scale"]


def test_fp16_skips_an_overflow_and_stops_when_no_scale_helps(fp16):
    trainer = Trainer(MODEL, RECIPE, corpus())
    poison = trainer.model.head.weight.register_hook(lambda grad: grad * float("inf"))
    before = trainer.model.head.weight.detach().clone()
    line = trainer.step()
    assert line["grad_norm"] is None and json.loads(json.dumps(line)) == line
    assert torch.equal(trainer.model.head.weight, before)
    with pytest.raises(Diverged, match="gradient norm"):
        for _ in range(40):
            trainer.step()
    poison.remove()


def test_a_float32_checkpoint_goes_on_in_fp16(tmp_path, monkeypatch):
    train(MODEL, RECIPE, corpus(), tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    monkeypatch.setattr(module, "half_precision", lambda device: torch.float16)
    trainer = Trainer(MODEL, RECIPE, corpus())
    trainer.load_state_dict(state)
    assert trainer.done == 12 and math.isfinite(trainer.step()["loss"])


def test_a_second_process_waits_for_the_folder(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(256)) * 40)
    command = [
        sys.executable, "-m", "attnres_ref.training",
        "--residual", "full", "--preset", "ci", "--data", str(text),
        "--steps", "12", "--batch-size", "1",
        "--resume", "--checkpoint-dir", str(tmp_path / "run"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL,
                             stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1] and b"validation loss" in outputs[0]
    assert replayed(tmp_path / "run").count(b"\n") == 12


def test_metrics_shorter_than_the_checkpoint_are_named(tmp_path):
    train(MODEL, RECIPE, corpus(), tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="has 0 lines, the checkpoint is of step 12"):
        train(MODEL, RECIPE, corpus(), tmp_path, resume=True)


def test_a_deleted_checkpoint_takes_its_result_along(tmp_path, monkeypatch):
    train(MODEL, RECIPE, corpus(), tmp_path)
    (tmp_path / "checkpoint.pt").unlink()
    monkeypatch.setattr("attnres_ref.training.trainer.Trainer", nan_from(0))
    with pytest.raises(Diverged):
        train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert not (tmp_path / "result.json").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(MODEL, RECIPE, corpus(), tmp_path)
    before = replayed(tmp_path)
    with pytest.raises(CheckpointError, match="already holds a run.*--resume"):
        train(MODEL, RECIPE, corpus(), tmp_path)
    assert replayed(tmp_path) == before


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named_and_left_alone(tmp_path, keep):
    train(MODEL, RECIPE, corpus(), tmp_path)
    path = tmp_path / "checkpoint.pt"
    size = path.stat().st_size
    os.truncate(path, int(keep * size) if isinstance(keep, float) else keep)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is truncated"):
        train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert replayed(tmp_path).count(b"\n") == 12


def test_a_checkpoint_of_another_configuration_is_named(tmp_path):
    train(MODEL, RECIPE, corpus(), tmp_path)
    others = {
        "model.residual: 'full' there, 'prenorm' here": (
            dataclasses.replace(MODEL, residual="prenorm"), RECIPE, corpus()),
        "train.lr: 0.002 there, 0.001 here": (
            MODEL, dataclasses.replace(RECIPE, lr=1e-3), corpus()),
        "data.bytes: 2000 there, 3000 here": (MODEL, RECIPE, corpus(3000)),
    }
    for message, arguments in others.items():
        with pytest.raises(CheckpointError, match=message):
            train(*arguments, tmp_path, resume=True)
    assert replayed(tmp_path).count(b"\n") == 12


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"step": 1, "identity": {}, "model": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OSError, match="cannot write to checkpoint_dir .*choose a folder"):
        train(MODEL, RECIPE, corpus(), file / "run")


def test_a_corpus_shorter_than_the_context_is_named():
    with pytest.raises(ValueError, match="random bytes.*context"):
        train(MODEL, RECIPE, corpus(length=9))


BAD_RECIPES = {
    "steps is 0": dict(steps=0),
    "batch_size is -1": dict(batch_size=-1),
    "lr is 0": dict(lr=0.0),
    "lr is nan": dict(lr=float("nan")),
    "query_lr_scale is -1": dict(query_lr_scale=-1.0),
}


@pytest.mark.parametrize("message", BAD_RECIPES)
def test_bad_recipe_is_named(message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**BAD_RECIPES[message])


def test_a_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch):
    trials = [
        Trial(f"lr{lr:g}", MODEL, dataclasses.replace(RECIPE, lr=lr)) for lr in (1e-3, 2e-3)
    ]
    first = run_sweep(trials[:1], corpus(), tmp_path)
    step = Trainer.step

    def only_the_new_trial(self):
        assert self.config.lr == 2e-3, "a finished trial was trained again"
        return step(self)

    monkeypatch.setattr(Trainer, "step", only_the_new_trial)
    records = run_sweep(trials, corpus(), tmp_path)
    assert records[0] == first[0] and records[1]["name"] == "lr0.002"
    assert len(records[1]["train_curve"]) == 12 and records[1]["val_curve"][-1][0] == 12


def seen(model):
    """What an observer may return: JSON values."""
    gradients = any(p.grad is not None for p in model.parameters())
    return {
        "largest_query": model.stream.queries.abs().max().item(),
        "gradients": gradients,
    }


def test_an_observer_joins_every_validation_and_changes_nothing_else(uninterrupted):
    run = train(MODEL, RECIPE, corpus(), observe=seen)
    added = [
        {key: line.pop(key) for key in seen(run.model) if key in line}
        for line in run.metrics
    ]
    assert [line["step"] for line, more in zip(run.metrics, added) if more] == [5, 10, 12]
    assert added[-1] == seen(run.model) and not any(more.get("gradients") for more in added)
    _, plain = uninterrupted
    assert run.metrics == plain.metrics
    for ours, theirs in zip(run.model.parameters(), plain.model.parameters()):
        assert torch.equal(ours, theirs)


def test_a_trial_is_observed_from_its_untrained_model_on(tmp_path):
    def observe(model):
        return {"first_weight": model.head.weight[0, 0].item()}

    record, = run_sweep([Trial("a", MODEL, RECIPE)], corpus(), tmp_path, observe)
    torch.manual_seed(RECIPE.seed)
    assert record["observed"][0] == [0, observe(LM(MODEL))]
    assert [step for step, _ in record["observed"]] == [0, 5, 10, 12]
    assert record["observed"][-1][1]["first_weight"] == record["first_weight"]
    assert len({values["first_weight"] for _, values in record["observed"]}) == 4
    # Read back, not trained again: the same record.
    assert run_sweep([Trial("a", MODEL, RECIPE)], corpus(), tmp_path, observe) == [record]


def test_presets_by_name_device_and_environment(monkeypatch):
    monkeypatch.delenv("ATTNRES_PRESET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert presets.current().name == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, name in (((7, 5), "t4"), ((9, 0), "gpu")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        assert presets.current().name == name
    monkeypatch.setenv("ATTNRES_PRESET", "ci")
    assert presets.current().name == "ci"
    monkeypatch.setenv("ATTNRES_PRESET", "huge")
    with pytest.raises(ValueError, match="preset is 'huge': choose one of"):
        presets.current()
    for preset in presets.PRESETS.values():
        assert preset.lm("block").block_size == 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--residual", "postnorm"], "invalid choice"),
        (["--preset", "huge"], "invalid choice"),
        (["--resume"], "--resume needs --checkpoint-dir"),
        (["--data", "no_such_corpus"], "unknown corpus"),
        (["--steps", "0"], "steps is 0"),
        (["--block-size", "99"], "block_size is 99"),
    ],
)
def test_the_command_names_bad_arguments_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        train_command(["--preset", "ci", *arguments])
    assert exit_.value.code not in (0, None)
    assert message in capsys.readouterr().err + str(exit_.value.code)
