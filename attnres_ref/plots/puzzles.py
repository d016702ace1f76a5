"""Figures of the puzzles, notebook 11: accuracy by the number of dependent steps."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from attnres_ref.plots import GREY, STYLES, in_a_row
from attnres_ref.study.compare import Difference, paired_difference

Seeds = Sequence[Sequence[float]]      # one list of accuracies, k = 1, 2, ..., per seed


def accuracy_by_hops(
    panels: Mapping[str, Mapping[str, Seeds]], title: str, chance: float
) -> Figure:
    """Mean accuracy by hops with 95 % intervals over the seeds, one panel per depth.
    panels: its title -> residual -> accuracies of 2 to 10 seeds. chance: the guess."""
    figure, grid = depths_in_a_row(panels, title, "accuracy on unseen puzzles")
    for ax, residuals in zip(grid, panels.values()):
        ax.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="chance")
        draw_by_hops(ax, {name: spread(seeds) for name, seeds in residuals.items()})
        ax.set_ylim(0, 1.03)
    return with_legend(figure)


def gain_by_hops(panels: Mapping[str, Mapping[str, Seeds]], title: str) -> Figure:
    """Accuracy less PreNorm's of the same seed, with 95 % intervals, by hops; hollow
    where zero lies inside. panels: as for `accuracy_by_hops`, all with "prenorm"."""
    figure, grid = depths_in_a_row(panels, title, "gain in accuracy over PreNorm")
    for ax, residuals in zip(grid, panels.values()):
        ax.axhline(0, color="black", linewidth=0.8)
        draw_by_hops(ax, gains(residuals), hollow=True)
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


def depths_in_a_row(panels: Mapping, title: str, ylabel: str):
    return in_a_row(panels, (max(2.6 * len(panels) + 0.8, 5.4), 3.6), title, ylabel)


def with_legend(figure: Figure) -> Figure:
    """The last panel's entries below all panels, where no point can hide."""
    entries = figure.axes[-1].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_by_hops(
    ax, residuals: Mapping[str, Sequence[Difference]], hollow: bool = False
) -> None:
    """Each residual a little to the side of the others, so that intervals stay apart.
    hollow: leave a marker empty whose interval has zero in it."""
    for i, (name, points) in enumerate(residuals.items()):
        label, colour, marker = STYLES[name]
        aside = 0.08 * (i - (len(residuals) - 1) / 2)
        hops = [k + aside for k in range(1, len(points) + 1)]
        ax.plot(hops, [p.mean for p in points], color=colour, linewidth=1)
        for k, point in zip(hops, points):
            fill = "white" if hollow and point.verdict == "cannot tell" else colour
            ax.errorbar(
                k, point.mean, yerr=point.half_width, color=colour, marker=marker,
                markerfacecolor=fill, ms=6, capsize=3, label=label,
            )
            label = None               # one entry in the legend
    ax.set(xlabel="hops k", xticks=range(1, len(points) + 1))
