"""The rows of the ledger that notebook 11 speaks of: Kimi Linear, and reasoning in steps.
Judged as in claims.py."""

from collections.abc import Iterator
from statistics import mean

from attnres_ref import compare, paper
from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.probes import unevenness
from attnres_ref.puzzles_eval import final_accuracies
from claims import Row, gaps, judged


def hybrids() -> Iterator[Row]:
    """PreNorm and Block (S = 6) under KDA, MLA and mixtures of experts, at the rate that
    is better for PreNorm."""
    runs = compare.at_best_rate(recorded("hybrid")["python_sources"])

    def trained(residual, key):
        return [run["observed"][-1][1][key] for run in runs[residual]]

    def growth(residual):
        return [mean(read[-4:]) / mean(read[2:6]) for read in trained(residual, "input_rms")]

    def spread(residual):
        return [unevenness(norms)[1] for norms in trained(residual, "gradient_norm")]

    losses = {name: [run["val_loss"] for run in found] for name, found in runs.items()}
    better = sum(block > prenorm for prenorm, block in paper.DOWNSTREAM.values())
    yield judged(
        f"Kimi Linear is better with Block (S = 6): {better} of {len(paper.DOWNSTREAM)} scores",
        "hybrid, difference of losses", gaps(losses["block"], losses["prenorm"]),
    )
    start = compare.final_losses(recorded("hybrid_start")["python_sources"])
    yield judged(
        "the same, both from a scaled start (notebook 11)", "hybrid, difference of losses",
        gaps(start["block"], start["prenorm"]),
    )
    yield judged(
        "the same: the hidden state stays bounded (Fig. 5)", "hybrid, growth less PreNorm's",
        gaps(growth("block"), growth("prenorm")),
    )
    yield judged(
        "the same: gradients are more even (Fig. 5)",
        "hybrid, coefficient of variation less PreNorm's",
        gaps(spread("block"), spread("prenorm")),
    )


def reasoning() -> Iterator[Row]:
    """Notebook 11: the gain on puzzles of two or more steps, and whether it is larger
    there than on those of one. Of accuracies, so that above zero is better."""
    theirs = {
        name: f"{ours - baseline:+.1f} on {name}"
        for name, (baseline, ours) in paper.DOWNSTREAM.items()
    }
    for task, runs in recorded("puzzles").items():
        name, found = task.replace("_", " "), final_accuracies(runs)
        for residual in ("block", "full"):
            label, beyond_one = STYLES[residual][0], []
            for depth, seeds in found.items():
                one, more = by_steps(seeds[residual], seeds["prenorm"])
                beyond_one.append(gaps(more, one))
                yield judged(
                    f"{label} is better at multi-step tasks ({theirs['GPQA-Diamond']}): "
                    f"{name}, L = {depth}",
                    "gain in accuracy for two or more steps", more, below=False,
                )
            depths = ", ".join(map(str, found))
            yield judged(
                f"and gains more there than on others ({theirs['MMLU']}): {name}, "
                f"L = {depths}",
                "that gain less the gain for one step",
                # zip keeps the seeds that all depths have
                [*map(mean, zip(*beyond_one))], below=False,
            )


def by_steps(ours, baseline) -> tuple[list[float], list[float]]:
    """By seed, the gain in accuracy for one step, and its mean for two or more."""
    gained = [gaps(*pair) for pair in zip(ours, baseline, strict=True)]
    return [gain[0] for gain in gained], [mean(gain[1:]) for gain in gained]


PARTS = (hybrids, reasoning)
