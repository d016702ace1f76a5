"""Does a trained PreNorm model gain from being converted? The plan is in retrofit.py."""

from collections.abc import Iterator

import judging
import plan
from attnres_ref.plots import STYLES
from attnres_ref.study.compare import grouped, loss_difference
from attnres_ref.study.intervals import Difference, holm
from judging import Claim, Gap, not_tested, spread
from retrofit import PRIMARY


def of_arms() -> dict[str, list[dict]]:
    """The recorded runs of each arm, of the seeds that all arms have, in their order."""
    arms = grouped(plan.runs("retrofit"), lambda run: run["arm"])
    seeds = [{run["seed"] for run in runs} for runs in arms.values()]
    shared = set.intersection(*seeds) if seeds else set()
    return {
        arm: [run for run in runs if run["seed"] in shared] for arm, runs in arms.items()
    }


def retrofits() -> Iterator[Claim]:
    runs = of_arms()
    names = {ours: STYLES[ours][0] for ours, _ in PRIMARY}
    if not runs or len(runs["prenorm"]) < 2:
        for name in names.values():
            yield not_tested(f"A trained PreNorm model goes on better as {name}")
        return
    gaps = {pair: loss_difference(*(runs[arm] for arm in pair)) for pair in PRIMARY}
    adjusted = holm([gap.p for gap in gaps.values()])
    for ((ours, _), gap), p in zip(gaps.items(), adjusted):
        yield Claim(
            f"A trained PreNorm model goes on better as {names[ours]}", "",
            f"{gap.mean:+.4f}, adjusted p {f'{p:.3f}' if p >= 0.001 else '< 0.001'}",
            spread(gap), verdict(gap, p),
        )
    for ours, name in names.items():
        start = f"{ours}_from_start"
        yield Gap(
            f"A converted model ends where {name} from the start does", ours,
            loss_difference(runs[ours], runs[start]), below=None,
        ).row()


def verdict(gap: Difference, p: float) -> str:
    """Of the adjusted p, as for every primary test."""
    if p < plan.ALPHA:
        return judging.HOLDS if gap.mean < 0 else judging.FAILS
    return judging.SAME if gap.within(plan.MARGIN) else judging.OPEN
