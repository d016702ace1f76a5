"""Record the runs that the notebooks draw beside a learner's: notebooks/recorded/*.json.

    python notebooks/recording/record.py ablations
    python notebooks/recording/record.py ablations --part 0/2  # half of the runs
    python notebooks/recording/record.py ablations --so-far    # write what is there
    python notebooks/recording/record.py depth_weights         # of the runs of residuals

sweeps.py and plan.py say what each sweep is for. A sweep goes on where it stopped: what its
JSON holds, or build/recorded, is not run again. The JSON is written once all its runs are
there, or `--so-far`. Commit first: a record names the code that made it.
"""

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import plan
from attnres_ref import LM
from attnres_ref.hybrid.routing import router_statistics
from attnres_ref.study.probes import depth_weights, dynamics
from attnres_ref.study.puzzles import accuracy_observer
from attnres_ref.study.sweep import Trial, run_trial
from attnres_ref.training.provenance import require_clean
from attnres_ref.training.run_directory import load_checkpoint
from sweeps import PUZZLES, SIZE, STUDIES, corpus
from sweeps import SWEEPS as STUDIED

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "recorded"   # of the runs
RECORDED = ROOT / "notebooks" / "recorded"
PLANNED = {name: {plan.CORPUS: sweep} for name, sweep in plan.SWEEPS.items()}
SWEEPS = STUDIED | PLANNED
KEEP_OBSERVED = (
    "ablations", "hybrid", "hybrid_start", "puzzles", "whodunnit", "horizon"
)


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
    target = RECORDED / f"{name}.json"
    target.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
    print(f"wrote {target.name}")


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
    parser.add_argument(
        "--so-far", action="store_true", help="train nothing, write the runs that are there"
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
    if half := plan.HALVES.get(options.sweep):
        corpora = {name: data.validated_on(half) for name, data in corpora.items()}
    trials = [(name, trial) for name in sweep for trial in sweep[name]()]
    folder = FOLDER / ("study" if is_study else options.sweep)
    known = {
        (name, trial.name): record
        for name, trial in trials
        if (record := found(options.sweep, name, trial, corpora[name]))
    }

    def run(name, trial):
        data, observe = corpora[name], None
        if name in PUZZLES:
            observe = accuracy_observer(data)
        elif is_study or options.sweep in KEEP_OBSERVED:
            observe = observer(data)       # all studies, since they share runs
        record = run_trial(trial, data, folder / name / trial.name, observe)
        if options.sweep in PLANNED or "observed" in record:
            return slim(record, options.sweep in KEEP_OBSERVED)
        return record

    def finished(name, trial):
        return (folder / name / trial.name / "result.json").exists()

    if not options.so_far:
        for name, trial in trials[options.part]:
            if (name, trial.name) not in known:
                run(name, trial)
    missing = [
        trial.name for name, trial in trials
        if (name, trial.name) not in known and not finished(name, trial)
    ]
    if not options.so_far:
        stop_if_any(missing)
    records = defaultdict(list)
    for name, trial in trials:
        if trial.name not in missing:
            records[name].append(known.get((name, trial.name)) or run(name, trial))
    write(options.sweep, records)
    if missing:
        print(f"{len(missing)} are still to come, {missing[0]} first")


def found(sweep: str, name: str, trial: Trial, data) -> dict | None:
    """The record of exactly this trial in the sweep's JSON, if it is there."""
    path = RECORDED / f"{sweep}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    fields = [("model", asdict(trial.model)), ("train", asdict(trial.train))]
    for record in content.get(name, []):
        same = all(record[part].items() <= asked.items() for part, asked in fields)
        if record["name"] == trial.name and same and record["data"] == data.fingerprint:
            return record
    return None


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
    dropped = {"train_curve", *(record["observed"][-1][1] if "observed" in record else ())}
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
