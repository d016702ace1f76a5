"""Training: the recipe, the loop, and what keeps a run safe."""

from attnres_ref.training.recipe import (
    TrainConfig,
    half_precision,
    learning_rate,
    make_optimizer,
)
from attnres_ref.training.trainer import Diverged, Run, Trainer, train

__all__ = [
    "Diverged", "Run", "TrainConfig", "Trainer", "half_precision", "learning_rate",
    "make_optimizer", "train",
]
