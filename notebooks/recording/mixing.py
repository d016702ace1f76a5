"""Measure what the models of the ablation sweep ended up mixing: recorded/mixing.json.

    python notebooks/recording/mixing.py               # after `record.py ablations`
    python notebooks/recording/mixing.py --part 0/2    # half of the models, this process

Goes on where it stopped: what is measured of a model lies in build/recorded/mixing. The
JSON is written once all models are there.
"""

import argparse
import json
from dataclasses import asdict

import torch

from attnres_ref import LM
from attnres_ref.study.mixing import (
    mixing_matrix,
    rank_bound,
    reads,
    semiseparable_rank,
    source_ablation,
)
from attnres_ref.study.sweep import Trial
from attnres_ref.training.provenance import provenance, require_clean
from attnres_ref.training.run_directory import load_checkpoint
from record import FOLDER, part, rounded, stop_if_any, write
from sweeps import STUDY, ablations
from tiny_data import load

CORPUS = "python_sources"
PARTS, STUDY_RUNS = FOLDER / "mixing", FOLDER / "study" / CORPUS
WINDOWS, ABLATION_WINDOWS = 4, 16      # of STUDY's context: for matrices, for losses
PICKED = 8                             # tokens and channels whose ranks are measured
ABLATED = STUDY.lm("full"), STUDY.lm("block")        # lose their sources one by one
TIGHT, ROUGH = 1e-10, 1e-2             # singular values below this, relative, are zero


def measured(trial: Trial, model: LM, corpus) -> dict:
    """Everything recorded of one trained model."""
    inputs, targets = corpus.validation_windows(ABLATION_WINDOWS, STUDY.model["context"])
    record = dict(
        name=trial.name, model=asdict(trial.model), train=asdict(trial.train),
        data=corpus.fingerprint, **provenance(torch.device("cpu")),
    )
    if trial.model.residual in ("full", "block"):
        record["reads"] = [rounded(read) for read in reads(model, inputs)]
    if trial.model in ABLATED:
        rows = source_ablation(model, inputs, targets)
        record["ablation"] = [rounded(row.tolist()) for row in rows]
    return record | matrix_and_ranks(model.double(), inputs[:WINDOWS])


def matrix_and_ranks(model: LM, tokens) -> dict:
    """The mean matrix, and the ranks of some tokens' and channels' own."""
    M = mixing_matrix(model, tokens).flatten(2)            # [L + 1, L + 1, B T d]
    picked = torch.linspace(0, M.shape[-1] - 1, PICKED).long()
    ranks = {
        name: [semiseparable_rank(M[..., i], tolerance) for i in picked]
        for name, tolerance in (("rank", TIGHT), ("rough_rank", ROUGH))
    }
    matrix = [rounded(row[: layer + 1]) for layer, row in enumerate(M.mean(-1).tolist())]
    return dict(matrix=matrix, **ranks, rank_bound=rank_bound(model.config))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", type=part, default="0/1", help="K/N: every N-th model from the K-th"
    )
    chosen = parser.parse_args(arguments).part

    require_clean()
    corpus = load(CORPUS)
    # Another initialisation is no other residual.
    trials = [trial for trial in ablations() if not trial.model.scaled_init]
    PARTS.mkdir(parents=True, exist_ok=True)
    for trial in trials[chosen]:
        file, run = PARTS / f"{trial.name}.json", STUDY_RUNS / trial.name
        if file.exists() or not (run / "result.json").exists():
            continue                               # measured, or not trained to the end
        model = LM(trial.model)
        model.load_state_dict(load_checkpoint(run / "checkpoint.pt")["model"])
        text = json.dumps(measured(trial, model, corpus)) + "\n"
        file.write_text(text, encoding="utf-8")
        print(f"measured {trial.name}", flush=True)

    files = [PARTS / f"{trial.name}.json" for trial in trials]
    stop_if_any([file.stem for file in files if not file.exists()])
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    write("mixing", {CORPUS: records})


if __name__ == "__main__":
    main()
