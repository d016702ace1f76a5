"""Figures of the puzzles, notebook 11: accuracy by the number of dependent steps."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnres_ref.plots import GREY, STYLES
from attnres_ref.study.compare import Difference, paired_difference

Seeds = Sequence[Sequence[float]]      # one list of accuracies, k = 1, 2, ..., per seed


def accuracy_by_hops(
    panels: Mapping[str, Mapping[str, Seeds]], title: str, chance: float
) -> Figure:
    """Mean accuracy by hops with 95 % intervals over the seeds, one panel per depth.
    panels: its title -> residual -> accuracies of 2 to 10 seeds. chance: the guess."""
    figure, grid = side_by_side(len(panels), title)
    for ax, (panel, residuals) in zip(grid, panels.items()):
        ax.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="chance")
        draw_by_hops(ax, {name: spread(seeds) for name, seeds in residuals.items()})
        ax.set_title(panel, fontsize=10)
        ax.set_ylim(0, 1.03)
    grid[0].set_ylabel("accuracy on unseen puzzles")
    return with_legend(figure)


def gain_by_hops(panels: Mapping[str, Mapping[str, Seeds]], title: str) -> Figure:
    """Accuracy less PreNorm's of the same seed, with 95 % intervals, by hops; hollow
    where zero lies inside. panels: as for `accuracy_by_hops`, all with "prenorm"."""
    figure, grid = side_by_side(len(panels), title)
    for ax, (panel, residuals) in zip(grid, panels.items()):
        ax.axhline(0, color="black", linewidth=0.8)
        draw_by_hops(ax, gains(residuals), hollow=True)
        ax.set_title(panel, fontsize=10)
    grid[0].set_ylabel("gain in accuracy over PreNorm")
    return with_legend(figure)


def accuracy_by_step(
    curves: Mapping[str, Sequence[Sequence]], title: str, chance: float
) -> Figure:
    """How accuracy rises in training, one panel per number of hops. curves: residual ->
    one list of [step, accuracies] per seed; thin lines are seeds, thick ones means."""
    n_hops = len(next(iter(curves.values()))[0][0][1])
    figure, grid = side_by_side(n_hops, title)
    for k, ax in enumerate(grid):
        ax.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="chance")
        for name, seeds in curves.items():
            label, colour, marker = STYLES[name]
            steps = [step for step, _ in seeds[0]]
            lines = [[accuracies[k] for _, accuracies in seed] for seed in seeds]
            for line in lines:
                ax.plot(steps, line, color=colour, linewidth=0.7, alpha=0.5)
            means = [*map(mean, zip(*lines))]
            ax.plot(steps, means, color=colour, marker=marker, ms=4, label=label)
        ax.set_title(f"{k + 1} hop" + "s" * (k > 0), fontsize=10)
        ax.set(xlabel="step", ylim=(0, 1.03))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    grid[0].set_ylabel("accuracy on unseen puzzles")
    return with_legend(figure)


def spread(seeds: Seeds) -> list[Difference]:
    """Mean and interval of each k."""
    return [paired_difference(values, [0.0] * len(values)) for values in zip(*seeds)]


def gains(residuals: Mapping[str, Seeds]) -> dict[str, list[Difference]]:
    """By residual but PreNorm, the paired difference of accuracies of each k: above zero
    is better, other than for losses."""
    baseline = residuals["prenorm"]
    return {
        name: [paired_difference(*pair) for pair in zip(zip(*seeds), zip(*baseline))]
        for name, seeds in residuals.items()
        if name != "prenorm"
    }


def describe(panels: Mapping[str, Mapping[str, Seeds]]) -> str:
    """The alt text of `accuracy_by_hops`: every mean."""
    parts = [
        f"{panel}, {STYLES[name][0]}: " + ", ".join(f"{x.mean:.2f}" for x in spread(seeds))
        for panel, residuals in panels.items()
        for name, seeds in residuals.items()
    ]
    return "Accuracy by number of hops, from 1 up. " + "; ".join(parts) + "."


def side_by_side(n_panels: int, title: str):
    """A figure and its panels in a row, on one scale."""
    figure = Figure(figsize=(max(2.6 * n_panels + 0.8, 5.4), 3.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    for ax in grid:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    return figure, grid


def with_legend(figure: Figure) -> Figure:
    """The last panel's entries below all panels, where no point can hide."""
    entries = figure.axes[-1].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_by_hops(
    ax, found: Mapping[str, Sequence[Difference]], hollow: bool = False
) -> None:
    """Each residual a little to the side of the others, so that intervals stay apart.
    hollow: leave a marker empty whose interval has zero in it."""
    for i, (name, points) in enumerate(found.items()):
        label, colour, marker = STYLES[name]
        hops = [k + 0.08 * (i - (len(found) - 1) / 2) for k in range(1, len(points) + 1)]
        ax.plot(hops, [p.mean for p in points], color=colour, linewidth=1)
        for k, point in zip(hops, points):
            fill = "white" if hollow and point.verdict == "cannot tell" else colour
            ax.errorbar(
                k, point.mean, yerr=point.half_width, color=colour, marker=marker,
                markerfacecolor=fill, ms=6, capsize=3, label=label,
            )
            label = None               # one entry in the legend
    ax.set(xlabel="hops k", xticks=range(1, len(points) + 1))
