"""Rows about what training does inside the network (notebook 04), each with the untrained
model as its control: what the model shows before its first step, training has not done."""

from collections.abc import Callable, Iterator

from attnres_ref.study.intervals import paired_difference
from claims import early_over_late, gradient_spread, growth
from claims_primary import of_whodunnit
from judging import FAILS, HOLDS, NONE, OPEN, Claim, ends, gaps, not_tested, spread, verdict

PASSES = f"{NONE}: an untrained model passes"


def dynamics() -> Iterator[Claim]:
    """Of the models of plan.WHODUNNIT, each arm at its own recipe."""
    runs = of_whodunnit()
    for claim, number, ours, baseline, below, limit in (
        ("PreNorm's reads grow with depth, late over early (Fig. 5)",
         growth, "prenorm", None, False, 1.0),
        ("Block's stay bounded: its growth less PreNorm's (Fig. 5)",
         growth, "block", "prenorm", True, 0.0),
        ("Full's stay bounded: its growth less PreNorm's",
         growth, "full", "prenorm", True, 0.0),
        ("PreNorm's gradients are largest in early layers, early over late (Fig. 5)",
         early_over_late, "prenorm", None, False, 1.0),
        ("Block's are less so: early over late, less PreNorm's (Fig. 5)",
         early_over_late, "block", "prenorm", True, 0.0),
        ("Block's gradients are more even: variation less PreNorm's (Fig. 5)",
         gradient_spread, "block", "prenorm", True, 0.0),
        ("Full's gradients are more even: variation less PreNorm's",
         gradient_spread, "full", "prenorm", True, 0.0),
    ):
        if len(runs[ours]) < 2:
            yield not_tested(claim)
        else:
            other = runs[baseline] if baseline else ()
            yield controlled(claim, number, runs[ours], other, below, limit)
    yield not_tested("Block's output magnitude repeats with every block (Fig. 5)")


def controlled(
    claim: str, number: Callable, ours, baseline, below: bool, limit: float = 0.0
) -> Claim:
    """A claim that `number` of a trained model, or its difference to the baseline's of the
    same seed, lies below (or above) `limit`, by training: number(run, trained)."""
    after, before = (values(number, ours, baseline, moment) for moment in (True, False))
    changed = paired_difference(after, before)
    (untrained, control), (trained, plain) = (
        seen(numbers, below, limit) for numbers in (before, after)
    )
    found = verdict_by_training(plain, control, verdict(*ends(changed), below))
    return Claim(claim, "", f"{trained:.2f}, untrained {untrained:.2f}",
                 f"change {changed.mean:+.2f} {spread(changed)}", found)


def values(number, ours, baseline, trained: bool) -> list[float]:
    numbers, others = ([number(run, trained) for run in runs] for runs in (ours, baseline))
    return gaps(numbers, others) if others else numbers


def seen(numbers, below, limit) -> tuple[float, str]:
    """The mean, and the verdict that it alone would give."""
    gap = paired_difference(numbers, [limit] * len(numbers))
    return limit + gap.mean, verdict(*ends(gap), below)


def verdict_by_training(plain: str, control: str, change: str) -> str:
    """From three verdicts on one claim: of the trained models, the untrained ones, and of
    the change that training made. It holds only if the trained models pass and training
    took them further to that side."""
    if plain == FAILS:
        return FAILS
    if plain == change == HOLDS:
        return HOLDS
    return PASSES if control == HOLDS else OPEN
