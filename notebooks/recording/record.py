"""Record the runs that the notebooks draw beside a learner's: notebooks/recorded/*.json.

    python notebooks/recording/record.py baseline  # choose lr and initialisation
    python notebooks/recording/record.py residuals  # three residuals, three seeds
    python notebooks/recording/record.py residuals --part 0/2  # half of the runs
    python notebooks/recording/record.py query_rate  # queries at 1/4 of the rate
    python notebooks/recording/record.py depth_weights  # what `residuals` then read

Notebooks 04 to 07 draw rates, recipe, start, ablations, gentler, scaling and shape;
scaling_gpu waits for a GPU. Notebook 11 draws hybrid, hybrid_start and puzzles. What
each holds is said in sweeps.py, one function each.

A sweep goes on where it stopped. The JSON is written once all its runs are there.
"""

import argparse
import json
import sys
from pathlib import Path

from attnres_ref import LM
from attnres_ref.hybrid.routing import router_statistics
from attnres_ref.study.probes import depth_weights, dynamics
from attnres_ref.study.puzzles import accuracy_observer
from attnres_ref.study.sweep import run_sweep
from attnres_ref.training.run_directory import load_checkpoint
from sweeps import PUZZLES, SIZE, STUDIES, SWEEPS, corpus

ROOT = Path(__file__).resolve().parents[2]
STUDY_NAMES = [sweep.__name__ for sweep in STUDIES]


def record_depth_weights(folder: Path) -> None:
    """Depth weights of the trained seed 0 models, from the checkpoints of `residuals`."""
    sources = corpus("python_sources")
    inputs, _ = sources.validation_windows(SIZE.train.eval_windows, SIZE.model["context"])
    weights = dict(data=sources.fingerprint)
    for residual in ("block", "full"):
        model = LM(SIZE.lm(residual))
        run = folder / "residuals" / "python_sources" / f"{residual}-seed0"
        model.load_state_dict(load_checkpoint(run / "checkpoint.pt")["model"])
        rows = depth_weights(model, inputs)
        weights[residual] = [[round(w, 4) for w in row.tolist()] for row in rows]
    write("depth_weights", weights)


def write(name: str, content: dict) -> None:
    target = ROOT / "notebooks" / "recorded" / f"{name}.json"
    target.write_text(json.dumps(content) + "\n")
    print(f"wrote {target.relative_to(ROOT)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", choices=[*SWEEPS, "depth_weights"])
    parser.add_argument("--part", default="0/1", help="K/N: every N-th run from the K-th")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "recorded")
    options = parser.parse_args()
    if options.sweep == "depth_weights":
        return record_depth_weights(options.folder)
    part, parts = map(int, options.part.split("/"))

    sweep = SWEEPS[options.sweep]()
    corpora = {name: corpus(name) for name in sweep}
    folder = options.folder / ("study" if options.sweep in STUDY_NAMES else options.sweep)

    def run(name, trials):
        observe = observer_of(options.sweep, name, corpora[name])
        return run_sweep(trials, corpora[name], folder / name, observe)

    everything = [(name, trial) for name, trials in sweep.items() for trial in trials]
    for name, trial in everything[part::parts]:
        run(name, [trial])

    missing = [
        trial.name for name, trial in everything
        if not (folder / name / trial.name / "result.json").exists()
    ]
    if missing:
        sys.exit(
            f"{len(missing)} runs are still to come, {missing[0]} first: nothing written"
        )
    records = {name: run(name, trials) for name, trials in sweep.items()}
    if options.sweep in (*STUDY_NAMES, "puzzles"):
        keep = options.sweep in ("ablations", "hybrid", "hybrid_start", "puzzles")
        records = {name: [slim(r, keep) for r in runs] for name, runs in records.items()}
    write(options.sweep, records)


def observer_of(sweep: str, name: str, corpus):
    """All studies observe, since they share runs; only some of their files keep it."""
    if name in PUZZLES:
        return accuracy_observer(corpus)
    return observer(corpus) if sweep in STUDY_NAMES else None


def observer(corpus):
    """Fig. 5's quantities over 16 validation windows, and what routers do where there are
    any, for `run_sweep`."""

    def observe(model):
        windows = corpus.validation_windows(16, model.config.context)
        device = next(model.parameters()).device
        inputs, targets = (window.to(device) for window in windows)
        found = dynamics(model, inputs, targets)
        if "moe" in model.config.layer_names:
            found |= router_statistics(model, inputs)
        return rounded(found)

    return observe


def slim(record: dict, keep_observed: bool) -> dict:
    """Without the loss of every step and the last observation, which `observed` repeats."""
    dropped = {"train_curve", *record["observed"][-1][1]}
    dropped |= set() if keep_observed else {"observed"}
    return {key: value for key, value in record.items() if key not in dropped}


def rounded(observed):
    """Every number in it to four digits: enough for a plot, and a file that can be read."""
    if isinstance(observed, dict):
        return {key: rounded(values) for key, values in observed.items()}
    if isinstance(observed, list):
        return [rounded(value) for value in observed]
    return float(f"{observed:.4g}")


if __name__ == "__main__":
    main()
