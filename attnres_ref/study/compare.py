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


def complete(records: Sequence[dict], names: Sequence[str], **fields) -> dict[str, list]:
    """Of each residual the records with these fields of LMConfig or TrainConfig, of the
    seeds that all residuals have, in their order: what can be compared while runs are
    still to come. Raises ValueError for two of one residual and seed."""
    found = {name: {} for name in names}
    for record in records:
        asked = fields.items() <= (record["model"] | record["train"]).items()
        if residual(record) not in found or not asked:
            continue
        runs = found[residual(record)]
        if seed(record) in runs:
            raise ValueError(
                f"{residual(record)} has two runs of seed {seed(record)} with {fields}: "
                "add a field, so that each seed is there once"
            )
        runs[seed(record)] = record
    shared = sorted(set.intersection(*map(set, found.values())))
    return {name: [runs[s] for s in shared] for name, runs in found.items()}


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
