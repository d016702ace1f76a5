"""The benchmark's trainings and notebooks, on the CPU. Losses in here are made up, unless
a test trains for them, and stay here."""

import asyncio
import importlib.util
import json
import os

import pytest
import torch

from attnres_kernels.bench import graphs, report_training
from attnres_kernels.bench.record import Record
from attnres_kernels.bench.stages import agreement, notebooks, train
from attnres_ref import LM, LMConfig
from attnres_ref.training import TrainConfig, Trainer
from attnres_ref.training.presets import PRESETS
from attnres_ref.training.trainer import Diverged
from tiny_data import Corpus

CPU, META = torch.device("cpu"), torch.device("meta")
TEXT = Corpus.from_bytes("text_file:made up", bytes(range(256)) * 4)
TINY = LMConfig(residual="block", d_model=8, n_layers=4, n_heads=2, context=4, block_size=2)


def rows(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_all_residuals_of_a_seed_come_before_the_next_seed(monkeypatch):
    order = []
    monkeypatch.setattr(train, "train", lambda *run: order.append(run[:2]))
    train.share(0, 1, None, CPU)
    assert order == [(residual, seed) for seed in (0, 1) for residual in train.RESIDUALS]
    order.clear()
    for k in range(train.SHARES["cuda"]):
        train.share(k, train.SHARES["cuda"], None, CPU)
    assert order == [(residual, seed) for residual in train.RESIDUALS for seed in (0, 1)]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_last_step_is_validated_on_whole_batches(device):
    config = PRESETS[train.PRESET[device]].training(**train.SCHEDULE[device])
    assert config.steps % config.eval_every == 0
    assert config.eval_windows % config.batch_size == 0, "a graph takes one size"


def test_a_run_that_diverges_leaves_its_rows_and_why(monkeypatch, tmp_path):
    step = Trainer.step

    def diverges(self):
        if self.done == 1 and self.model.config.residual == "prenorm":
            raise Diverged("loss nan at step 2")
        return step(self)

    monkeypatch.setattr(Trainer, "step", diverges)
    for residual in ("prenorm", "block"):
        train.train(residual, 3, TEXT, tmp_path, CPU)
    *before, last = rows(tmp_path / "train_prenorm_seed3.json")
    assert [row["step"] for row in before] == [0, 1]
    assert last["error"] == "Diverged: loss nan at step 2" and last["after_step"] == 1
    content = json.loads((tmp_path / "train_block_seed3.json").read_text())
    assert [row["step"] for row in content["rows"]] == [0, 1, 2]
    assert content["train"]["seed"] == 3 and content["schedule"] == "in_two_phases"
    assert content["data"]["name"] == TEXT.name


@pytest.mark.parametrize("residual, group_size", [("block", 3), ("full", 4)])
def test_the_kernels_read_in_groups_of_a_block_or_of_four_layers(residual, group_size):
    model = LM(LMConfig(residual=residual, d_model=8, n_layers=6, n_heads=2, block_size=3))
    view = train.in_two_phases(model)
    assert view.stream.group_size == group_size and view.stream.stream is model.stream


def as_graphs(module, sample):
    """torch.cuda.make_graphed_callables on a CPU: one shape, one place for the input, and
    a module whose own forward is replaced."""
    assert not torch.is_autocast_cache_enabled()
    eager, (static,) = module.forward, sample
    buffer = torch.zeros(static.shape, dtype=static.dtype)

    def forward(tokens):
        assert tokens.shape == buffer.shape
        return eager(buffer.copy_(tokens))

    module.forward = forward
    return module


def in_graphs(trainer, monkeypatch, make_graphed_callables) -> str | None:
    """put_in_graphs for a trainer that takes itself to be on a GPU."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "ours")
    trainer.device = META
    why = graphs.put_in_graphs(trainer)
    trainer.device = CPU
    return why


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize("schedule", [None, train.in_two_phases])
def test_a_trainer_in_graphs_trains_as_it_did(monkeypatch, schedule):
    config = TrainConfig(steps=3, batch_size=2, warmup_steps=1, eval_windows=4)
    plain, graphed = (Trainer(TINY, config, TEXT, device="cpu", schedule=schedule)
                      for _ in range(2))
    forward = graphed.forward
    assert in_graphs(graphed, monkeypatch, as_graphs) is None
    assert graphed.forward is not forward and "forward" not in vars(graphed.model)
    for _ in range(config.steps):
        assert graphed.step() == plain.step()
    assert graphed.validate() == plain.validate()


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_a_trainer_whose_capture_fails_goes_on_without_graphs(monkeypatch):
    def fails(module, sample):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    streams = []
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    trainer = Trainer(TINY, TrainConfig(batch_size=2), TEXT, device="cpu")
    why = in_graphs(trainer, monkeypatch, fails)
    assert why == "RuntimeError: operation not permitted when stream is capturing"
    assert trainer.forward is trainer.model and streams == ["ours"]
    assert graphs.put_in_graphs(trainer) == "no GPU"


@pytest.mark.parametrize("kind, order", [
    (agreement.Reversed, [2, 1, 0]), (agreement.Rotated, [1, 2, 0]),
])
def test_reordered_batches_are_the_same_windows(kind, order):
    other = kind(TEXT.name, TEXT.tokens)
    for ours, theirs in zip(TEXT.batch(0, 5, 3, 4), other.batch(0, 5, 3, 4)):
        assert torch.equal(ours[order], theirs) and not torch.equal(ours, theirs)


def test_losses_of_the_kernels_and_of_the_reference_agree(tmp_path):
    pytest.importorskip("triton")
    record = Record(tmp_path, "agreement", CPU)
    agreement.measure(record, CPU)
    losses = {}
    for row in record.content["rows"]:
        if "step" in row:
            losses.setdefault(row["case"], []).append(row["loss"])
    assert losses.keys() == agreement.CASES.keys()
    assert [row["step"] for row in record.content["rows"] if "step" in row] == [1, 5] * 6
    exact = losses.pop(agreement.BASE)
    assert exact[0] != exact[1]
    for values in losses.values():
        assert values == pytest.approx(exact, abs=1e-4)
    lines = [*report_training.agreement(report_of(agreement=record.content["rows"]))]
    assert len(lines) == 5 and lines[0].startswith(
        "training losses, reference, rows reversed: ")


def test_an_operator_that_fails_stops_no_other_case(monkeypatch, tmp_path):
    def broken(*arguments):
        raise RuntimeError("out of memory")

    cases = agreement.CASES | {agreement.BASE: (broken, None, Corpus)}
    monkeypatch.setattr(agreement, "CASES", dict([*cases.items()][:2]))
    record = Record(tmp_path, "agreement", CPU)
    agreement.measure(record, CPU)
    errors = [row["error"] for row in record.content["rows"] if "error" in row]
    assert errors == ["RuntimeError: out of memory"]
    assert [row["step"] for row in record.content["rows"] if "step" in row] == [1, 5]
    assert [*report_training.agreement(report_of(agreement=record.content["rows"]))] == []


def report_of(**stages) -> dict:
    return dict(stages={name: dict(rows=rows) for name, rows in stages.items()})


def run(arm: str, seed: int, *losses: float) -> dict:
    """The stage of a training with these validation losses at steps 0, 100, 200, ..."""
    validated = [dict(arm=arm, seed=seed, step=100 * k, val_loss=loss)
                 for k, loss in enumerate(losses)]
    return {f"train_{arm}_seed{seed}": validated}


def test_losses_are_compared_after_as_many_steps_of_as_many_pairs():
    stages = (
        run("block", 0, 5.5, 2.0, 1.0) | run("prenorm", 0, 5.5, 2.1, 1.2)
        | run("block", 1, 5.5, 2.0, 1.1) | run("prenorm", 1, 5.5, 2.1, 1.2)
        | run("block", 2, 5.5, 2.0) | run("prenorm", 2, 5.5, 2.1, 9.9)
        | run("full", 0, 5.5, 1.5) | run("full", 1) | dict(train=[dict(share=0)])
    )
    assert [*report_training.training(report_of(**stages))] == [
        "training, seed 0: validation loss after 100 steps: prenorm 2.1000, block 2.0000, "
        "full 1.5000",
        "training, seed 1: validation loss after 200 steps: prenorm 1.2000, block 1.1000",
        "training, seed 2: validation loss after 100 steps: prenorm 2.1000, block 2.0000",
        # The differences are 0.2 and 0.1: 12.7062 times 0.05.
        "training, block - prenorm: -0.1500 +/- 0.6353 (2 seeds) after 200 steps",
        "training, full - prenorm: -0.6000 (one seed, no interval) after 100 steps",
    ]
    untrained = run("block", 0, 5.5) | run("prenorm", 0, 5.5)
    assert len([*report_training.training(report_of(**untrained))]) == 1
    assert [*report_training.training(report_of(**run("block", 0, 5.5, 2.0)))] == [
        "training, seed 0: validation loss after 100 steps: block 2.0000"]


def test_the_kernels_distance_stands_beside_the_references_own():
    losses = {"reference": [3.0, 2.0], "reference, rows reversed": [3.0, 2.25],
              "kernels": [3.0, 1.5, 9.0]}
    made_up = [dict(case=case, step=5 * k, loss=loss)
               for case, values in losses.items() for k, loss in enumerate(values)]
    made_up.append(dict(case="kernels in two phases", error="out of memory"))
    assert [*report_training.agreement(report_of(agreement=made_up))] == [
        # The roots of a half of 0.25^2 and of 0.5^2.
        "training losses, reference, rows reversed: 1.8e-01 from the reference's (root "
        "mean square), at most 2.5e-01, of 2 steps up to 5",
        "training losses, kernels: 3.5e-01 from the reference's (root mean square), at "
        "most 5.0e-01, of 2 steps up to 5",
    ]


def notebook(path, *sources: str):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    new = nbformat.v4
    first = new.new_markdown_cell("# Made up")
    cells = [first, *map(new.new_code_cell, sources)]
    nbformat.write(new.new_notebook(cells=cells), path)
    return path


@pytest.mark.parametrize("last, outcome, ran", [
    ("x + 1", "done", 2),
    ("x / 0", "cell 2: ZeroDivisionError: division by zero", 1),
    ("import os; os._exit(3)", "cell 2: DeadKernelError: Kernel died", 1),
])
def test_a_notebook_says_how_far_it_came(tmp_path, last, outcome, ran):
    path = notebook(tmp_path / "10_made_up.ipynb", "x = 1", last)
    copy = tmp_path / "executed" / path.name
    row = asyncio.run(notebooks.run(path, 90, copy))
    assert (row["outcome"], row["cells"], row["of"]) == (outcome, ran, 2)
    _, first, second = json.loads(copy.read_text())["cells"]
    assert first["execution_count"] == 1
    assert (second["outputs"] != []) == (last in ("x + 1", "x / 0"))


def test_a_notebook_that_overruns_is_cut_with_its_kernel(tmp_path, monkeypatch):
    sleeps = f"""
import os, pathlib, time
pathlib.Path({str(tmp_path / "new")!r}).write_text(str(os.getpid()))
pathlib.Path({str(tmp_path / "new")!r}).rename({str(tmp_path / "pid")!r})
time.sleep(600)"""
    path, timers = notebook(tmp_path / "10_made_up.ipynb", "x = 1", sleeps), []
    timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout",
                        lambda limit_s: timers.append(timeout(limit_s)) or timers[-1])

    async def cut_in_cell_2():
        run = asyncio.ensure_future(notebooks.run(path, 90, tmp_path / "executed.ipynb"))
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.05)
        timers[0].reschedule(0)            # the 90 seconds are over
        return await run

    row = asyncio.run(cut_in_cell_2())
    assert row["outcome"] == "cut after 90 s in cell 2" and row["cells"] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_time_no_notebook_is_begun(tmp_path):
    path = notebook(tmp_path / "10_made_up.ipynb", "x = 1")
    row = asyncio.run(notebooks.run(path, 9, tmp_path / "executed"))
    assert row == dict(outcome="not begun, no time was left", cells=0, of=1, seconds=0.0)
    assert not (tmp_path / "executed").exists()


def test_four_notebooks_run_side_by_side_within_the_time_of_all(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNRES_PRESET", "ci")
    begun, running = [], []

    async def fake(path, limit_s, executed):
        assert executed == tmp_path / "executed" / path.name
        begun.append((path.name[:2], limit_s))
        running.append(path)
        together = len(running)
        await asyncio.sleep(0.05)
        running.remove(path)
        return dict(outcome="done", cells=together)

    monkeypatch.setattr(notebooks, "run", fake)
    monkeypatch.setattr(notebooks, "AT_ONCE", 4)
    record = Record(tmp_path, "notebooks", CPU)
    paths = [tmp_path / f"{k:02d}_made_up.ipynb" for k in range(6)]
    asyncio.run(notebooks.run_all(paths, record, 60, 60.04))
    assert [name for name, _ in begun] == [f"{k:02d}" for k in range(6)]
    limits = [limit for _, limit in begun]
    assert limits[:4] == [60] * 4 and all(59.9 < limit < 60 for limit in limits[4:])
    written = rows(tmp_path / "notebooks.json")
    assert max(row["cells"] for row in written) == 4
    assert {row["notebook"] for row in written} == {f"{k:02d}" for k in range(6)}
    assert {row["preset"] for row in written} == {"ci"}


def test_without_jupyter_the_stage_says_so(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "nbclient" else find(name))
    record = Record(tmp_path, "notebooks", CPU)
    notebooks.measure(record, CPU)
    (row,) = record.content["rows"]
    assert row["missing"] == "nbclient; pip install nbclient nbformat ipykernel"
    assert [*report_training.notebooks(report_of(notebooks=[row]))] == []


def test_every_notebook_of_the_course_has_its_turn_and_its_line():
    numbers = {path.name[:2] for path in (notebooks.ROOT / "notebooks").glob("*.ipynb")}
    order = notebooks.ORDER["cuda"]
    assert set(order) == numbers and len(order) == len(numbers)
    row = dict(notebook="08", preset="gpu", outcome="done", cells=27, of=27, seconds=41.6)
    assert [*report_training.notebooks(report_of(notebooks=[row]))] == [
        "notebook 08, preset gpu: done, 27 of 27 cells in 42 s"]
