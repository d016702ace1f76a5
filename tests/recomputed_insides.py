"""Rows of the ledger about what is inside of models. See test_ledger_recomputed.py."""

import numpy as np

import recomputed as again
from recomputed import FAILS, HOLDS, OPEN, SIX, UNDUE
from recomputed_rows import ARMS, NAME, nothing, registering

ROWS = []
row = registering(ROWS)

# What training does inside of the network, beside the untrained model.


def moment(run: dict, last: bool) -> dict:
    step, seen = run["observed"][-1 if last else 0]
    assert step == (run["train"]["steps"] if last else 0), f"{run['name']} at {step}"
    return seen


def growth(seen):
    return np.mean(seen["input_rms"][-4:]) / np.mean(seen["input_rms"][2:6])


def early_over_late(seen):
    return np.mean(seen["gradient_norm"][:4]) / np.mean(seen["gradient_norm"][-4:])


def variation(seen):
    return np.std(seen["gradient_norm"], ddof=1) / np.mean(seen["gradient_norm"])


def controlled(number, ours, baseline, side, limit) -> dict:
    arms = again.whole("whodunnit", SIX)
    if len(arms["prenorm"]) < 2:
        return nothing()

    def values(last):
        def of_model(run):
            return number(moment(run, last))

        if baseline:
            return again.paired(of_model, arms[ours], arms[baseline])
        return np.array([of_model(run) for run in arms[ours].values()])

    trained, control = (again.student(values(last)) for last in (True, False))
    change = again.student(values(True) - values(False))
    verdict = by_training(
        *(again.verdict(gap, side, limit) for gap in (trained, control)),
        again.verdict(change, side),
    )
    return {"here": [trained.mean, control.mean],
            "95 %": [change.mean, change.half, change.n], "verdict": verdict}


def by_training(trained: str, untrained: str, change: str) -> str:
    """Of three verdicts on one claim."""
    if trained == FAILS or trained == change == HOLDS:
        return trained
    return UNDUE if untrained == HOLDS else OPEN


@row("Dynamics", "(PreNorm)'s reads grow with depth, late over early .*")
def grows(ours):
    return controlled(growth, ARMS[ours], None, 1, 1)


@row("Dynamics", f"{NAME}'s stay bounded: its growth less PreNorm's.*")
def bounded(ours):
    return controlled(growth, ARMS[ours], "prenorm", -1, 0)


@row("Dynamics", "(PreNorm)'s gradients are largest in early layers, early over late .*")
def early(ours):
    return controlled(early_over_late, ARMS[ours], None, 1, 1)


@row("Dynamics", f"{NAME}'s are less so: early over late, less PreNorm's.*")
def less_early(ours):
    return controlled(early_over_late, ARMS[ours], "prenorm", -1, 0)


@row("Dynamics", f"{NAME}'s gradients are more even: variation less PreNorm's.*")
def even(ours):
    return controlled(variation, ARMS[ours], "prenorm", -1, 0)


# Depth mixing and where the weights go.


def mixed(residual: str, **fields) -> list[dict]:
    return list(again.runs("mixing", residual, **(dict(block_size=4) | fields)).values())


def ranks(*runs: dict) -> list[int]:
    return sum((run["rank"] for run in runs), [])


def semiseparable(found: list[int], rank: int) -> dict:
    return {"the paper": [rank], "here": sorted({*found}), "95 %": [len(found)],
            "verdict": HOLDS if {*found} == {rank} else FAILS}


@row("Depth mixing", "PreNorm and Highway are 1-semiseparable .*")
def one():
    return semiseparable(ranks(*mixed("prenorm"), *mixed("highway")), 1)


@row("Depth mixing", "mHC with 4 streams is 4-semiseparable .*")
def streams():
    return semiseparable(ranks(*mixed("mhc")), 4)


@row("Depth mixing", r"Block's rank is between N and N \+ S .*")
def block_ranks():
    said, inside = [], True
    for size in (2, 4, 8, 16):
        n, found = 16 // size, ranks(*mixed("block", block_size=size))
        said += [*sorted({min(found), max(found)}), n, size]
        inside &= all(n <= rank <= n + size for rank in found)
    return {"here": said, "verdict": HOLDS if inside else UNDUE}


@row("Depth mixing", "Full's rank is up to L .*")
def full_ranks():
    found = {*ranks(*mixed("full"))}
    return {"here": [*sorted(found), 16], "verdict": HOLDS if max(found) <= 16 else FAILS}


SAYS = {"Full:": "full", "Block keeps it:": "block"}
WHO = "(Full:|Block keeps it:)"


def weights(who: str) -> list[list[np.ndarray]]:
    """By seed, each read of two sources or more, in units of its plain mean; the first
    such read is left out, which has the embedding and one output."""
    return [
        [np.array(read["weights"]) * len(read["weights"]) for read in run["reads"][2:]]
        for run in mixed(SAYS[who])
    ]


def by_seed(values, side, limit, *before) -> dict:
    gap = again.student(values)
    return {"here": [*before, gap.mean], "95 %": [gap.half, gap.n],
            "verdict": again.verdict(gap, side, limit)}


@row("Depth mixing", WHO + " reads attend most to the newest source .*")
def newest(who):
    most = [[int(read.argmax() == len(read) - 1) for read in seed] for seed in weights(who)]
    counts = map(sum, most)
    return by_seed([*map(np.mean, most)], 1, 0.5, *counts, len(most[0]))


@row("Depth mixing", WHO + " the embedding keeps its weight .*")
def embedding(who):
    later = [[read[0] for read in seed[len(seed) // 2 :]] for seed in weights(who)]
    return by_seed([*map(np.mean, later)], 1, 1.0)


@row("Depth mixing", WHO + " reads before MLPs are sharper than before attention .*")
def sharper(who):
    """Layers are attention, MLP, attention, ...; the read of layer 0 has one source, that
    of layer 1 and the final one are not compared."""
    def spread(run, first):
        layers = range(first, len(run["reads"]) - 1, 2)
        return np.mean([run["reads"][layer]["spread"] for layer in layers])

    return by_seed([spread(run, 3) - spread(run, 2) for run in mixed(SAYS[who])], -1, 0)


@row("Depth mixing", WHO + " some reads jump far back .*")
def jumps(who):
    counts = [
        sum(bool((read[1:-4] >= 1.5).any()) for read in seed) for seed in weights(who)
    ]
    return {"here": [*counts, len(weights(who)[0]), 1.5, 4], "95 %": [len(counts)],
            "verdict": HOLDS if min(counts) > 0 else FAILS}
