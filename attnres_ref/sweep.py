"""Many runs, resumable one by one: a sweep stopped half-way continues."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attnres_ref.model import LMConfig
from attnres_ref.training import TrainConfig, train


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    name: str                      # folder of the run inside the sweep's, unique
    model: LMConfig
    train: TrainConfig


def run_sweep(trials: Iterable[Trial], corpus, folder: str | Path) -> list[dict]:
    """Train what `folder` does not hold yet and return each trial's result and curves.

    A finished trial is read back, an interrupted one resumed. The trials may be
    split over processes: each takes a part of the list and the same folder.
    Raises CheckpointError when the folder holds a trial of another configuration.
    """
    return [run_trial(trial, corpus, Path(folder) / trial.name) for trial in trials]


def run_trial(trial: Trial, corpus, folder: Path) -> dict:
    """JSON record of one trial: its result and its two curves."""
    run = train(trial.model, trial.train, corpus, checkpoint_dir=folder, resume=True)
    return dict(
        name=trial.name,
        **run.result,
        train_curve=[round(line["loss"], 4) for line in run.metrics],
        val_curve=[[m["step"], round(m["val_loss"], 5)] for m in run.metrics if "val_loss" in m],
    )
