"""Rows of the ledger about scaling and costs. See test_ledger_recomputed.py."""

import json

import numpy as np

import recomputed as again
from recomputed import FAILS, HOLDS, OPEN, UNTESTED, loss
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


@row("Scaling", NAME + r" is worth more compute \(Table 2\)")
def worth(ours):
    gap = scaled(ARMS[ours])[0]
    low, high = np.exp(gap.ends)
    theirs = "the paper's value " + ("inside" if low <= 1.25 <= high else "outside")
    return {"here": [np.exp(gap.mean)], "verdict": again.verdict(gap, 1),
            "95 %": [low, high, gap.n, *([theirs] if ours == "Block AttnRes" else [])]}


@row("Scaling", f"the exponent of {NAME} is PreNorm's, to 0.001 .*")
def exponent(ours):
    gap = scaled(ARMS[ours])[1]
    return {"here": [gap.mean], "95 %": [gap.half, gap.n],
            "verdict": again.verdict(gap, 0, 0, 0.001)}


def shape(run: dict) -> float:
    """Width over pairs of layers."""
    return 2 * run["model"]["d_model"] / run["model"]["n_layers"]


def of_shapes() -> dict[float, again.Gap]:
    """Full - PreNorm by shape, one SD for all."""
    own = {}
    for width in {run["model"]["d_model"] for run in again.records("shape")}:
        both = [again.runs("shape", arm, d_model=width) for arm in ("full", "prenorm")]
        own[shape(both[0][0])] = again.student(again.paired(loss, *both))
    sd = np.sqrt(np.mean([gap.sd**2 for gap in own.values()]))
    df = sum(gap.df for gap in own.values())
    return {x: gap._replace(sd=sd, df=df) for x, gap in sorted(own.items())}


@row("Scaling", "the best shape is deeper and narrower with AttnRes .*")
def best_shape():
    def lowest(residual):
        runs = [r for r in again.records("shape") if r["model"]["residual"] == residual]
        return min(map(shape, runs), key=lambda x: sum(loss(r) for r in runs
                                                       if shape(r) == x))

    costs = [*map(flops, again.records("shape"))]
    depths = {run["model"]["n_layers"] for run in again.records("shape")}
    more = 100 * (max(costs) / min(costs) - 1)
    return {"here": [lowest("full"), lowest("prenorm")],
            "95 %": [more, min(depths), max(depths)], "verdict": UNTESTED}


@row("Scaling", "AttnRes is lower at every shape .*")
def every_shape():
    gaps = [*of_shapes().values()]
    least = max(gaps, key=lambda gap: gap.mean)
    below = sum(bool(gap.mean < 0) for gap in gaps)
    return {"here": [below, len(gaps), least.mean], "95 %": [least.half, least.n],
            "verdict": again.verdict(least, -1)}


@row("Scaling", r"by 0.019 to 0.063 \(Fig. 7, d/L_b 15 to 75\)")
def on_their_grid():
    """Each gain's interval inside of theirs, or one outside of it."""
    gaps = [gap for x, gap in of_shapes().items() if 15 <= x <= 75]
    ends = [sorted(-end for end in gap.ends) for gap in gaps]
    inside = all(0.019 < low and high < 0.063 for low, high in ends)
    outside = any(high < 0.019 or low > 0.063 for low, high in ends)
    return {"here": [-gap.mean for gap in gaps], "95 %": [gaps[0].half, gaps[0].n],
            "verdict": HOLDS if inside else FAILS if outside else OPEN}


@row("Scaling", "at every number of heads, H/L_b 0.3 to 0.7 .*")
def heads():
    models = [run["model"] for run in again.records("shape")]
    ratios = [2 * model["n_heads"] / model["n_layers"] for model in models]
    return {"here": [max(ratios), min(ratios)], "95 %": [], "verdict": UNTESTED}


# Costs that benchmarks recorded.


def bench(name: str) -> dict:
    path = again.NOTEBOOKS / "recorded" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


@row("Costs", "(Full|Block) keeps no more for the backward, .*")
def kept(who):
    ratio = bench("bench")["rows"][dict(Full="Full", Block="Block S=4")[who]]["saved_ratio"]
    return {"here": [100 * (ratio - 1)], "verdict": HOLDS if ratio < 1.02 else FAILS}


@row("Costs", "Block (decode|prefill|train)s as fast, on a GPU.*")
def slower_on_a_gpu(what):
    stages = bench("bench_gpu")["stages"]
    kind = dict(train="graph").get(what)
    stage = stages["model" if what == "train" else "decode"]["rows"]
    rows = {row["case"]: row for row in stage
            if row.get("kind") == kind and "ratio_to_prenorm" in row}
    ratio = rows["Block, fused"]["ratio_to_prenorm"]
    if what == "prefill":
        ours, theirs = (rows[case]["prefill_ms"][1] for case in ("Block, fused", "PreNorm"))
        ratio = ours / theirs
    return {"here": [100 * (ratio - 1)], "verdict": HOLDS if ratio < 1.02 else FAILS}


@row("Costs", "Block (decode|prefill|train)s as fast(?!, on a GPU)(, compiled)?.*")
def slower(what, compiled):
    record = bench("bench" if what == "train" else "bench_inference")
    case = "Block S=4" if what == "train" else f"Block two-phase{compiled or ''}"
    ratio = record["rows"][case]["time_ratio" if what == "train" else f"{what}_time_ratio"]
    return {"here": [100 * (ratio - 1)], "95 %": [record["rounds"]],
            "verdict": OPEN if 1 < ratio < 1.04 else FAILS if ratio > 1.02 else HOLDS}
