"""Record the runs that the notebooks draw beside a learner's: notebooks/recorded/*.json.

    python notebooks/recording/record.py ablations
    python notebooks/recording/record.py ablations --part 0/2  # half of the runs
    python notebooks/recording/record.py ablations --so-far    # write what is there

sweeps.py and plan.py say what each sweep is for. A sweep goes on where it stopped: what its
JSON holds, or build/recorded, is not run again. The JSON is written once all its runs are
there, or `--so-far`. Commit first: a record names the code that made it.
"""

import argparse
import json
import math
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import plan
from attnres_ref.hybrid.routing import router_statistics
from attnres_ref.study.probes import depth_weights, dynamics
from attnres_ref.study.puzzles import accuracy_observer
from attnres_ref.study.sweep import Trial, run_trial
from attnres_ref.training.provenance import require_clean
from plan import CORPUS
from sweeps import PUZZLES, STUDIES, corpus
from sweeps import SWEEPS as STUDIED
from tiny_data import Corpus
from tiny_data.puzzles import Puzzles

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "recorded"   # of the runs
RECORDED = ROOT / "notebooks" / "recorded"
PLANNED = {name: {CORPUS: sweep} for name, sweep in plan.SWEEPS.items()}
SWEEPS = STUDIED | PLANNED
KEEP_OBSERVED = (
    "ablations", "hybrid", "hybrid_start", "puzzles", "whodunnit", "horizon",
    "depth_weights",
)


@dataclass(frozen=True)
class Run:
    """A run of a sweep: in the sweep's JSON, in its folder, or still to be trained."""

    sweep: str
    corpus: str
    trial: Trial
    data: Corpus | Puzzles
    known: dict | None                 # its record in the JSON

    @property
    def folder(self) -> Path:
        """Studies have one, because they share runs."""
        shared = "study" if self.is_study else self.sweep
        return FOLDER / shared / self.corpus / self.trial.name

    @property
    def is_study(self) -> bool:
        return {*SWEEPS[self.sweep].values()} <= {*STUDIES}

    def is_there(self) -> bool:
        return self.known is not None or (self.folder / "result.json").exists()

    def record(self) -> dict:
        """What the JSON says of it. Trains what is not there."""
        if self.known is not None:
            return self.known
        keep, observe = self.sweep in KEEP_OBSERVED, None
        if self.corpus in PUZZLES:
            observe = accuracy_observer(self.data)
        elif self.sweep == "depth_weights":
            observe = weights_observer(self.data)
        elif keep or self.is_study:
            observe = observer(self.data)
        record = run_trial(self.trial, self.data, self.folder, observe)
        return slim(record, keep) if observe or self.sweep in PLANNED else record


def runs_of(sweep: str) -> list[Run]:
    """All runs of a sweep, with the half of the validation split that the plan says."""
    path, runs = RECORDED / f"{sweep}.json", []
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, trials in SWEEPS[sweep].items():
        data = corpus(name)
        if sweep in plan.HALVES:
            data = data.validated_on(plan.HALVES[sweep])
        for trial in trials():
            known = found(content.get(name, []), trial, data)
            runs.append(Run(sweep, name, trial, data, known))
    return runs


def found(records: list[dict], trial: Trial, data: Corpus | Puzzles) -> dict | None:
    """The record of exactly this trial. An old one may lack fields that came later."""
    asked = dict(model=asdict(trial.model), train=asdict(trial.train))
    for record in records:
        same = all(record[part].items() <= asked[part].items() for part in asked)
        if record["name"] == trial.name and same and record["data"] == data.fingerprint:
            return record
    return None


def write(name: str, content: dict) -> None:
    target = RECORDED / f"{name}.json"
    target.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
    print(f"wrote {target.name}")


def write_those_there(sweep: str, runs: list[Run]) -> None:
    there = [run for run in runs if run.is_there()]
    write(sweep, {
        name: [run.record() for run in there if run.corpus == name]
        for name in SWEEPS[sweep]
    })
    print(f"{len(there)} of {len(runs)} runs")


def part(text: str) -> slice:
    """ "K/N" as a slice: every N-th from the K-th, counted from 0."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 0 to N - 1")
    return slice(int(match[1]), None, int(match[2]))


def stop_if_any(missing: list[str]) -> None:
    if missing:
        sys.exit(f"{len(missing)} are still to come, {missing[0]} first: nothing written")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", choices=[*SWEEPS])
    parser.add_argument(
        "--part", type=part, default="0/1", help="K/N: every N-th run from the K-th"
    )
    parser.add_argument(
        "--so-far", action="store_true", help="train nothing, write the runs that are there"
    )
    options = parser.parse_args(arguments)
    require_clean()
    runs = runs_of(options.sweep)
    if not runs:
        sys.exit(f"{options.sweep} chooses from sweeps that are not complete: record these")
    if not options.so_far:
        for run in runs[options.part]:
            run.record()
        stop_if_any([run.trial.name for run in runs if not run.is_there()])
    write_those_there(options.sweep, runs)


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


def weights_observer(corpus):
    """Where every read looks, over 64 validation windows, for `run_trial`."""

    def observe(model):
        inputs, _ = corpus.validation_windows(64, model.config.context)
        inputs = inputs.to(next(model.parameters()).device)
        rows = [row.tolist() for row in depth_weights(model, inputs)]
        return rounded({"depth_weights": rows})

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
