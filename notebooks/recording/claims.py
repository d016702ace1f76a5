"""The rows of the ledger: claims of the paper, each judged by recorded runs.

A claim holds if the whole 95 % interval lies on its side of zero (or one), it does not
hold at this scale if the whole interval lies on the other, and else the seeds cannot tell.
"""

import math
from collections.abc import Iterator
from statistics import mean
from typing import NamedTuple

import torch

from attnres_ref import LM, LMConfig
from attnres_ref.inference import io_counts
from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import mixing, paper, scaling
from attnres_ref.study.compare import (
    final_losses,
    loss_difference,
    paired_difference,
    select,
)
from attnres_ref.study.probes import unevenness

GENTLE = 2e-3                          # a quarter of the rate of the ablations
HOLDS, FAILS, OPEN = "holds", "does not at this scale", "cannot tell"


class Row(NamedTuple):
    """One claim; a cell each."""

    claim: str                     # of the paper, with its section, table or figure
    ours: str
    spread: str
    verdict: str


def judged(claim: str, what: str, values, below: bool = True, limit: float = 0.0) -> Row:
    """A claim that `values`, one per seed, lie below (or above) `limit`."""
    found = paired_difference(values, [limit] * len(values))
    low, high = found.mean - found.half_width, found.mean + found.half_width
    spread = f"+/- {found.half_width:.3f} ({found.n} seeds)"
    number = f"{limit + found.mean:.3f}" if limit else f"{found.mean:+.3f}"
    return Row(claim, f"{what} {number}", spread, verdict(low, high, below))


def verdict(low: float, high: float, below: bool) -> str:
    """Of an interval that the claim puts below (or above) zero."""
    if low <= 0 <= high:
        return OPEN
    return HOLDS if (high < 0) == below else FAILS


def gaps(ours, baseline) -> list[float]:
    return [a - b for a, b in zip(ours, baseline, strict=True)]


def gains() -> Iterator[Row]:
    """Notebooks 02 and 03."""
    for corpus, runs in recorded("residuals").items():
        losses = final_losses(runs)
        for ours, other in (("block", "prenorm"), ("full", "prenorm"), ("full", "block")):
            claim = f"{STYLES[ours][0]} below {STYLES[other][0]} (Table 2), on {corpus}"
            yield judged(claim, "difference of losses", gaps(losses[ours], losses[other]))
    losses = final_losses(recorded("start")["python_sources"])
    for ours in ("block", "full"):
        claim = f"{STYLES[ours][0]} below PreNorm, both from a scaled start (notebook 04)"
        yield judged(claim, "difference of losses", gaps(losses[ours], losses["prenorm"]))


def dynamics() -> Iterator[Row]:
    """Notebook 04: the trained models of the ablation sweep."""
    def trained(residual, key):
        usual = dict(block_size=4, scaled_init=False)
        runs = select(recorded("ablations")["python_sources"], residual=residual, **usual)
        return [run["observed"][-1][1][key] for run in runs]

    def growth(residual):
        profiles = trained(residual, "input_rms")
        return [mean(read[-4:]) / mean(read[2:6]) for read in profiles]

    def unevenness_of(residual):
        return [unevenness(norms)[1] for norms in trained(residual, "gradient_norm")]

    early = [mean(n[:4]) / mean(n[-4:]) for n in trained("prenorm", "gradient_norm")]
    yield judged(
        "PreNorm's hidden state grows with depth (sec. 2, Fig. 5)",
        "late over early reads", growth("prenorm"), below=False, limit=1.0,
    )
    yield judged(
        "Block's stays bounded (Fig. 5)", "growth less PreNorm's",
        gaps(growth("block"), growth("prenorm")),
    )
    yield judged(
        "PreNorm's gradients are largest in early layers (Fig. 5)",
        "first over last four layers", early, below=False, limit=1.0,
    )
    yield judged(
        "Block's gradients are more even (Fig. 5)",
        "coefficient of variation less PreNorm's",
        gaps(unevenness_of("block"), unevenness_of("prenorm")),
    )


def ablations() -> Iterator[Row]:
    """Notebook 05: is each row of Table 4 on the paper's side of its reference?"""
    runs = recorded("ablations")["python_sources"]
    gentle = recorded("gentler")["python_sources"]
    gentle_full = select(recorded("rates")["python_sources"], residual="full", lr=GENTLE)

    def of(residual, block_size=4, among=runs):
        usual = dict(block_size=block_size, scaled_init=False)
        usual |= dict(window=4) if residual == "window" else {}
        return select(among, residual=residual, **usual)

    def row(ours, other, claimed, difference, where=""):
        low = difference.mean - difference.half_width
        high = difference.mean + difference.half_width
        return Row(
            f"{STYLES[ours][0]} - {STYLES[other][0]}: {claimed:+.3f} (Table 4){where}",
            f"{difference.mean:+.3f}",
            f"+/- {difference.half_width:.3f} ({difference.n} seeds)",
            verdict(low, high, claimed < 0),
        )

    for residual in paper.TABLE_4:
        other = "block" if residual == "block_raw_keys" else "full"
        if residual not in ("prenorm", "full"):
            difference = loss_difference(of(residual), of(other))
            yield row(residual, other, paper.delta(residual, other), difference)
    for residual in ("input_query", "window"):
        difference = loss_difference(of(residual, among=gentle), gentle_full)
        claimed = paper.delta(residual, "full")
        yield row(residual, "full", claimed, difference, f", at the rate {GENTLE:g}")
    difference = loss_difference(of("mhc"), of("prenorm"))
    yield row("mhc", "prenorm", paper.delta("mhc", "prenorm"), difference)
    losses = [[run["val_loss"] for run in of("block", size)] for size in (16, 4)]
    yield judged(
        "one block (S = L) is worse than S = 4 (Fig. 6)", "difference", gaps(*losses),
        below=False,
    )


def laws() -> Iterator[Row]:
    """Notebook 06."""
    sweep = scaling.sweep(recorded("scaling")["python_sources"], scaling.compute)
    largest, fit = max(sweep["prenorm"]), scaling.fit
    for residual in ("block", "full"):
        def worth(s):
            return scaling.multiplier(fit(s[residual]), fit(s["prenorm"]), largest)

        def gap(s):
            return fit(s[residual]).exponent - fit(s["prenorm"]).exponent

        low, high = scaling.bootstrap(sweep, worth)
        theirs = f", {paper.MULTIPLIER}x" if residual == "block" else ""
        yield Row(
            f"{STYLES[residual][0]} is worth more compute (Table 2{theirs})",
            f"{worth(sweep):.2f}x at our largest", f"{low:.2f} to {high:.2f} (2 seeds)",
            verdict(low - 1, high - 1, below=False),
        )
        low, high = scaling.bootstrap(sweep, gap)
        yield Row(
            f"the exponent of {STYLES[residual][0]} is PreNorm's, to 0.001 (Table 2)",
            f"difference {gap(sweep):+.4f}", f"{low:+.4f} to {high:+.4f} (2 seeds)",
            HOLDS if -0.001 <= low and high <= 0.001 else
            FAILS if low > 0.001 or high < -0.001 else OPEN,
        )


def shapes() -> Iterator[Row]:
    sweep = scaling.sweep(recorded("shape")["python_sources"], scaling.shape)

    def move(s):
        return math.log(scaling.lowest(s["full"]) / scaling.lowest(s["prenorm"]))

    def largest_gap(s):
        return max(mean(s["full"][x]) - mean(s["prenorm"][x]) for x in s["full"])

    low, high = scaling.bootstrap(sweep, move)
    best = {name: scaling.lowest(losses) for name, losses in sweep.items()}
    yield Row(
        "the best shape is deeper and narrower with AttnRes: d/L_b 45 for 60 (Fig. 7)",
        f"{best['full']:.3g} for {best['prenorm']:.3g}",
        f"ratio {math.exp(low):.2f} to {math.exp(high):.2f} (2 seeds)",
        verdict(low, high, below=True),
    )
    low, high = scaling.bootstrap(sweep, largest_gap)
    yield Row(
        "AttnRes is lower at every shape (Fig. 7)",
        f"smallest gain {-largest_gap(sweep):+.3f} of {len(sweep['full'])} shapes",
        f"{-high:+.3f} to {-low:+.3f} (2 seeds)", verdict(low, high, True),
    )


def matrices() -> Iterator[Row]:
    """Notebook 07."""
    runs = recorded("mixing")["python_sources"]

    def ranks(residual, block_size=4):
        found = select(runs, residual=residual, block_size=block_size)
        return sum((run["rank"] for run in found), [])

    def span(found):
        return " to ".join(map(str, sorted({min(found), max(found)})))

    for names, rank, claim in (
        (("prenorm", "highway"), 1, "PreNorm and Highway are 1-semiseparable"),
        (("mhc",), 4, "mHC with 4 streams is 4-semiseparable"),
    ):
        found = sum((ranks(name) for name in names), [])
        yield Row(
            f"{claim} (sec. 6.2)", f"rank {span(found)}", f"{len(found)} tokens",
            HOLDS if set(found) == {rank} else FAILS,
        )
    L = runs[0]["model"]["n_layers"]
    by_size = {size: ranks("block", size) for size in (2, 4, 8, 16)}
    inside = all(L // S <= r <= L // S + S for S, found in by_size.items() for r in found)
    yield Row(
        "Block's rank is between N and N + S (sec. 6.2)",
        ", ".join(f"{span(r)} for N = {L // S}, S = {S}" for S, r in by_size.items()),
        "at most N + 1, see notebook 07",
        HOLDS if inside else "does not, by our definition",
    )
    yield Row(
        "Full's rank is up to L (sec. 6.2)", f"rank {span(ranks('full'))} for L = {L}",
        "no matrix exceeds (L + 2) // 2", "holds, as an upper bound",
    )

    seeds = [run["reads"] for run in select(runs, residual="full")]
    weights = [mixing.relative(reads[2:]) for reads in seeds]

    def spread(reads):
        return mean(read["spread"] for read in reads)

    yield judged(
        "the newest source dominates (Fig. 8)", "weight over plain mean",
        [mean(row[-1] for row in rows) for rows in weights], below=False, limit=1.0,
    )
    yield judged(
        "the embedding keeps its weight (Fig. 8)", "weight over plain mean, later half",
        [mean(row[0] for row in rows[len(rows) // 2:]) for rows in weights],
        below=False, limit=1.0,
    )
    yield judged(
        "reads before MLPs are sharper than before attention (Fig. 8)",
        "entropy, MLP less attention",
        [spread(reads[3:-1:2]) - spread(reads[2:-1:2]) for reads in seeds],
    )


def costs() -> Iterator[Row]:
    """Notebooks 02 and 08."""
    def moved(residual, group):
        size = dict(vocab_size=8, d_model=4, n_layers=128, n_heads=1, context=4)
        model = LM(LMConfig(residual=residual, block_size=16, **size)).double()
        rows = io_counts.count_two_phase(model, torch.tensor([[1]]), group)
        return sum(r.reads + r.writes for r in rows if r.layer < 128) / (128 * 4)

    for residual, formula, theirs in (("block", "N/S + 5", 5.5), ("full", "S + N", 24)):
        count = moved(residual, 16)
        yield Row(
            f"{STYLES[residual][0]} moves {formula} = {theirs} d per layer (Table 1)",
            f"{count:.3g} d, counted in two phases", "exact",
            HOLDS if abs(count - theirs) <= 1 else FAILS,
        )
    inference, training = recorded("bench_inference"), recorded("bench")
    for what, ratio in (
        ("inference latency below 2 % (sec. 4.2): decoding",
         inference["rows"]["Block two-phase"]["decode_time_ratio"]),
        ("the same: prefill", inference["rows"]["Block two-phase"]["prefill_time_ratio"]),
        ("negligible training overhead without pipelines (sec. 4.1)",
         training["rows"]["Block S=4"]["time_ratio"]),
    ):
        yield Row(
            what, f"{100 * (ratio - 1):.0f} % over PreNorm, eager PyTorch on a CPU",
            "median of 20 rounds or more", HOLDS if ratio < 1.02 else FAILS,
        )


PARTS = (gains, dynamics, ablations, laws, shapes, matrices, costs)
