"""The rows of the ledger that notebook 11 speaks of: Kimi Linear, and reasoning in steps.
Judged as in judging.py."""

from collections.abc import Iterator
from statistics import mean

from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import compare, paper
from attnres_ref.study.puzzles import final_accuracies
from claims import gradient_spread, growth, loss
from judging import Claim, between, gaps, judged
from sweeps import LR

RECIPES = (
    ("hybrid", LR, "plain start"),
    ("hybrid", 2 * LR, "twice the rate"),              # PreNorm's best of three here
    ("hybrid_start", LR, "scaled start"),
)


def hybrids() -> Iterator[Claim]:
    """PreNorm and Block (S = 6) under KDA, MLA and mixtures of experts, by recipe."""
    better = sum(block > prenorm for prenorm, block in paper.DOWNSTREAM.values())
    claim = f"Kimi Linear is better with Block: {better} of {len(paper.DOWNSTREAM)} scores"
    for sweep, lr, recipe in RECIPES:
        records = recorded(sweep)["python_sources"]
        ours, baseline = (
            compare.select(records, residual=name, lr=lr) for name in ("block", "prenorm")
        )
        for what, measured, number in (
            (claim, "difference of losses", loss),
            ("its hidden state stays bounded (Fig. 5)", "growth less PreNorm's", growth),
            (
                "its gradients are more even (Fig. 5)",
                "coefficient of variation less PreNorm's", gradient_spread,
            ),
        ):
            gained = between(number, ours, baseline)
            yield judged(f"{what}; {recipe}", f"hybrid, {measured}", gained)


def reasoning() -> Iterator[Claim]:
    """Notebook 11: the gain on puzzles of two or more steps, and whether it is larger
    there than on those of one. Of accuracies, so that above zero is better."""
    theirs = {
        name: f"{ours - baseline:+.1f} on {name}"
        for name, (baseline, ours) in paper.DOWNSTREAM.items()
    }
    for task, runs in recorded("puzzles").items():
        name, accuracies = task.replace("_", " "), final_accuracies(runs)
        for residual in ("block", "full"):
            label, beyond_one = STYLES[residual][0], []
            for depth, seeds in accuracies.items():
                one, more = by_steps(seeds[residual], seeds["prenorm"])
                beyond_one.append(gaps(more, one))
                yield judged(
                    f"{label} is better at multi-step tasks ({theirs['GPQA-Diamond']}): "
                    f"{name}, L = {depth}",
                    "gain in accuracy for two or more steps", more, below=False,
                )
            depths = ", ".join(map(str, accuracies))
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
