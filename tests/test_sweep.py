"""A sweep goes on where it stopped, and observes its models from the start."""

from dataclasses import replace

import torch

from attnres_ref import LM
from attnres_ref.study.sweep import Trial, run_sweep
from small import MODEL, RECIPE, corpus


def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    trials = [Trial(f"lr{lr:g}", MODEL, replace(RECIPE, lr=lr)) for lr in (1e-3, 2e-3)]
    first = run_sweep(trials[:1], corpus(), tmp_path)
    saved = (tmp_path / "lr0.001" / "checkpoint.pt").stat().st_mtime_ns
    records = run_sweep(trials, corpus(), tmp_path)
    assert (tmp_path / "lr0.001" / "checkpoint.pt").stat().st_mtime_ns == saved
    assert records[0] == first[0] and records[1]["name"] == "lr0.002"
    assert len(records[1]["train_curve"]) == 12 and records[1]["val_curve"][-1][0] == 12


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
