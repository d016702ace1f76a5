"""The audit: true records pass, and each kind of false one is refused."""

import itertools
import json
from copy import deepcopy
from dataclasses import asdict

import pytest

import audit
import plan
from attnres_ref.training.recipe import learning_rate

RECORDED = sorted(path.stem for path in audit.RECORDED.glob("*.json"))
needs_history = pytest.mark.skipif(
    audit.history() is None, reason="no git here that knows all commits"
)
HEAD = (audit.history() or ["a commit"])[0]
BLAMED = {                             # how a swap shows where the parameters do not
    frozenset(("prenorm", "loud")): "input_rms",
    frozenset(("block", "full")): "input_rms",
}


def true_record(arm: str, seed: int = 0) -> dict:
    """As `record.py whodunnit` writes it, but nothing is trained: what is observed at the
    end is made up."""
    trial = plan.run(plan.STUDY, arm, seed, plan.GRID[0], plan.JUDGING_WINDOWS)
    start = audit.at_start(trial.model, seed, "judging")
    end = {name: [1.1 * value for value in values] for name, values in start.items()}
    steps = trial.train.steps
    return dict(
        name=trial.name, model=asdict(trial.model), train=asdict(trial.train),
        data=audit.shipped() | {"validation": "judging"}, step=steps, dirty=False,
        parameters=audit.n_parameters(trial.model), val_loss=1.7 + seed / 100,
        lr=learning_rate(steps - 1, trial.train), commit=HEAD[:7],
        observed=[[0, deepcopy(start)], [steps, end]],
    )


@pytest.mark.parametrize("arm", plan.ARMS)
def test_a_true_record_passes_and_under_another_arms_name_it_is_refused(arm):
    record = true_record(arm)
    audit.audit(record)
    for other in set(plan.ARMS) - {arm}:
        label = BLAMED.get(frozenset((arm, other)), "parameters")
        record["model"]["residual"] = other
        with pytest.raises(ValueError, match=f"^{arm}-steps400-.*: .*{label}"):
            audit.audit(record)


def untrained(record):
    record["observed"][-1][1] = record["observed"][0][1]


def trained_at_the_start(record):
    record["observed"][0][1] = record["observed"][1][1]


PLANTED = [
    (untrained, "nothing that was observed has changed"),
    (trained_at_the_start, "input_rms at step 0 .*output_rms at step 0 .*gradient_norm"),
    (lambda r: r.update(val_loss=5.6), "val_loss is 5.600, above 2.773: hardly trained"),
    (lambda r: r.update(val_loss=float("nan")), "val_loss is nan"),
    (lambda r: r.update(step=200), "step is 200, and 400 were asked for"),
    (lambda r: r.update(lr=0.004), "lr is 0.004, and its schedule ends at 0.0004"),
    (lambda r: r["observed"].pop(), "observed from step 0 to 0"),
    (lambda r: r["train"].update(seed=1), "input_rms at step 0 is not .*, seed 1"),
    (lambda r: r["data"].update(sha256="0"), "not the course's text"),
    (lambda r: r["data"].update(bytes=8_420_000), "not the course's text"),
    (lambda r: r["data"].update(validation="tuning"), "gradient_norm at step 0 is not"),
    (lambda r: r.update(dirty=True), "dirty is True"),
    (lambda r: r.update(dirty=None), "dirty is None"),
    (lambda r: r["model"].update(scaled_init=True), "output_rms at step 0"),
    (lambda r: r.update(parameters=1), "parameters is 1, and its model has 437440"),
]


@pytest.mark.parametrize("plant, message", PLANTED)
def test_what_cannot_be_true_is_refused(plant, message):
    record = true_record("full")
    plant(record)
    with pytest.raises(ValueError, match=f"^full-steps400-.*: .*{message}"):
        audit.audit(record)


@needs_history
@pytest.mark.parametrize("commit", ["0000000", None, "", "9067561"])
def test_a_commit_that_is_not_in_the_history_is_refused(commit):
    record = true_record("full") | dict(commit=commit)
    with pytest.raises(ValueError, match=f"commit {commit} is not in the history"):
        audit.audit_facts(record)


@pytest.mark.parametrize("answers", [
    {}, {"rev-parse": "true", "ls-files": "", "rev-list": "a"},
    {"rev-parse": "false", "rev-list": "a"},
], ids=["no git", "shallow", "in another project"])
def test_where_git_cannot_say_the_commit_is_not_looked_up(answers, monkeypatch):
    monkeypatch.setattr(audit, "git", lambda command, *_: answers.get(command))
    monkeypatch.setattr(audit, "history", audit.history.__wrapped__)
    assert audit.history() is None and audit.in_history("0000000")


def test_a_run_that_is_there_twice_or_on_the_other_half_is_refused():
    records = [true_record("full", seed) for seed in (0, 1)]
    audit.audit_sweep("whodunnit", records)
    with pytest.raises(ValueError, match="full-.*: tuning is validated on the tuning half"):
        audit.audit_sweep("tuning", records)
    again = records[0] | dict(name="again", val_loss=1.8)
    other_seed = records[1] | dict(name="again", val_loss=records[0]["val_loss"])
    for copied in ([*records, again], [records[0], other_seed]):
        with pytest.raises(ValueError, match="again: the same run as full-.*-seed0"):
            audit.audit_sweep("whodunnit", copied)


@pytest.mark.parametrize("sweep", plan.SWEEPS)
def test_every_record_of_the_plan_that_is_there_passes(sweep):
    records = plan.runs(sweep)
    audit.audit_sweep(sweep, records)
    names = [trial.name for trial in plan.SWEEPS[sweep]()]
    assert {record["name"] for record in records} <= set(names)
    for record in records:
        audit.audit_facts(record)
    arm = lambda record: (record["model"]["residual"], record["model"]["d_model"])
    for _, of_arm in itertools.groupby(sorted(records, key=arm), arm):
        for record in [*of_arm][-1:]:                  # one seed each, to be quick
            audit.audit(record)


@needs_history
@pytest.mark.parametrize("name", RECORDED)
def test_only_known_old_records_name_no_commit_of_the_history(name):
    lost = audit.unexplained(name)
    assert len(lost) <= audit.KNOWN.get(name, (0, ""))[0]
    named = {record.get("commit") for record in lost}
    assert named <= {"9067561", "adfc214", "b00397f"}


def test_the_list_of_exceptions_has_not_grown():
    assert audit.KNOWN.keys() <= {"mixing"}
    assert sum(count for count, _ in audit.KNOWN.values()) <= 40
    for count, reason in audit.KNOWN.values():
        assert count and len(reason.split()) > 5


def test_the_command_names_what_is_refused(monkeypatch, tmp_path, capsys):
    good, bad = true_record("full", 0), true_record("full", 1) | dict(dirty=True)
    (tmp_path / "old.json").write_text(json.dumps({"rows": [1], "commit": None}))
    monkeypatch.setattr(audit, "RECORDED", tmp_path)
    monkeypatch.setattr(audit, "history", lambda: (HEAD,))
    monkeypatch.setattr(
        plan, "runs", lambda sweep: [good, bad] if sweep == "whodunnit" else []
    )
    with pytest.raises(SystemExit, match="2 records are refused"):
        audit.main()
    said = capsys.readouterr().out
    assert "whodunnit: 2 records\n  refused: full-" in said and "seed1: dirty is" in said
    assert "tuning: 0 records" in said and "old: of 1 records the commit" in said
