"""Many runs, resumable one by one: a sweep stopped half-way continues."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from attnres_ref.model import LM, LMConfig
from attnres_ref.training import TrainConfig, train


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    name: str                      # folder of the run inside the sweep's, unique
    model: LMConfig
    train: TrainConfig


def run_sweep(
    trials: Iterable[Trial], corpus, folder: str | Path, observe=None
) -> list[dict]:
    """Train what `folder` does not hold yet and return each trial's result and curves.

    A finished trial is read back, an interrupted one resumed. The trials may be
    split over processes: each takes a part of the list and the same folder.
    observe: see `run_trial`. Raises CheckpointError when the folder holds a trial of
    another configuration.
    """
    return [
        run_trial(trial, corpus, Path(folder) / trial.name, observe) for trial in trials
    ]


def run_trial(trial: Trial, corpus, folder: Path, observe=None) -> dict:
    """JSON record of one trial: its result, its two curves, and what `observe(model)`
    said of the untrained model and at every validation, as [[step, {...}], ...]."""
    run = train(
        trial.model, trial.train, corpus,
        checkpoint_dir=folder, resume=True, observe=observe,
    )
    validations = [m for m in run.metrics if "val_loss" in m]
    record = dict(
        name=trial.name,
        **run.result,
        train_curve=[round(line["loss"], 4) for line in run.metrics],
        val_curve=[[m["step"], round(m["val_loss"], 5)] for m in validations],
    )
    if observe:
        torch.manual_seed(trial.train.seed)        # the model as it was before training
        start = observe(LM(trial.model))
        record["observed"] = [
            [0, start], *([m["step"], {key: m[key] for key in start}] for m in validations)
        ]
    return record
