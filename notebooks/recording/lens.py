"""Record the models that the depth lens of the site runs: notebooks/recorded/lens/*.js.

    python notebooks/recording/lens.py full            # 5 to 10 minutes on one core

A file holds one model after so many steps. It is a script, because a page opened from a
disk may load scripts but no data, and a weight in it is one printed character: 93 levels
between minus and plus the largest of its row. The browser computes with what these
characters say, and so does `load`, so that the two can be compared to the last digits.
"""

import argparse
from pathlib import Path

import torch

from attnres_ref.model import LMConfig
from attnres_ref.training.provenance import require_clean
from attnres_ref.training.recipe import TrainConfig
from attnres_ref.training.trainer import Trainer
from tiny_data import python_sources

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "build" / "recorded" / "lens"         # full precision, not committed
FOLDER = ROOT / "notebooks" / "recorded" / "lens"
RESIDUALS = ("prenorm", "block", "full")
STEPS = (0, 20, 70, 200, 700, 2000)
# The size of the tuned study, trained five times as long on twice the batch.
MODEL = dict(d_model=64, n_layers=16, n_heads=2, context=128, block_size=4, scaled_init=True)
RECIPE = TrainConfig(steps=STEPS[-1], batch_size=16, lr=4e-3, warmup_steps=200)
CALL = "depthLens("                                    # what the page calls its receiver
# Printable ASCII but for what a string in a script would have to escape.
DIGITS = "".join(c for c in map(chr, range(32, 127)) if c not in '"\\')
LEVELS = len(DIGITS) // 2                              # -46 ... 46


def train(residual: str) -> None:
    """Train one model and keep its weights and validation loss after each of STEPS."""
    folder, states = TRAINED / residual, {}
    trainer = Trainer(LMConfig(residual=residual, **MODEL), RECIPE, python_sources())
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            model = {name: w.clone() for name, w in trainer.model.state_dict().items()}
            states[step] = dict(model=model, **trainer.validate(), **trainer.made)
            print(residual, step, states[step]["val_loss"], flush=True)
        if step < STEPS[-1]:
            trainer.step()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(states, folder / "states.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("residual", choices=RESIDUALS)
    require_clean()
    train(parser.parse_args().residual)


if __name__ == "__main__":
    main()
