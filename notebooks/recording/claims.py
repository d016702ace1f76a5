"""What the rows of the ledger measure in recorded runs, and which runs they take. The rows
themselves are in claims_*.py, one file for a subject or two."""

from operator import itemgetter
from statistics import mean

import plan
from attnres_ref.notebook import recorded
from attnres_ref.study.compare import select
from attnres_ref.study.probes import unevenness

loss = itemgetter("val_loss")


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
