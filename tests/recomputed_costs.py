"""Rows of the ledger about scaling and costs. See test_ledger_recomputed.py."""

import json

import numpy as np

import recomputed as again
from recomputed import FAILS, HOLDS, loss
from recomputed_rows import ARMS, NAME, registering

ROWS = []
row = registering(ROWS)

# Scaling: FLOPs by the parameters that are recorded, Student's intervals by least squares.


def flops(run: dict) -> float:
    """Of the training: 6 for each parameter of a matrix and token (the embedding is looked
    up); sequence attention, T keys for each query; 4 d for each source of a read, tripled.
    """
    model, train = run["model"], run["train"]
    d, L, T = model["d_model"], model["n_layers"], model["context"]
    size = dict(prenorm=None, block=model["block_size"], full=1)[model["residual"]]
    vectors = (L + 1) * d + (2 * (L + 1) * d if size else 0)      # norms; queries, theirs
    matrices = run["parameters"] - vectors - model["vocab_size"] * d
    sources = sum(1 + -(-layer // size) for layer in range(L + 1)) if size else 0
    a_token = 6 * matrices + 12 * T * d * L / 2 + 12 * d * sources
    return a_token * T * train["steps"] * train["batch_size"]


def scaled(ours: str) -> tuple:
    """The logarithm of the compute multiplier at our largest size, and our exponent less
    PreNorm's: from a straight line through the multipliers of all sizes, whose pairs of
    seeds share an SD."""
    sizes = sorted({run["model"]["d_model"] for run in again.records("scaling")})
    arms = {
        name: [again.runs("scaling", name, d_model=size) for size in sizes]
        for name in (ours, "prenorm")
    }
    both = [(np.log(flops(run)), np.log(loss(run))) for of in arms["prenorm"]
            for run in of.values()]
    slope, start = np.polyfit(*np.transpose(both), 1)              # PreNorm's law

    def excess(run):
        return (np.log(loss(run)) - start) / slope - np.log(flops(run))

    gains = np.array([again.paired(excess, a, b) for a, b in zip(*arms.values())])
    x = np.log([flops(of[0]) for of in arms[ours]])
    design = np.stack([np.ones(len(x)), x], 1)
    inverse = np.linalg.inv(design.T @ design)
    line = inverse @ design.T @ gains.mean(1)
    n_seeds, df = gains.shape[1], gains.size - len(gains)
    sd = np.sqrt(gains.var(1, ddof=1).mean())
    at_end, at_slope = np.array([1, x[-1]]), np.array([0, -slope])
    return tuple(
        again.Gap(at @ line, sd * np.sqrt(at @ inverse @ at), n_seeds, df)
        for at in (at_end, at_slope)
    )


@row("Scaling", NAME + r" is worth more compute \(Table 2.*\)")
def worth(ours):
    gap = scaled(ARMS[ours])[0]
    return {"here": [np.exp(gap.mean)], "95 %": [*np.exp(gap.ends), gap.n],
            "verdict": again.verdict(gap, 1)}


@row("Scaling", f"the exponent of {NAME} is PreNorm's, to 0.001 .*")
def exponent(ours):
    gap = scaled(ARMS[ours])[1]
    return {"here": [gap.mean], "95 %": [*gap.ends, gap.n],
            "verdict": again.verdict(gap, 0, 0, 0.001)}


# Costs that benchmarks recorded.


def bench(name: str) -> dict:
    path = again.NOTEBOOKS / "recorded" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


@row("Costs", "(Full|Block) keeps no more for the backward, .*")
def kept(who):
    ratio = bench("bench")["rows"][dict(Full="Full", Block="Block S=4")[who]]["saved_ratio"]
    return {"here": [100 * (ratio - 1)], "verdict": HOLDS if ratio < 1.02 else FAILS}


@row("Costs", "Block (decode|prefill|train)s as fast.*")
def slower(what):
    record = bench("bench" if what == "train" else "bench_inference")
    case = "Block S=4" if what == "train" else "Block two-phase"
    ratio = record["rows"][case]["time_ratio" if what == "train" else f"{what}_time_ratio"]
    return {"here": [100 * (ratio - 1)], "95 %": [record["rounds"]],
            "verdict": HOLDS if ratio < 1.02 else FAILS}
