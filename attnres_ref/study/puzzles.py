"""How often a model answers a puzzle, by the number of steps that the answer takes."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def accuracy_by_hops(
    model: nn.Module, inputs: Tensor, targets: Tensor, hops: Tensor
) -> list[float]:
    """Fraction of right answers among those that take k = 1, 2, ... hops.

    Three int64 tensors [B, T], as a puzzle's `validation` gives them; where hops is 0
    there is no answer. Raises ValueError if a k up to the largest is never asked.
    """
    right = model(inputs).argmax(-1) == targets                       # [B, T]
    asked = [hops == k for k in range(1, int(hops.max()) + 1)]
    for k, places in enumerate(asked, 1):
        if not places.any():
            raise ValueError(
                f"no answer among {len(inputs)} sequences takes {k} hops: pass more"
            )
    return [right[places].float().mean().item() for places in asked]


def accuracy_observer(task, n_windows: int = 256) -> Callable[[nn.Module], dict]:
    """For `train(..., observe=...)`: {"accuracy": [of k = 1, 2, ...]} over n_windows
    fixed validation puzzles of `task`, a tiny_data.puzzles.Puzzles."""

    def observe(model):
        device = next(model.parameters()).device
        batch = task.validation(n_windows, model.config.context)
        found = accuracy_by_hops(model, *(part.to(device) for part in batch))
        return dict(accuracy=[round(x, 4) for x in found])

    return observe


def final_accuracies(records: Sequence[dict]) -> dict[int, dict[str, list[list[float]]]]:
    """Recorded accuracies by n_layers, then residual: one list per seed, in the seeds'
    order. What plots_puzzles draws."""
    return of_records(records, lambda record: record["observed"][-1][1]["accuracy"])


def accuracy_curves(records: Sequence[dict]) -> dict[int, dict[str, list[list]]]:
    """The same for [[step, accuracies], ...] of every validation."""
    def curve(record):
        return [[step, seen["accuracy"]] for step, seen in record["observed"]]

    return of_records(records, curve)


def of_records(records: Sequence[dict], value: Callable[[dict], list]) -> dict:
    found = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record["train"]["seed"]):
        model = record["model"]
        found[model["n_layers"]][model["residual"]].append(value(record))
    return {depth: dict(found[depth]) for depth in sorted(found)}
