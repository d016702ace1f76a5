"""Record the models that the depth lens of the site runs: notebooks/recorded/lens/*.js.

    python notebooks/recording/lens.py train full      # 10 minutes on one core
    python notebooks/recording/lens.py write           # when all three are trained

A file holds one model after so many steps. It is a script, because a page opened from a
disk may load scripts but no data, and a weight in it is one printed character: 93 levels
between minus and plus the largest of its row. The browser computes with what these
characters say, and so does `load`, so that the two can be compared to the last digits.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from attnres_ref.model import LM, LMConfig
from attnres_ref.training.provenance import require_clean
from attnres_ref.training.recipe import TrainConfig
from attnres_ref.training.trainer import Trainer
from tiny_data import python_sources

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "build" / "recorded" / "lens"         # in float32, not committed
FOLDER = ROOT / "notebooks" / "recorded" / "lens"
RESIDUALS = ("prenorm", "block", "full")
STEPS = (0, 20, 70, 200, 700, 2000)
# The size of the tuned study, on twice the batch and five times as many steps.
MODEL = dict(
    d_model=64, n_layers=16, n_heads=2, context=128, block_size=4, scaled_init=True
)
RECIPE = TrainConfig(steps=STEPS[-1], batch_size=16, lr=4e-3, warmup_steps=200)
CALL = "depthLens("                                    # the page's function that takes it
# Printable ASCII but for what a string in a script would have to escape.
DIGITS = "".join(c for c in map(chr, range(32, 127)) if c not in '"\\')
LEVELS = len(DIGITS) // 2                              # -46 ... 46


def train(residual: str) -> None:
    """Train one model and keep its weights and validation loss after each of STEPS."""
    trainer, states = trainer_of(residual), {}
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            model = {name: w.clone() for name, w in trainer.model.state_dict().items()}
            states[step] = dict(model=model, **trainer.validate(), **trainer.made)
            print(residual, step, states[step]["val_loss"], flush=True)
        if step < STEPS[-1]:
            trainer.step()
    (TRAINED / residual).mkdir(parents=True, exist_ok=True)
    torch.save(states, TRAINED / residual / "states.pt")


def trainer_of(residual: str) -> Trainer:
    return Trainer(LMConfig(residual=residual, **MODEL), RECIPE, python_sources())


@torch.no_grad()
def folded(model: LM) -> LM:
    """The same function without norm weights: each joins the matrix that follows it, and
    the keys' joins the query. So there is less to explain in another language."""
    for layer in model.layers:
        for follower in ("qkv", "gate", "up"):
            if hasattr(layer, follower):
                getattr(layer, follower).weight.mul_(layer.norm.weight)
        layer.norm.weight.fill_(1)
    model.head.weight.mul_(model.norm.weight)
    model.norm.weight.fill_(1)
    if hasattr(model.stream, "queries"):
        model.stream.queries.mul_(1 + model.stream.queries_norm)
        model.stream.queries_norm.zero_()
    return model


def matrices(model: LM) -> dict[str, Tensor]:
    """What a file holds of a folded model, under the names that it has there."""
    named = {name: w.detach() for name, w in model.named_parameters() if "norm" not in name}
    return {n.removeprefix("stream.").removesuffix(".weight"): w for n, w in named.items()}


def written(matrix: Tensor) -> dict:
    """A matrix [rows, columns] as the scale of each row, to four digits, and one character
    a weight: its multiple of the scale."""
    scales = [float(f"{x:.4g}") for x in matrix.abs().amax(1) / LEVELS]
    scale = torch.tensor(scales)[:, None]
    levels = (matrix / scale.clamp(min=1e-30)).round().clamp(-LEVELS, LEVELS).int()
    digits = "".join(DIGITS[level + LEVELS] for level in levels.flatten().tolist())
    return dict(shape=list(matrix.shape), scales=scales, digits=digits)


def read(matrix: dict) -> Tensor:
    """The matrix that `written` wrote, up to its rounding."""
    value = {character: i - LEVELS for i, character in enumerate(DIGITS)}
    levels = torch.tensor([value[c] for c in matrix["digits"]]).view(matrix["shape"])
    return levels * torch.tensor(matrix["scales"])[:, None]


def name_of(residual: str, step: int) -> str:
    """All three begin with the same weights and with queries of zero, so that one file,
    which has no queries, is the start of all."""
    return f"{residual}_{step}.js" if step else "all_0.js"


def record(residual: str, step: int) -> dict:
    """What the file holds. Its `val_loss` is that of the model which is in it."""
    text = (FOLDER / name_of(residual, step)).read_text(encoding="utf-8")
    return json.loads(text.removeprefix(CALL).removesuffix(");\n"))


def load(residual: str, step: int) -> LM:
    """The model in a file, as PyTorch runs it."""
    return filled(LM(LMConfig(residual=residual, **MODEL)), record(residual, step))


@torch.no_grad()
def filled(model: LM, facts: dict) -> LM:
    """`model`, whose norm weights are still ones, with the matrices of a file."""
    found = {name: read(matrix) for name, matrix in facts["matrices"].items()}
    for name, weight in matrices(model).items():
        if name in found:                              # the start has no queries
            weight.copy_(found[name])
    return model


def write() -> None:
    """Write all files. Each says what its model loses by being rounded."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for residual in RESIDUALS:
        trainer = trainer_of(residual)
        states = torch.load(TRAINED / residual / "states.pt", weights_only=True)
        for step, state in states.items():
            trainer.model.load_state_dict(state.pop("model"))
            named = matrices(folded(trainer.model))
            if step == 0:
                named.pop("queries", None)
            config = trainer.model.config
            block_size = config.block_size if residual == "block" else 1
            facts = dict(
                residual=residual if step else "all", step=step, n_layers=config.n_layers,
                n_heads=config.n_heads, context=config.context, block_size=block_size,
                rope_base=config.rope_base, unrounded=state,
                matrices={name: written(matrix) for name, matrix in named.items()},
            )
            filled(trainer.model, facts)
            facts = dict(val_loss=round(trainer.validate()["val_loss"], 4)) | facts
            text = CALL + json.dumps(facts, separators=(",", ":")) + ");\n"
            path = FOLDER / name_of(residual, step)
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path.name, facts["val_loss"], state["val_loss"], f"{len(text):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "write"))
    parser.add_argument("residual", choices=RESIDUALS, nargs="?")
    given = parser.parse_args()
    if (given.what == "train") != bool(given.residual):
        parser.error("it is `train` and a residual, or `write` alone")
    require_clean()
    train(given.residual) if given.what == "train" else write()


if __name__ == "__main__":
    main()
