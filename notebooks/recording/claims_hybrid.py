"""The rows of the ledger that notebook 11 speaks of: Kimi Linear, and reasoning in steps.
Judged as in claims.py."""

from collections.abc import Iterator
from statistics import mean

from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import compare, paper
from attnres_ref.study.probes import unevenness
from attnres_ref.study.puzzles import final_accuracies
from claims import Row, gaps, judged

RATE = 8e-3                            # PreNorm's best of four, under a Transformer
RECIPES = (
    ("hybrid", RATE, "plain start"),
    ("hybrid", 2 * RATE, "twice the rate"),            # PreNorm's best of three here
    ("hybrid_start", RATE, "scaled start"),
)


def hybrids() -> Iterator[Row]:
    """PreNorm and Block (S = 6) under KDA, MLA and mixtures of experts, by recipe."""
    better = sum(block > prenorm for prenorm, block in paper.DOWNSTREAM.values())
    claim = f"Kimi Linear is better with Block: {better} of {len(paper.DOWNSTREAM)} scores"
    for sweep, lr, recipe in RECIPES:
        records = recorded(sweep)["python_sources"]
        ours, baseline = (
            compare.select(records, residual=name, lr=lr) for name in ("block", "prenorm")
        )

        def gap(number):
            return gaps(map(number, ours), map(number, baseline))

        yield judged(f"{claim}; {recipe}", "hybrid, difference of losses", gap(loss))
        yield judged(
            f"its hidden state stays bounded (Fig. 5); {recipe}",
            "hybrid, growth less PreNorm's", gap(growth),
        )
        yield judged(
            f"its gradients are more even (Fig. 5); {recipe}",
            "hybrid, coefficient of variation less PreNorm's", gap(spread),
        )


def loss(run: dict) -> float:
    return run["val_loss"]


def growth(run: dict) -> float:
    read = run["observed"][-1][1]["input_rms"]
    return mean(read[-4:]) / mean(read[2:6])


def spread(run: dict) -> float:
    return unevenness(run["observed"][-1][1]["gradient_norm"])[1]


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
