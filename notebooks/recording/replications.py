"""What others measured, as they published it. Differences are in nats, AttnRes less PreNorm
unless said; sizes in parameters. Ours, below theirs, is computed from the records."""

from collections.abc import Iterator
from typing import NamedTuple

import plan
from attnres_ref.plots import STYLES
from attnres_ref.study.compare import loss_difference
from claims_primary import of_horizon, of_whodunnit
from sweeps import MAIN


class Replication(NamedTuple):
    """A row; a cell each."""

    who: str
    size: str
    tokens: str                        # "" where it is not said
    seeds: str
    finding: str


def on_github(name: str) -> str:
    return f"[{name}](https://github.com/{name})"


ONE = "1"
UNSAID = "not said"
PUBLISHED = (
    Replication(
        f"BabyLM, {on_github('YpLarryWang/attnres4babylm2026')}", "62M to 116M",
        "0.12 B and more", "3, paired",
        "Block -0.026 +/- 0.019 and -0.027 +/- 0.012, on the 100M track -0.022 +/- 0.004; "
        "static mixing 0.000 +/- 0.036; the gap is widest midway (-0.17)",
    ),
    Replication(
        "[marin #9290](https://github.com/marin-community/marin/issues/9290)",
        "MoE of d = 512 and 768", "1.2 B, 3.6 B", ONE,
        "AttnRes -0.009 and -0.022; mHC -0.007 and -0.005",
    ),
    Replication(
        on_github("tokenbender/nanogpt-attnres-repro"), "20.7M", "1.05 B", ONE,
        "Full -0.084, Block -0.139, mHC -0.161",
    ),
    Replication(
        on_github("ilml/Attention-Residuals"), "124M to 401M", "100 to 400 steps", ONE,
        "Block -0.45 to -0.62, but +0.25 in its longest run",
    ),
    Replication(
        on_github("wdlctc/delta-attention-residuals-code"), "220M, 533M, 1 B",
        "10,000 steps", UNSAID,
        "-0.035, -0.008, +0.067; its sources may be cumulative states",
    ),
    Replication(
        on_github("wdlctc/open-attention-residuals"), "0.6 B", UNSAID, UNSAID,
        "training loss +0.047, though WikiText is better",
    ),
    Replication(
        on_github("gouzigouzi/attention-residuals-reproduction"), "100M, 0.6 B", UNSAID,
        ONE, "Block -0.20 and -0.075",
    ),
    Replication(
        "[karpathy/nanochat #646](https://github.com/karpathy/nanochat/issues/646)",
        "d12 to d14", "500 steps", UNSAID, "no gain, out of memory (a gated variant)",
    ),
    Replication(
        on_github("kimmichtank/rms-block-attnres"), "57M to 4 B", UNSAID, ONE,
        "Block - Full +0.033, +0.001, +0.016, +0.024",
    ),
    Replication(
        "a character GPT of 4 blocks", UNSAID, UNSAID, "2",
        "-0.011 at the rate 3e-3; +0.206 at 2e-2, with queries at 0.01 of it +0.036",
    ),
)
HEAD = ("who", "size", "tokens", "seeds", "finding")


def replications() -> Iterator[Replication]:
    yield from PUBLISHED
    yield from ours()


def ours() -> Iterator[Replication]:
    """The runs of plan.py at every size and length where two seeds or more are there."""
    horizon = plan.runs("horizon")
    sets = [(of_whodunnit(), "question 1: each arm tuned alike")] + [
        (of_horizon(horizon, steps), f"question 2, {steps} steps: the rate tuned anew")
        for steps in plan.HORIZONS
    ]
    for runs, what in sets:
        if len(runs["prenorm"]) < 2:
            continue
        run, train = runs["prenorm"][0], runs["prenorm"][0]["train"]
        seen = train["steps"] * train["batch_size"] * run["model"]["context"]
        gaps = {arm: loss_difference(runs[arm], runs["prenorm"]) for arm in MAIN[1:]}
        found = ", ".join(
            f"{STYLES[arm][0].split()[0]} {gap.mean:+.3f} +/- {gap.half_width:.3f}"
            for arm, gap in gaps.items()
        )
        yield Replication(
            f"this course, {what}", f"{run['parameters'] / 1e6:.2g}M",
            f"{seen / 1e6:.2g}M bytes", f"{len(runs['prenorm'])}, paired", found,
        )
