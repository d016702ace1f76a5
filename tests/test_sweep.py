"""A run of a sweep: read back when finished, observed from the untrained model on."""

from dataclasses import replace

import pytest
import torch

from attnres_ref import LM
from attnres_ref.study.sweep import Trial, run_trial
from small import MODEL, RECIPE, corpus, whole_run


def test_a_finished_trial_is_read_back(tmp_path):
    trial = Trial("lr0.001", MODEL, replace(RECIPE, lr=1e-3))
    first = run_trial(trial, corpus(), tmp_path)
    saved = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert run_trial(trial, corpus(), tmp_path) == first
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == saved
    assert first["name"] == "lr0.001" and first["train"]["lr"] == 1e-3
    assert len(first["train_curve"]) == 12 and first["val_curve"][-1][0] == 12


def test_a_trial_is_observed_from_its_untrained_model_on(tmp_path):
    def observe(model):
        return {"first_weight": model.head.weight[0, 0].item()}

    record = run_trial(Trial("a", MODEL, RECIPE), corpus(), tmp_path, observe)
    torch.manual_seed(RECIPE.seed)
    assert record["observed"][0] == [0, observe(LM(MODEL))]
    assert [step for step, _ in record["observed"]] == [0, 5, 10, 12]
    assert record["observed"][-1][1]["first_weight"] == record["first_weight"]
    assert len({values["first_weight"] for _, values in record["observed"]}) == 4
    metrics = whole_run()[0].metrics
    assert record["train_curve"] == pytest.approx([m["loss"] for m in metrics], abs=5e-5)
    losses = [m["val_loss"] for m in metrics if "val_loss" in m]
    assert [loss for _, loss in record["val_curve"]] == pytest.approx(losses, abs=5e-6)
    # Read back, not trained again: the same record.
    assert run_trial(Trial("a", MODEL, RECIPE), corpus(), tmp_path, observe) == record
