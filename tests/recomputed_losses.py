"""Rows of the ledger about losses: primary tests, side remarks, tables, recipe. See
test_ledger_recomputed.py."""

import numpy as np

import recomputed as again
from recomputed import FAILS, HOLDS, MARGIN, OPEN, SAME, SIX, UNTESTED, loss
from recomputed_rows import (
    ARMS,
    NAME,
    PAIR,
    nothing,
    of_losses,
    registering,
    table_2,
    table_4,
    the_papers,
)

ROWS = []
row = registering(ROWS)
CORPORA = {"TinyShakespeare": "tinyshakespeare", "Python sources": "python_sources"}

# Primary tests and what else the same runs show.

WHODUNNIT = ("block", "prenorm"), ("full", "prenorm"), ("full", "rezero"), \
    ("full", "loud"), ("full", "static")
LASTING = ("block", "prenorm"), ("full", "prenorm")
LONGEST, HORIZON_SEEDS = 2400, 5


def tests_of(arms: dict, pairs) -> dict:
    """(ours, baseline) -> gap and adjusted p; empty while there is no pair of runs."""
    if len(arms["prenorm"]) < 2:
        return {}
    gaps = [again.student(again.paired(loss, arms[a], arms[b])) for a, b in pairs]
    return dict(zip(pairs, zip(gaps, again.holm([gap.p for gap in gaps]))))


def primary(found: dict, pair, paper) -> dict:
    if pair not in found:
        return {"difference": [], "adjusted p": "", "verdict": UNTESTED}
    gap, p = found[pair]
    called = HOLDS if gap.mean < 0 else FAILS
    small = max(map(abs, gap.ends)) < MARGIN
    return {
        "seeds": [gap.n], "difference": [gap.mean], "95 % interval": [*gap.ends],
        "SD of a pair": [gap.sd], "adjusted p": "< 0.001" if p < 0.001 else [p],
        "seen with 80 % power": [again.seen(gap)],
        "the paper": the_papers(paper, gap) or "none given",
        "verdict": called if p < again.ALPHA else SAME if small else OPEN,
    }


@row("Primary", PAIR + ": does .*")
def whodunnit(ours, baseline):
    pair = ARMS[ours], ARMS[baseline]
    return primary(tests_of(again.whole("whodunnit", SIX), WHODUNNIT), pair, table_4(*pair))


@row("Primary", PAIR + ": is .*")
def lasting(ours, baseline):
    pair = ARMS[ours], ARMS[baseline]
    arms = again.whole("horizon", SIX[:3], steps=LONGEST)
    if len(arms["prenorm"]) < HORIZON_SEEDS:           # judged once, when all are there
        arms = {arm: {} for arm in arms}
    return primary(tests_of(arms, LASTING), pair, table_2(*pair))


SIDES = {"below": -1, "equal to": 0, "above": 1}


@row("Side remarks", f"{NAME} is (below|equal to|above) {NAME}")
def side_remark(ours, side, baseline):
    ours, baseline = ARMS[ours], ARMS[baseline]
    arms = again.whole("whodunnit", SIX)
    gap = again.student(again.paired(loss, arms[ours], arms[baseline]))
    return of_losses(gap, SIDES[side], table_4(ours, baseline))


@row("Side remarks", f"{NAME} is (below|equal to|above) {NAME}, (\\d+) steps")
def at_horizon(ours, side, baseline, steps):
    ours, baseline = ARMS[ours], ARMS[baseline]
    arms = again.whole("horizon", SIX[:3], steps=int(steps))
    gap = again.student(again.paired(loss, arms[ours], arms[baseline]))
    return of_losses(gap, SIDES[side], table_2(ours, baseline))


@row("Side remarks", f"{NAME} is (below|above) PreNorm, (\\d+) steps from recipes for 400")
def longer(ours, side, steps):
    arms = again.whole("longer", ("prenorm", "block", "full", "loud"), steps=int(steps))
    gap = again.student(again.paired(loss, arms[ARMS[ours]], arms["prenorm"]))
    return of_losses(gap, SIDES[side], None)


@row("Side remarks", NAME + "'s gain grows with more steps")
def grows(ours):
    lengths = sorted({run["train"]["steps"] for run in again.records("horizon")})
    horizons = {
        steps: arms for steps in lengths
        if len((arms := again.whole("horizon", SIX[:3], steps=steps))["prenorm"]) > 1
    }
    if len(horizons) < 2:
        return nothing()
    (early, first), *_, (late, last) = horizons.items()
    both = first["prenorm"].keys() & last["prenorm"].keys()

    def gain(arms):
        arms = [{seed: arms[arm][seed] for seed in both} for arm in (ARMS[ours], "prenorm")]
        return again.paired(loss, *arms)

    return of_losses(again.student(gain(last) - gain(first)), -1, None, late, early)


@row("Side remarks", NAME + " loses when its weights are frozen at their means")
def frozen(ours):
    runs = again.runs("frozen", ARMS[ours]).values()
    lost = again.student([run["frozen_loss"] - run["loss"] for run in runs])
    return of_losses(lost, 1)


# Tables 2 and 4, Fig. 6 and the recipe: three seeds, one SD for all arms of a study.


@row("Tables", PAIR + r" \(Table 2\), (.*)")
def main_size(ours, baseline, corpus):
    corpus, ours, baseline = CORPORA[corpus], ARMS[ours], ARMS[baseline]
    arms = again.study("residuals", "query_rate", corpus=corpus)
    return of_losses(
        arms.gap(arms.arm(ours), arms.arm(baseline)), -1, table_2(ours, baseline)
    )


def at_one_recipe(ours, baseline, side, paper=None, **fields) -> dict:
    """`fields` are those of ours; both have its rate."""
    arms, rate = again.study(), {key: fields[key] for key in fields if key == "lr"}
    gap = arms.gap(arms.arm(ours, **fields), arms.arm(baseline, **rate))
    return of_losses(gap, side, paper)


@row("Tables", PAIR + r"( \(Table 4\)|, at the rate 0.002)")
def in_table_4(ours, baseline, where):
    ours, baseline = ARMS[ours], ARMS[baseline]
    claimed = table_4(ours, baseline)
    rate = {} if "Table" in where else dict(lr=0.002)
    return at_one_recipe(ours, baseline, int(np.sign(claimed)), claimed, **rate)


@row("Tables", r"window of (\d).* - Full AttnRes(, at the rate 0.002)?")
def window(size, slow):
    rate = dict(lr=0.002) if slow else {}
    paper = table_4("window", "full")
    return at_one_recipe("window", "full", 1, paper, window=int(size), **rate)


@row("Tables", "DenseFormer - PreNorm: no better .*")
def denseformer():
    paper = table_4("denseformer", "prenorm")
    return at_one_recipe("denseformer", "prenorm", 0, paper)


@row("Tables", PAIR + ": Full is better")
def worse_than_full(ours, baseline):
    return at_one_recipe(ARMS[ours], ARMS[baseline], 1)


@row("Tables", r"Block: S = (\d+) and S = 4 are equal .*")
def equal_blocks(size):
    return at_one_recipe("block", "block", 0, 0.0, block_size=int(size))


@row("Tables", r"Block: S = (16) is worse than S = 4 .*")
def large_blocks(size):
    return at_one_recipe("block", "block", 1, block_size=int(size))


@row("Tables", r"Block S = (16) - PreNorm: equal .*")
def large_blocks_and_prenorm(size):
    return at_one_recipe("block", "prenorm", 0, block_size=int(size))


@row("Tables", r"Block of N = 8 \(S = (2)\) - Full: most of the gain .*")
def eight_blocks(size):
    return at_one_recipe("block", "full", 0, table_4("block", "full"), block_size=int(size))


def best(residual: str) -> tuple:
    """The rate of lowest mean loss, all else as usual."""
    arms = again.study()
    rates = {run["train"]["lr"] for run in again.records("rates")}
    return min((arms.arm(residual, lr=lr) for lr in rates),
               key=lambda arm: arms.losses[arm].mean())


@row("The recipe", PAIR + ", (each at its best rate|both from a scaled|both warmed up).*")
def better_recipe(ours, baseline, how):
    arms, pair = again.study(), (ARMS[ours], ARMS[baseline])
    changed = dict(scaled_init=True) if "scaled" in how else dict(warmup_steps=120)
    at = [best(x) if "best" in how else arms.arm(x, **changed) for x in pair]
    return of_losses(arms.gap(*at), -1, table_4(*pair))


@row("The recipe", "Full at its best plain rate - PreNorm from a scaled start")
def best_against_scaled():
    arms = again.study()
    gap = arms.gap(best("full"), arms.arm("prenorm", scaled_init=True))
    return of_losses(gap, -1, table_4("full", "prenorm"))


@row("The recipe", NAME + ": (slow queries .* are better|the same at twice the rate)")
def slow_queries(ours, what):
    arms, lr = again.study(), 16e-3 if "twice" in what else 8e-3
    at = [arms.arm(ARMS[ours], lr=lr, query_lr_scale=scale) for scale in (0.25, 1.0)]
    return of_losses(arms.gap(*at))


@row("The recipe", NAME + ": the same at d=128, (TinyShakespeare)")
def slow_queries_at_main_size(ours, corpus):
    arms = again.study("residuals", "query_rate", corpus=CORPORA[corpus])
    at = [arms.arm(ARMS[ours], query_lr_scale=scale) for scale in (0.25, 1.0)]
    return of_losses(arms.gap(*at))


@row("The recipe", NAME + ": no weight decay on the queries is better")
def no_decay(ours):
    arms = again.study()
    decayed = arms.arm(ARMS[ours], query_weight_decay=0.1)
    return of_losses(arms.gap(arms.arm(ARMS[ours]), decayed))


# A trained model, converted.


def converted(ours: str, baseline: str):
    """Their gap, on the seeds that all five arms have."""
    arms = {}
    for run in again.records("retrofit"):
        arms.setdefault(run["arm"], {})[run["seed"]] = loss(run)
    seeds = sorted(set.intersection(*map(set, arms.values())))
    return again.student([arms[ours][seed] - arms[baseline][seed] for seed in seeds])


@row("A trained model", "A trained PreNorm model goes on better as " + NAME)
def retrofit(name):
    gaps = {ours: converted(ours, "prenorm") for ours in ("block", "full")}
    gap = gaps[ARMS[name]]
    p = dict(zip(gaps, again.holm([gap.p for gap in gaps.values()])))[ARMS[name]]
    small = max(map(abs, gap.ends)) < MARGIN
    called = HOLDS if gap.mean < 0 else FAILS
    return {
        "here": [gap.mean, "< 0.001", 0.001] if p < 0.001 else [gap.mean, p],
        "95 %": [gap.half, gap.n],
        "verdict": called if p < again.ALPHA else SAME if small else OPEN,
    }


@row("A trained model", "A converted model ends where " + NAME + " from the start does")
def retrofit_against_the_start(name):
    ours = ARMS[name]
    return of_losses(converted(ours, f"{ours}_from_start"), 0)
