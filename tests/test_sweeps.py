"""The recorded sweeps: names tell runs apart, and every promised row is there."""

from dataclasses import asdict

import pytest

import mixing
import record
import sweeps
from attnres_ref.model import LMConfig
from attnres_ref.notebook import recorded
from attnres_ref.streams import STREAMS
from attnres_ref.study.sweep import Trial
from attnres_ref.training import TrainConfig, provenance


@pytest.mark.parametrize("name", sweeps.SWEEPS)
def test_every_run_of_a_sweep_has_a_name_of_its_own(name):
    for corpus, sweep in sweeps.SWEEPS[name].items():
        names = [trial.name for trial in sweep()]
        assert names and len(names) == len(set(names)), corpus


def test_runs_that_studies_share_by_name_are_the_same_run():
    runs = {trial for study in sweeps.STUDIES for trial in study()}
    assert len(runs) == len({run.name for run in runs})


@pytest.mark.parametrize("sweep", [sweeps.scaling, sweeps.scaling_gpu])
def test_a_scaling_run_sees_its_tokens_per_parameter(sweep):
    for trial in sweep():
        size, recipe = trial.model, trial.train
        parameters = 6 * size.d_model**2 * size.n_layers
        tokens = recipe.steps * recipe.batch_size * size.context
        assert tokens / parameters == pytest.approx(sweeps.TOKENS_PER_PARAMETER, rel=0.02)


@pytest.mark.parametrize("name", [n for n in sweeps.SWEEPS if n != "scaling_gpu"])
def test_what_is_recorded_are_the_runs_of_the_sweep(name):
    for corpus, runs in recorded(name).items():
        trials = sweeps.SWEEPS[name][corpus]()
        assert [run["name"] for run in runs] == [trial.name for trial in trials]
        for run, trial in zip(runs, trials):
            for kept, config in ((run["model"], trial.model), (run["train"], trial.train)):
                assert kept.items() <= asdict(config).items()
            steps = [step for step, _ in run.get("observed", [])]
            every = trial.train.eval_every
            assert not steps or steps == [*range(0, trial.train.steps + 1, every)]


def test_ablations_and_puzzles_leave_none_out():
    assert {trial.model.residual for trial in sweeps.ablations()} == set(STREAMS)
    for name, task in sweeps.PUZZLES.items():
        assert all(run["data"] == task.fingerprint for run in recorded("puzzles")[name])


@pytest.mark.parametrize("recorder", [record, mixing])
def test_a_dirty_tree_is_refused_before_anything_is_made(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "uncommitted", lambda: ["x.py"])
    monkeypatch.setattr(recorder, "FOLDER", tmp_path)
    monkeypatch.setattr(mixing, "PARTS", tmp_path / "parts")
    monkeypatch.setattr(record, "corpus", None)        # nothing is even loaded
    monkeypatch.setattr(mixing, "load", None)
    with pytest.raises(RuntimeError, match="x.py"):
        recorder.main(["baseline"] if recorder is record else [])
    assert list(tmp_path.iterdir()) == []


def test_a_clean_tree_is_recorded_when_all_runs_are_there(tmp_path, monkeypatch):
    tiny = dict(d_model=8, n_layers=2, n_heads=1, context=16, block_size=1)
    trials = [
        Trial(f"{name}-seed0", LMConfig(residual=name, **tiny),
              TrainConfig(steps=2, batch_size=2, eval_every=1, eval_windows=2))
        for name in ("prenorm", "full")
    ]
    monkeypatch.setattr(provenance, "uncommitted", lambda: [])
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "SWEEPS", {"ablations": {"python_sources": lambda: trials}})
    monkeypatch.setattr(record, "STUDIES", [])
    written = {}
    monkeypatch.setattr(record, "write", written.__setitem__)
    with pytest.raises(SystemExit, match="1 are still to come, prenorm-seed0 first"):
        record.main(["ablations", "--part", "1/2"])
    assert written == {}
    record.main(["ablations", "--part", "0/2"])
    runs = written["ablations"]["python_sources"]
    assert [run["name"] for run in runs] == ["prenorm-seed0", "full-seed0"]


def test_only_some_records_keep_what_was_observed():
    run = dict(name="a", val_loss=1.0, train_curve=[2.0], rms=[3.0])
    run["observed"] = [[0, dict(rms=[1.0])], [9, dict(rms=[3.0])]]
    assert record.slim(run, False) == dict(name="a", val_loss=1.0)
    assert record.slim(run, True)["observed"] == run["observed"]
