"""What the report says of trainings and of notebooks."""

import math
from collections.abc import Iterator

from attnres_kernels.bench.stages.agreement import BASE
from attnres_ref.study.intervals import paired_difference

BASELINE = "prenorm"


def training(record: dict) -> Iterator[str]:
    """Validation losses of each seed after as many steps as all residuals made of it, and
    the differences of the pairs that got furthest."""
    runs = validations(record)
    for seed in sorted({seed for losses in runs.values() for seed in losses}):
        of_seed = {arm: losses[seed] for arm, losses in runs.items() if seed in losses}
        step = last_common_step(*of_seed.values())
        losses = ", ".join(f"{arm} {of_seed[arm][step]:.4f}" for arm in of_seed)
        yield f"training, seed {seed}: validation loss after {step} steps: {losses}"
    for arm in runs:
        if arm != BASELINE and BASELINE in runs:
            yield from difference(arm, runs[arm], runs[BASELINE])


def validations(record: dict) -> dict[str, dict[int, dict[int, float]]]:
    """{residual: {seed: {step: validation loss}}}, the baseline first."""
    runs = {BASELINE: {}}
    for stage, content in record["stages"].items():
        for row in content["rows"] if stage.startswith("train_") else ():
            if "val_loss" in row:
                losses = runs.setdefault(row["arm"], {}).setdefault(row["seed"], {})
                losses[row["step"]] = row["val_loss"]
    return {arm: losses for arm, losses in runs.items() if losses}


def last_common_step(*runs: dict[int, float]) -> int:
    return max(set.intersection(*map(set, runs)))


def difference(arm: str, ours: dict, baseline: dict) -> Iterator[str]:
    """A line for the seeds whose pair was validated furthest; one pair has no interval."""
    steps = {seed: last_common_step(ours[seed], baseline[seed])
             for seed in ours if seed in baseline}
    step = max(steps.values(), default=0)
    if step:
        seeds = [seed for seed in steps if steps[seed] == step]
        pairs = [[run[seed][step] for seed in seeds] for run in (ours, baseline)]
        gap = (paired_difference(*pairs) if len(seeds) > 1
               else f"{pairs[0][0] - pairs[1][0]:+.4f} (one seed, no interval)")
        yield f"training, {arm} - {BASELINE}: {gap} after {step} steps"


def agreement(record: dict) -> Iterator[str]:
    """How far the kernels' losses are from the reference's, and its own from each other."""
    losses = {}
    for row in record["stages"].get("agreement", dict(rows=[]))["rows"]:
        if "loss" in row:
            losses.setdefault(row["case"], {})[row["step"]] = row["loss"]
    if BASE in losses:
        exact = losses.pop(BASE)
        for case in losses:
            steps = exact.keys() & losses[case].keys()
            gaps = [losses[case][step] - exact[step] for step in steps]
            spread = math.sqrt(sum(gap**2 for gap in gaps) / len(gaps))
            yield (f"training losses, {case}: {spread:.1e} from the reference's (root mean "
                   f"square), at most {max(map(abs, gaps)):.1e}, of {len(steps)} steps up "
                   f"to {max(steps)}")


def notebooks(record: dict) -> Iterator[str]:
    for row in record["stages"].get("notebooks", dict(rows=[]))["rows"]:
        if "outcome" in row:
            yield (f"notebook {row['notebook']}, preset {row['preset']}: {row['outcome']}, "
                   f"{row['cells']} of {row['of']} cells in {row['seconds']:.0f} s")
