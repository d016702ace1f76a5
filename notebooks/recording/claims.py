"""What the rows of the ledger measure in recorded runs, and which runs they take. The rows
themselves are in claims_*.py, one file for a subject or two."""

import math
from collections.abc import Iterator
from operator import itemgetter
from statistics import mean

import judging
import plan
from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import paper, scaling
from attnres_ref.study.compare import select
from attnres_ref.study.probes import unevenness
from judging import FAILS, HOLDS, OPEN, verdict

loss = itemgetter("val_loss")


def planned(sweep: str) -> list[dict]:
    """The runs of a sweep of plan.py that are there: none, some or all of them."""
    try:
        return recorded(sweep).get(plan.CORPUS, [])
    except FileNotFoundError:              # not one has been written yet
        return []


def moment(run: dict, trained: bool = True) -> dict:
    """What was observed of the trained model, or of the one before its first step. Raises
    ValueError where the record does not hold that moment, so that no untrained model can
    pass for a trained one."""
    step, seen = run["observed"][-1 if trained else 0]
    if step != (run["train"]["steps"] if trained else 0):
        raise ValueError(
            f"{run['name']} was observed at step {step}: record it at step 0 and at its "
            f"last, {run['train']['steps']}"
        )
    return seen


def growth(run: dict, trained: bool = True) -> float:
    """How much larger what late layers read is than what early ones do."""
    read = moment(run, trained)["input_rms"]
    return mean(read[-4:]) / mean(read[2:6])


def early_over_late(run: dict, trained: bool = True) -> float:
    """Gradient norms of the first four layers over those of the last four."""
    norms = moment(run, trained)["gradient_norm"]
    return mean(norms[:4]) / mean(norms[-4:])


def gradient_spread(run: dict, trained: bool = True) -> float:
    """Coefficient of variation of the layers' gradient norms."""
    return unevenness(moment(run, trained)["gradient_norm"])[1]


def study(residual: str, sweep: str = "ablations", **fields) -> list[dict]:
    """The recorded runs of a residual at the study's usual size."""
    fields = dict(block_size=4, scaled_init=False) | fields
    fields |= dict(window=4) if residual == "window" else {}
    return select(recorded(sweep)[plan.CORPUS], residual=residual, **fields)


def Claim(claim: str, ours: str, spread: str, verdict: str) -> judging.Claim:
    """For `laws` and `shapes`, which have the paper's value in their claim."""
    return judging.Claim(claim, "", ours, spread, verdict)


def laws() -> Iterator[Claim]:
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
        yield Claim(
            f"{STYLES[residual][0]} is worth more compute (Table 2{theirs})",
            f"{worth(sweep):.2f}x at our largest", f"{low:.2f} to {high:.2f} (2 seeds)",
            verdict(low - 1, high - 1, below=False),
        )
        low, high = scaling.bootstrap(sweep, gap)
        yield Claim(
            f"the exponent of {STYLES[residual][0]} is PreNorm's, to 0.001 (Table 2)",
            f"difference {gap(sweep):+.4f}", f"{low:+.4f} to {high:+.4f} (2 seeds)",
            HOLDS if -0.001 <= low and high <= 0.001 else
            FAILS if low > 0.001 or high < -0.001 else OPEN,
        )


def shapes() -> Iterator[Claim]:
    sweep = scaling.sweep(recorded("shape")["python_sources"], scaling.shape)

    def move(s):
        return math.log(scaling.lowest(s["full"]) / scaling.lowest(s["prenorm"]))

    def largest_gap(s):
        return max(mean(s["full"][x]) - mean(s["prenorm"][x]) for x in s["full"])

    low, high = scaling.bootstrap(sweep, move)
    best = {name: scaling.lowest(losses) for name, losses in sweep.items()}
    yield Claim(
        "the best shape is deeper and narrower with AttnRes: d/L_b 45 for 60 (Fig. 7)",
        f"{best['full']:.3g} for {best['prenorm']:.3g}",
        f"ratio {math.exp(low):.2f} to {math.exp(high):.2f} (2 seeds)",
        verdict(low, high, below=True),
    )
    low, high = scaling.bootstrap(sweep, largest_gap)
    yield Claim(
        "AttnRes is lower at every shape (Fig. 7)",
        f"smallest gain {-largest_gap(sweep):+.3f} of {len(sweep['full'])} shapes",
        f"{-high:+.3f} to {-low:+.3f} (2 seeds)", verdict(low, high, True),
    )
