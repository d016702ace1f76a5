"""Record the runs that the notebooks draw beside a learner's: notebooks/recorded/*.json.

    python notebooks/recording/record.py ablations
    python notebooks/recording/record.py ablations --part 0/2  # half of the runs
    python notebooks/recording/record.py depth_weights         # of the runs of residuals

sweeps.py says what each sweep is for. A sweep goes on where it stopped; its JSON is
written once all its runs are there. Commit first: a record names the code that made it.
"""

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path

from attnres_ref import LM
from attnres_ref.hybrid.routing import router_statistics
from attnres_ref.study.probes import depth_weights, dynamics
from attnres_ref.study.puzzles import accuracy_observer
from attnres_ref.study.sweep import run_trial
from attnres_ref.training.provenance import require_clean
from attnres_ref.training.run_directory import load_checkpoint
from sweeps import PUZZLES, SIZE, STUDIES, SWEEPS, corpus

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "recorded"   # of the runs
KEEP_OBSERVED = ("ablations", "hybrid", "hybrid_start", "puzzles")


def record_depth_weights() -> None:
    """Depth weights of the trained seed 0 models, from the checkpoints of `residuals`."""
    sources = corpus("python_sources")
    inputs, _ = sources.validation_windows(SIZE.train.eval_windows, SIZE.model["context"])
    weights = dict(data=sources.fingerprint)
    for residual in ("block", "full"):
        model = LM(SIZE.lm(residual))
        run = FOLDER / "residuals" / "python_sources" / f"{residual}-seed0"
        model.load_state_dict(load_checkpoint(run / "checkpoint.pt")["model"])
        rows = depth_weights(model, inputs)
        weights[residual] = [[round(w, 4) for w in row.tolist()] for row in rows]
    write("depth_weights", weights)


def write(name: str, content: dict) -> None:
    target = ROOT / "notebooks" / "recorded" / f"{name}.json"
    target.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
    print(f"wrote {target.relative_to(ROOT)}")


def part(text: str) -> slice:
    """ "K/N" as a slice: every N-th from the K-th, counted from 0."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 0 to N - 1")
    return slice(int(match[1]), None, int(match[2]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", choices=[*SWEEPS, "depth_weights"])
    parser.add_argument(
        "--part", type=part, default="0/1", help="K/N: every N-th run from the K-th"
    )
    options = parser.parse_args(arguments)
    if options.sweep == "depth_weights" and options.part != part("0/1"):
        parser.error("depth_weights has no parts")
    require_clean()
    if options.sweep == "depth_weights":
        return record_depth_weights()

    sweep = SWEEPS[options.sweep]
    is_study = {*sweep.values()} <= {*STUDIES}
    corpora = {name: corpus(name) for name in sweep}
    trials = [(name, trial) for name in sweep for trial in sweep[name]()]
    folder = FOLDER / ("study" if is_study else options.sweep)

    def run(name, trial):
        data, observe = corpora[name], None
        if name in PUZZLES:
            observe = accuracy_observer(data)
        elif is_study:  # all observe, since they share runs; some of their files keep it
            observe = observer(data)
        return run_trial(trial, data, folder / name / trial.name, observe)

    for name, trial in trials[options.part]:
        run(name, trial)
    files = [folder / name / trial.name / "result.json" for name, trial in trials]
    stop_if_any([file.parent.name for file in files if not file.exists()])

    records, keep = defaultdict(list), options.sweep in KEEP_OBSERVED
    for name, trial in trials:
        record = run(name, trial)
        records[name].append(slim(record, keep) if "observed" in record else record)
    write(options.sweep, records)


def stop_if_any(missing: list[str]) -> None:
    if missing:
        sys.exit(f"{len(missing)} are still to come, {missing[0]} first: nothing written")


def observer(corpus):
    """Fig. 5's quantities over 16 validation windows, and what routers do where there are
    any, for `run_trial`."""

    def observe(model):
        windows = corpus.validation_windows(16, model.config.context)
        device = next(model.parameters()).device
        inputs, targets = (window.to(device) for window in windows)
        measured = dynamics(model, inputs, targets)
        if "moe" in model.config.layer_names:
            measured |= router_statistics(model, inputs)
        return rounded(measured)

    return observe


def slim(record: dict, keep_observed: bool) -> dict:
    """Without the loss of every step and the last observation, which `observed` repeats."""
    dropped = {"train_curve", *record["observed"][-1][1]}
    dropped |= set() if keep_observed else {"observed"}
    return {key: value for key, value in record.items() if key not in dropped}


def rounded(values):
    """Every number in it to four digits: enough for a plot, and a file that can be read.
    JSON has no nan, so a number that does not exist is None."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return None if math.isnan(values) else float(f"{values:.4g}")


if __name__ == "__main__":
    main()
