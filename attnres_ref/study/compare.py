"""Recorded runs compared seed by seed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import itemgetter

from attnres_ref.study.intervals import Difference, paired_difference


def select(records: Sequence[dict], **fields) -> list[dict]:
    """The records with these values of LMConfig or TrainConfig, in the order of the seeds.

    select(records, residual="full", lr=8e-3). Raises ValueError when there is none, or
    two of a seed: then they differ in a field that was not given.
    """
    runs = [r for r in records if fields.items() <= (r["model"] | r["train"]).items()]
    runs.sort(key=seed)
    seeds = [*map(seed, runs)]
    if not runs or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{len(runs)} records have {fields}, their seeds are {seeds}: change a "
            "field or add one, so that each seed is there once"
        )
    return runs


def complete(records: Sequence[dict], names: Sequence[str]) -> dict[str, list[dict]]:
    """The records of each of these residuals, of the seeds that all of them have, in the
    order of the seeds: what can be compared while runs are still to come."""
    runs = {
        name: [r for r in sorted(records, key=seed) if residual(r) == name]
        for name in names
    }
    shared = set.intersection(*({*map(seed, of_one)} for of_one in runs.values()))
    return {
        name: [r for r in of_one if seed(r) in shared] for name, of_one in runs.items()
    }


def loss_difference(ours: Sequence[dict], baseline: Sequence[dict]) -> Difference:
    """`paired_difference` of the final losses of two results of `select`. Raises
    ValueError unless both have the same seeds."""
    seeds = [[*map(seed, records)] for records in (ours, baseline)]
    if seeds[0] != seeds[1]:
        raise ValueError(
            f"ours has the seeds {seeds[0]}, baseline {seeds[1]}: only runs of one seed "
            "are pairs"
        )
    losses = [[r["val_loss"] for r in records] for records in (ours, baseline)]
    return paired_difference(*losses)


def grouped(records: Sequence[dict], key: Callable, value: Callable = lambda r: r) -> dict:
    """key(record) -> value(record) of each of its records, in the order of the seeds."""
    groups = defaultdict(list)
    for record in sorted(records, key=seed):
        groups[key(record)].append(value(record))
    return dict(groups)


def seed(record: dict) -> int:
    return record["train"]["seed"]


def residual(record: dict) -> str:
    return record["model"]["residual"]


def final_losses(records: Sequence[dict]) -> dict[str, list[float]]:
    """Validation losses by residual, each list in the order of the seeds."""
    return grouped(records, residual, itemgetter("val_loss"))


def validation_curves(records: Sequence[dict]) -> dict[str, list]:
    """Curves [[step, loss], ...] by residual, one per seed: what plots.learning_curves
    draws."""
    return grouped(records, residual, itemgetter("val_curve"))
