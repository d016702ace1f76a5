"""Training is one run, however often it is interrupted; it stops where it diverges."""

import json
import math
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import small
from attnres_ref import LM
from attnres_ref.training import Diverged, Trainer, learning_rate, make_optimizer, train
from attnres_ref.training.run_directory import load_checkpoint
from small import MODEL, RECIPE, corpus


def test_metrics_have_a_line_per_step_and_the_result_says_what_ran():
    run, text = small.whole_run()
    assert [json.loads(line) for line in text.splitlines()] == run.metrics
    assert [line["step"] for line in run.metrics] == list(range(1, 13))
    assert [line["step"] for line in run.metrics if "val_loss" in line] == [5, 10, 12]
    bits = run.metrics[-1]["val_bits_per_byte"]
    assert 2**bits == pytest.approx(math.exp(run.val_loss))
    assert run.result["data"] == corpus().fingerprint
    assert run.result["train"]["lr"] == RECIPE.lr
    assert {"device", "torch", "python", "commit"} <= run.result.keys()


def test_the_run_is_that_of_a_loop_by_hand():
    """Schedule, clipping, and a validation loss that counts each window once."""
    run, data = small.whole_run()[0], corpus()
    torch.manual_seed(RECIPE.seed)
    model = LM(MODEL)
    optimizer = make_optimizer(model, RECIPE)

    def loss(inputs, targets):
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    for step, line in enumerate(run.metrics):
        lr = learning_rate(step, RECIPE)
        for group in optimizer.param_groups:
            group["lr"] = lr
        now = loss(*data.batch(RECIPE.seed, step, RECIPE.batch_size, MODEL.context))
        optimizer.zero_grad()
        now.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip)
        optimizer.step()
        said = [line["loss"], line["lr"], line["grad_norm"]]
        assert said == pytest.approx([now.item(), lr, norm.item()], rel=1e-5)
    with torch.no_grad():                              # three windows, in batches of two
        expected = loss(*data.validation_windows(3, MODEL.context)).item()
    assert run.val_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_the_optimizer_sees_clipped_gradients(dtype, monkeypatch):
    monkeypatch.setattr("attnres_ref.training.trainer.half_precision", lambda _: dtype)
    trainer, norms = Trainer(MODEL, replace(RECIPE, clip=0.1), corpus()), []
    weights = [*trainer.model.parameters()]

    def measure(*_):
        gradients = [p.grad.flatten() for p in weights if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())

    trainer.optimizer.register_step_pre_hook(measure)
    line = trainer.step()
    while line["grad_norm"] is None:                   # fp16 skips a step that overflows
        line = trainer.step()
    assert line["grad_norm"] > 1 and norms[-1] == pytest.approx(0.1, rel=1e-3)


def test_seeds_pair_initialisation_and_batches_across_residuals():
    def first_loss(residual):
        return Trainer(replace(MODEL, residual=residual), RECIPE, corpus()).step()["loss"]

    assert first_loss("prenorm") == pytest.approx(first_loss("full"), abs=1e-4)
    assert first_loss("prenorm") == pytest.approx(first_loss("block"), abs=1e-4)
    start = {seed: Trainer(MODEL, replace(RECIPE, seed=seed), corpus()) for seed in (0, 1)}
    assert not torch.equal(start[0].model.head.weight, start[1].model.head.weight)
    start[1].model.load_state_dict(start[0].model.state_dict())
    assert start[1].step()["loss"] != start[0].step()["loss"]      # on other batches


def test_query_lr_scale_moves_the_queries_in_proportion():
    def moved(scale):
        trainer = Trainer(MODEL, replace(RECIPE, query_lr_scale=scale), corpus())
        trainer.step()
        return trainer.model.stream.queries.detach()

    torch.testing.assert_close(moved(0.25), 0.25 * moved(1.0))
    assert moved(1.0).any() and not moved(0.0).any()


@pytest.mark.parametrize("step", [0, 7, 8, 11], ids=["first", "before", "after", "last"])
def test_killed_around_a_save_and_resumed_is_the_same_run(step, tmp_path):
    small.train_until_killed(step, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')                  # half a line
    small.assert_resumes_as_the_whole_run(tmp_path)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def sent(request):
    """A signal that interrupts, however the tests themselves were started."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    assert signal.getsignal(request.param) is signal.default_int_handler
    signal.signal(request.param, before)


@pytest.mark.parametrize("times, saved", [(1, 7), (2, 4)])
def test_ctrl_c_finishes_the_step_and_saves_but_twice_stops(sent, times, saved, tmp_path):
    def interrupt():
        for _ in range(times):
            signal.raise_signal(sent)

    with pytest.raises(KeyboardInterrupt):
        train(MODEL, RECIPE, small.corpus_that(interrupt, at_step=6), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == saved
    small.assert_resumes_as_the_whole_run(tmp_path)


def test_training_works_outside_the_main_thread(tmp_path):
    run = ThreadPoolExecutor().submit(train, MODEL, RECIPE, corpus(), tmp_path).result()
    assert run.metrics == small.whole_run()[0].metrics


def test_an_observer_joins_every_validation_and_changes_nothing_else():
    def observe(model):
        return dict(query=model.stream.queries.abs().max().item())

    run, (plain, _) = train(MODEL, RECIPE, corpus(), observe=observe), small.whole_run()
    joined = {line["step"]: line.pop("query") for line in run.metrics if "query" in line}
    assert list(joined) == [5, 10, 12] and joined[12] == observe(run.model)["query"]
    assert run.metrics == plain.metrics and small.same_weights(run.model, plain.model)


@pytest.mark.parametrize("seen, error, message", [
    (dict(a=torch.ones(2)), ValueError, r"observed is .*tensor.*no JSON"),
    (dict(loss=1.0), TypeError, "'loss'"),
    (dict(parameters=1), TypeError, "'parameters'"),
    ([1], TypeError, "mapping"),
    (dict(a=(1, float("nan"))), None, None),
])
def test_an_observer_returns_json_under_names_of_its_own(seen, error, message, tmp_path):
    if error:
        with pytest.raises(error, match=message):
            train(MODEL, RECIPE, corpus(), tmp_path, observe=lambda model: seen)
        return small.assert_resumes_as_the_whole_run(tmp_path)
    run = train(MODEL, RECIPE, corpus(), tmp_path, observe=lambda model: seen)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert lines == run.metrics and run.result["a"] == [1, None]


def test_data_are_named_by_any_json_and_by_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(type(corpus()), "fingerprint", ("text", 3))
    train(MODEL, RECIPE, corpus(), tmp_path)
    again = train(MODEL, RECIPE, corpus(), tmp_path, resume=True)
    assert again.result["data"] == ["text", 3]
    monkeypatch.setattr(type(corpus()), "fingerprint", torch.ones(1))
    with pytest.raises(ValueError, match=r"corpus\.fingerprint is tensor.*no JSON"):
        train(MODEL, RECIPE, corpus())


def test_a_validation_loss_that_is_not_finite_stops_the_run():
    trainer = Trainer(MODEL, RECIPE, corpus())
    torch.nn.init.constant_(trainer.model.head.weight, float("inf"))
    with pytest.raises(Diverged, match="validation loss nan at step 0"):
        trainer.validate()


def test_a_nan_loss_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    class Poisoned(Trainer):
        def loss(self, inputs, targets):
            poison = float("nan") if self.done == 6 else 1
            return poison * super().loss(inputs, targets)

    with monkeypatch.context() as patch:
        patch.setattr("attnres_ref.training.trainer.Trainer", Poisoned)
        with pytest.raises(Diverged, match="at step 7.*no checkpoint_dir was given"):
            train(MODEL, RECIPE, corpus())
        with pytest.raises(Diverged, match=r"at step 7: lower lr.*checkpoint\.pt, step 4"):
            train(MODEL, RECIPE, corpus(), tmp_path)
    small.assert_resumes_as_the_whole_run(tmp_path)


@pytest.fixture
def fp16(monkeypatch):
    """What a T4 does, on the CPU: fp16 layers and a loss scaler."""
    half = "attnres_ref.training.trainer.half_precision"
    monkeypatch.setattr(half, lambda device: torch.float16)


def test_fp16_follows_float32_and_resumes_with_its_scale(fp16, tmp_path):
    whole = train(MODEL, RECIPE, corpus(), tmp_path / "whole")
    for ours, theirs in zip(whole.metrics, small.whole_run()[0].metrics):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.02)
    small.train_until_killed(9, tmp_path / "killed")
    run = train(MODEL, RECIPE, corpus(), tmp_path / "killed", resume=True)
    assert run.metrics == whole.metrics
    states = [load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("whole", "killed")]
    assert states[0]["scaler"]["scale"] == states[1]["scaler"]["scale"]


def test_fp16_skips_an_overflow_and_stops_when_no_scale_helps(fp16):
    trainer, dtypes = Trainer(MODEL, RECIPE, corpus()), []
    head = trainer.model.head
    head.register_forward_hook(lambda *call: dtypes.append(call[2].dtype))
    head.weight.register_hook(lambda grad: grad * float("inf"))
    before = head.weight.detach().clone()
    line = trainer.step()
    assert line["grad_norm"] is None and json.loads(json.dumps(line)) == line
    assert torch.equal(head.weight, before) and dtypes == [torch.float16]
    with pytest.raises(Diverged, match="gradient norm"):
        for _ in range(40):
            trainer.step()


def test_a_float32_checkpoint_goes_on_in_fp16(fp16):
    trainer = Trainer(MODEL, RECIPE, corpus())
    trainer.load_state_dict(trainer.state_dict() | dict(step=5, scaler={}))
    assert trainer.done == 5 and math.isfinite(trainer.step()["loss"])
