"""How often a model answers a puzzle, by the number of steps that the answer takes."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from attnres_ref.study.compare import Difference, grouped, paired_difference, residual


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
    for k, answers in enumerate(asked, 1):
        if not answers.any():
            raise ValueError(
                f"no answer among {len(inputs)} sequences takes {k} hops: pass more"
            )
    return [right[answers].float().mean().item() for answers in asked]


def accuracy_observer(task, n_windows: int = 256) -> Callable[[nn.Module], dict]:
    """For `train(..., observe=...)`: {"accuracy": [of k = 1, 2, ...]} over n_windows
    fixed validation puzzles of `task`, a tiny_data.puzzles.Puzzles."""

    def observe(model):
        device = next(model.parameters()).device
        batch = task.validation(n_windows, model.config.context)
        accuracies = accuracy_by_hops(model, *(part.to(device) for part in batch))
        return dict(accuracy=[round(x, 4) for x in accuracies])

    return observe


def final_accuracies(records: Sequence[dict]) -> dict[int, dict[str, list[list[float]]]]:
    """Recorded accuracies by n_layers, then residual: one list per seed, in the seeds'
    order."""
    depths = grouped(records, lambda record: record["model"]["n_layers"])
    return {
        depth: grouped(depths[depth], residual, lambda r: r["observed"][-1][1]["accuracy"])
        for depth in sorted(depths)
    }


def gains(residuals: Mapping[str, Sequence]) -> dict[str, list[Difference]]:
    """By residual but PreNorm, the paired difference of accuracies of each k: above zero
    is better, other than for losses."""
    baseline = residuals["prenorm"]
    return {
        name: [paired_difference(*pair) for pair in zip(zip(*seeds), zip(*baseline))]
        for name, seeds in residuals.items()
        if name != "prenorm"
    }
