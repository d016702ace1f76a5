"""A run of a sweep, which can stop half-way: what is finished is read back."""

from dataclasses import dataclass
from pathlib import Path

import torch

from attnres_ref.model import LM, LMConfig
from attnres_ref.training import TrainConfig, train


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    name: str                      # in the record, unique in the sweep
    model: LMConfig
    train: TrainConfig


def run_trial(trial: Trial, corpus, folder: str | Path, observe=None) -> dict:
    """Train what `folder` does not hold yet; a JSON record: the run's result, its two
    curves, and what `observe(model)` said of the untrained model and at every validation,
    as [[step, {...}], ...].

    A finished trial is read back, an interrupted one resumed. Raises CheckpointError when
    the folder holds a trial of another configuration.
    """
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
        torch.manual_seed(trial.train.seed)            # as before the first step
        at_start = observe(LM(trial.model))
        later = ([m["step"], {key: m[key] for key in at_start}] for m in validations)
        record["observed"] = [[0, at_start], *later]
    return record
