"""A training step as in `training`, each model under torch.compile: time alone."""

import torch

from attnres_ref.bench import timing, training

SIZE = training.SIZE
LEFT_OUT = ("Block S=4, stacked", "Full, stacked")       # minutes of compilation


def measure(rounds: int, batch: int = 4, **size) -> dict:
    """Rows {time_ms, time_ratio} by case, against PreNorm."""
    compiled = {
        name: torch.compile(model)
        for name, model in training.models(**size).items() if name not in LEFT_OUT
    }
    return training.times(compiled, rounds, batch)


def table(rows: dict) -> str:
    return timing.table(rows, training.TIME_COLUMNS)
