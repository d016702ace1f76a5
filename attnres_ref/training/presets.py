"""Sizes by device: the same notebook cells run in all of them."""

import os
from dataclasses import dataclass, replace

import torch

from attnres_ref.model import LMConfig
from attnres_ref.training.recipe import TrainConfig


@dataclass(frozen=True)
class Preset:
    """One column of the course's table of minutes."""

    name: str                                        # ci, cpu, t4 or gpu
    model: dict                                      # fields of LMConfig
    train: TrainConfig

    def lm(self, residual: str, **changes) -> LMConfig:
        """This size with the given residual; `changes` override fields."""
        return LMConfig(**{**self.model, "residual": residual, **changes})

    def training(self, **changes) -> TrainConfig:
        return replace(self.train, **changes)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "ci",                                    # seconds on two cores: does it run?
            dict(d_model=32, n_layers=8, n_heads=2, context=64),
            TrainConfig(steps=40, batch_size=8, warmup_steps=5, eval_every=20,
                        eval_windows=8, checkpoint_every=10),
        ),
        Preset(
            # Minutes on a laptop. lr and the plain initialisation were chosen for PreNorm
            # (notebooks/recorded/baseline.json); the GPU presets' rates are not swept.
            "cpu",
            dict(d_model=128, n_layers=16, n_heads=4, context=128),
            TrainConfig(steps=300, batch_size=16, eval_every=50),
        ),
        Preset(
            "t4",                                    # a free Colab GPU
            dict(d_model=256, n_layers=24, n_heads=4, context=256),
            TrainConfig(steps=1500, batch_size=32, lr=2e-3, warmup_steps=100),
        ),
        Preset(
            "gpu",                                   # an A100 or better
            dict(d_model=384, n_layers=32, n_heads=6, context=512),
            TrainConfig(steps=2500, batch_size=32, lr=1.5e-3, warmup_steps=150),
        ),
    )
}


def current() -> Preset:
    """$ATTNRES_PRESET, else what the device at hand finishes in the promised time.
    Raises ValueError for a name that is no preset's."""
    if name := os.environ.get("ATTNRES_PRESET", "").strip():
        if name not in PRESETS:
            raise ValueError(f"ATTNRES_PRESET is {name!r}: choose one of {sorted(PRESETS)}")
        return PRESETS[name]
    if not torch.cuda.is_available():
        return PRESETS["cpu"]
    return PRESETS["gpu" if torch.cuda.get_device_capability() >= (8, 0) else "t4"]
