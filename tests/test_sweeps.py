"""The recorded sweeps: names tell runs apart, and every promised row is there."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

import mixing
import plan
import record
import sweeps
from attnres_ref.model import LM, LMConfig
from attnres_ref.notebook import recorded
from attnres_ref.streams import STREAMS
from attnres_ref.study.sweep import Trial, run_trial
from attnres_ref.training import TrainConfig, provenance
from tiny_data import Corpus


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
    ablated = {trial.model.residual for trial in sweeps.ablations()}
    assert ablated == set(STREAMS) - {"loud"}              # a control, see plan.py
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


TINY = dict(d_model=8, n_layers=2, n_heads=1, context=16, block_size=1)
RECIPE = TrainConfig(steps=2, batch_size=2, eval_every=1, eval_windows=2)
TWO = [
    Trial(f"{name}-seed0", LMConfig(residual=name, **TINY), RECIPE)
    for name in ("prenorm", "full")
]


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """Runs the recorder on TWO as the named sweep; what its JSON then holds, and the names
    of what was trained for it. Training is made up, unless `of.really` is set."""
    monkeypatch.setattr(provenance, "uncommitted", lambda: [])
    monkeypatch.setattr(record, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(record, "RECORDED", tmp_path)
    monkeypatch.setattr(record, "STUDIES", [])
    text = Corpus.from_bytes("python_sources", bytes(range(256)) * 80)
    monkeypatch.setattr(record, "corpus", lambda name: text)

    def run_trial_or_not(trial, data, folder, observe=None):
        if not (folder / "result.json").exists():
            of.trained.append(trial.name)
        if of.really:
            return run_trial(trial, data, folder, observe)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").touch()
        made = dict(name=trial.name, model=asdict(trial.model), train=asdict(trial.train))
        seen = dict(observed=[[0, observe(LM(trial.model))]]) if observe else {}
        return dict(made, data=data.fingerprint, train_curve=[1.0], **seen)

    monkeypatch.setattr(record, "run_trial", run_trial_or_not)

    def of(name, *options, trials=TWO):
        of.trained = []
        monkeypatch.setitem(record.SWEEPS, name, {"python_sources": lambda: trials})
        record.main([name, *options])
        return json.loads((tmp_path / f"{name}.json").read_text()), of.trained

    of.folder, of.trained, of.really = tmp_path, [], False
    return of


def test_a_clean_tree_is_recorded_when_all_runs_are_there(recording):
    recording.really = True
    with pytest.raises(SystemExit, match="1 are still to come, prenorm-seed0 first"):
        recording("ablations", "--part", "1/2")
    assert not (recording.folder / "ablations.json").exists()
    content, trained = recording("ablations", "--part", "0/2")
    names = [run["name"] for run in content["python_sources"]]
    assert names == ["prenorm-seed0", "full-seed0"] and trained == ["prenorm-seed0"]
    for run in content["python_sources"]:
        assert run["step"] == 2 and "train_curve" not in run
        assert [step for step, _ in run["observed"]] == [0, 1, 2]


def test_what_the_json_holds_of_a_sweep_is_not_trained_again(recording):
    content, _ = recording("tuning")
    shutil.rmtree(recording.folder / "runs")
    assert recording("tuning") == (content, [])
    changes = [
        dict(name="renamed"), dict(train=replace(RECIPE, lr=1.0)),
        dict(model=replace(TWO[1].model, scaled_init=True)),
    ]
    for change in changes:
        other = replace(TWO[1], **change)
        assert recording("tuning", trials=[TWO[0], other])[1] == [other.name]
        shutil.rmtree(recording.folder / "runs")
    plan.HALVES["tuning"], kept = "judging", plan.HALVES["tuning"]
    try:
        assert len(recording("tuning")[1]) == 2            # on the other half
    finally:
        plan.HALVES["tuning"] = kept


def test_so_far_trains_nothing_and_writes_what_is_finished(recording, capsys):
    assert recording("whodunnit", "--so-far") == ({"python_sources": []}, [])
    with pytest.raises(SystemExit):
        recording("whodunnit", "--part", "1/2")
    content, trained = recording("whodunnit", "--so-far")
    assert [run["name"] for run in content["python_sources"]] == ["full-seed0"]
    assert trained == [] and capsys.readouterr().out.endswith("1 of 2 runs\n")
    content, trained = recording("whodunnit")
    assert len(content["python_sources"]) == 2 and trained == ["prenorm-seed0"]


@pytest.mark.parametrize("name", plan.SWEEPS)
def test_a_planned_record_names_its_half_and_keeps_no_curve_of_training(recording, name):
    (run, _), = recording(name)[0].values()
    assert run["data"]["validation"] == plan.HALVES[name] and "train_curve" not in run
    assert ("observed" in run) == (name in ("whodunnit", "horizon"))


def test_a_sweep_that_cannot_choose_yet_is_refused(recording):
    with pytest.raises(SystemExit, match="horizon chooses from sweeps that are not compl"):
        recording("horizon", trials=[])
    assert not (recording.folder / "horizon.json").exists()


def test_depth_weights_are_observed_from_the_plain_mean_on(recording):
    recording.really = True
    content, _ = recording("depth_weights", trials=TWO[1:])
    (run,) = content["python_sources"]
    steps, seen = zip(*run["observed"])
    assert steps[0] == 0 and steps[-1] == run["train"]["steps"]
    rows = [weights["depth_weights"] for weights in seen]
    assert [len(row) for row in rows[0]] == [1, 2, 3]
    assert rows[0][2] == pytest.approx([1 / 3] * 3, abs=1e-4) and rows[-1] != rows[0]
    for row in rows[0] + rows[-1]:
        assert sum(row) == pytest.approx(1, abs=2e-4)


def test_only_some_records_keep_what_was_observed():
    run = dict(name="a", val_loss=1.0, train_curve=[2.0], rms=[3.0])
    run["observed"] = [[0, dict(rms=[1.0])], [9, dict(rms=[3.0])]]
    assert record.slim(run, False) == dict(name="a", val_loss=1.0)
    assert record.slim(run, True)["observed"] == run["observed"]
