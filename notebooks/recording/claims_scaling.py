"""The rows of the ledger that notebook 06 speaks of: what a gain is worth, and the shapes.
Judged as in judging.py."""

import math
from collections.abc import Iterator

from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import paper, scaling
from attnres_ref.study.intervals import paired_difference, pooled
from judging import FAILS, HOLDS, OPEN, UNTESTED, Claim, ends, verdict

ALIKE = 0.001                          # exponents: what the paper's three digits can tell
GRID = (15, 75)                        # Fig. 7's d / L_b


def laws() -> Iterator[Claim]:
    """At equal compute, counted with head, attention and reads over depth."""
    runs = scaling.sweep(recorded("scaling")["python_sources"], scaling.compute)
    inside = {True: ", the paper's value inside", False: ", the paper's value outside"}
    for residual in ("block", "full"):
        name = STYLES[residual][0]
        gain, exponents = scaling.advantage(runs[residual], runs["prenorm"])
        low, high = ends(gain)
        theirs = residual == "block"           # for Full the paper gives no multiplier
        yield Claim(
            claim=f"{name} is worth more compute (Table 2)",
            paper=f"{paper.MULTIPLIER}x" if theirs else "",
            ours=f"{math.exp(gain.mean):.2f}x at our largest size",
            spread=f"{math.exp(low):.2f} to {math.exp(high):.2f} ({gain.n} seeds)"
            + (inside[gain.contains(math.log(paper.MULTIPLIER))] if theirs else ""),
            verdict=verdict(low, high, below=False),
        )
        yield Claim(
            claim=f"the exponent of {name} is PreNorm's, to {ALIKE} (Table 2)",
            paper=f"{paper.FITS[residual][1]} and {paper.FITS['prenorm'][1]}",
            ours=f"difference {exponents.mean:+.4f}",
            spread=f"+/- {exponents.half_width:.4f} ({exponents.n} seeds)",
            verdict=HOLDS if exponents.within(ALIKE) else
            FAILS if abs(exponents.mean) - exponents.half_width > ALIKE else OPEN,
        )


def shapes() -> Iterator[Claim]:
    """After equally many steps: of Fig. 7's equal compute the records can say nothing."""
    records = recorded("shape")["python_sources"]
    runs = scaling.sweep(records, scaling.shape)
    flops = [*map(scaling.flops, records)]
    depths = sorted({run["model"]["n_layers"] for run in records})
    best = {name: scaling.lowest(losses) for name, losses in runs.items()}
    yield Claim(
        claim="the best shape is deeper and narrower with AttnRes (Fig. 7)",
        paper=f"d/L_b {paper.FIG_7['full'][0]} for {paper.FIG_7['prenorm'][0]}",
        ours=f"lowest means at {best['full']:.3g} for {best['prenorm']:.3g}",
        spread=f"shapes differ in FLOPs by {100 * (max(flops) / min(flops) - 1):.0f} %, "
        f"one rate for L = {depths[0]} to {depths[-1]}",
        verdict=UNTESTED,
    )
    pairs = zip(runs["full"].values(), runs["prenorm"].values(), strict=True)
    gaps = dict(zip(runs["full"], pooled([paired_difference(*pair) for pair in pairs])))
    least = max(gaps.values(), key=lambda gap: gap.mean)
    yield Claim(
        claim="AttnRes is lower at every shape (Fig. 7)",
        paper="25 of 25",
        ours=f"{sum(gap.mean < 0 for gap in gaps.values())} of {len(gaps)} means, the "
        f"smallest gap {least.mean:+.3f}, after equally many steps",
        spread=f"+/- {least.half_width:.3f} ({least.n} seeds)",
        verdict=verdict(*ends(least), below=True),
    )
    small, large = paper.FIG_7_GAINS
    on_grid = [gap for x, gap in gaps.items() if GRID[0] <= x <= GRID[1]]
    beyond = [max(-gap.mean - large, small + gap.mean) for gap in on_grid]
    half = least.half_width
    yield Claim(
        claim=f"by {small} to {large} (Fig. 7, d/L_b {GRID[0]} to {GRID[1]})",
        paper=f"{small} to {large}",
        ours=" and ".join(f"{-gap.mean:.3f}" for gap in on_grid) + " at our shapes there",
        spread=f"+/- {half:.3f} each ({least.n} seeds)",
        verdict=HOLDS if max(beyond) < -half else FAILS if max(beyond) > half else OPEN,
    )
    heads = [2 * run["model"]["n_heads"] / run["model"]["n_layers"] for run in records]
    yield Claim(
        claim="at every number of heads, H/L_b 0.3 to 0.7 (Fig. 7)",
        paper="25 of 25",
        ours=f"two heads at every shape, so that H/L_b falls from {max(heads):.2g} to "
        f"{min(heads):.2g} along with d/L_b",
        spread="",
        verdict=UNTESTED,
    )


PARTS = (laws, shapes)
