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
    """Train what `folder` does not hold yet; a JSON record of each trial: its result, its
    two curves, and what `observe(model)` said of the untrained model and at every
    validation, as [[step, {...}], ...].

    A finished trial is read back, an interrupted one resumed. The trials may be
    split over processes: each takes a part of the list and the same folder. Raises
    CheckpointError when the folder holds a trial of another configuration.
    """
    records = []
    for trial in trials:
        run = train(
            trial.model, trial.train, corpus,
            checkpoint_dir=Path(folder) / trial.name, resume=True, observe=observe,
        )
        validations = [m for m in run.metrics if "val_loss" in m]
        record = dict(
            name=trial.name,
            **run.result,
            train_curve=[round(line["loss"], 4) for line in run.metrics],
            val_curve=[[m["step"], round(m["val_loss"], 5)] for m in validations],
        )
        if observe:
            torch.manual_seed(trial.train.seed)        # as before the first step
            at_start = observe(LM(trial.model))
            later = ([m["step"], {key: m[key] for key in at_start}] for m in validations)
            record["observed"] = [[0, at_start], *later]
        records.append(record)
    return records
