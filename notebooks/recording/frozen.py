"""What it is worth that tokens choose their weights: recorded/frozen.json.

    python notebooks/recording/frozen.py               # after `record.py whodunnit`
    python notebooks/recording/frozen.py --part 0/2    # half of the models, this process
    python notebooks/recording/frozen.py --so-far      # write what is measured, no more

The loss of every Full and Block model of the whodunnit on the judging half, as it is and
with each read's weights frozen at their means over tokens of the tuning half. Goes on where
it stopped: what is measured of a model lies in build/recorded/frozen. The JSON is written
once all models are there, or `--so-far`.
"""

import argparse
import json

import torch
import torch.nn.functional as F

from attnres_ref import LM
from attnres_ref.study.mixing import with_mean_weights
from attnres_ref.study.sweep import Trial
from attnres_ref.training.provenance import provenance, require_clean
from attnres_ref.training.run_directory import load_checkpoint
from plan import CORPUS, whodunnit
from record import FOLDER, part, stop_if_any, write
from tiny_data import Corpus, load

PARTS, RUNS = FOLDER / "frozen", FOLDER / "whodunnit" / CORPUS
WINDOWS = 1024                         # evenly spaced in either half
BATCH = 64                             # windows at a time


def measured(trial: Trial, run, corpus: Corpus) -> dict:
    """Both losses of the trained model in the folder `run`, and what trained it."""
    model = LM(trial.model)
    model.load_state_dict(load_checkpoint(run / "checkpoint.pt")["model"])
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    judging, context = corpus.validated_on("judging"), trial.model.context
    windows = judging.validation_windows(WINDOWS, context)
    tokens, _ = corpus.validated_on("tuning").validation_windows(WINDOWS, context)
    return dict(
        name=trial.name, model=result["model"], train=result["train"],
        trained={key: result[key] for key in ("commit", "dirty", "torch", "python")},
        data=judging.fingerprint, windows=WINDOWS, loss=loss(model, *windows),
        frozen_loss=loss(with_mean_weights(model, tokens), *windows),
        **provenance(torch.device("cpu")),
    )


@torch.no_grad()
def loss(model, inputs, targets) -> float:
    """Mean cross-entropy, nats per byte, over windows [n, T], as validations have it."""
    total = 0.0
    for x, y in zip(inputs.split(BATCH), targets.split(BATCH)):
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item() * len(x)
    return total / len(inputs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", type=part, default="0/1", help="K/N: every N-th model from the K-th"
    )
    parser.add_argument(
        "--so-far", action="store_true", help="measure nothing, write what is there"
    )
    options = parser.parse_args(arguments)

    require_clean()
    trials = [run for run in whodunnit() if run.model.residual in ("full", "block")]
    if not options.so_far:
        measure(trials[options.part])
    files = [PARTS / f"{trial.name}.json" for trial in trials]
    missing = [file.stem for file in files if not file.exists()]
    if not options.so_far:
        stop_if_any(missing)
    found = [file for file in files if file.exists()]
    write("frozen", {CORPUS: [json.loads(f.read_text(encoding="utf-8")) for f in found]})
    if missing:
        print(f"{len(missing)} are still to come, {missing[0]} first")


def measure(trials: list[Trial]) -> None:
    """Those that are trained to the end and not measured yet, each into its own file."""
    corpus = load(CORPUS)
    PARTS.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        file, run = PARTS / f"{trial.name}.json", RUNS / trial.name
        if not file.exists() and (run / "result.json").exists():
            text = json.dumps(measured(trial, run, corpus)) + "\n"
            file.write_text(text, encoding="utf-8")
            print(f"measured {trial.name}", flush=True)


if __name__ == "__main__":
    main()
