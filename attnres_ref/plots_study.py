"""Figures of the studies, notebooks 04 and 05: layer by layer, and many runs at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from matplotlib.figure import Figure

from attnres_ref.compare import Difference
from attnres_ref.plots import GREY, STYLES, axes


def by_layer(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    title: str, ylabel: str, log: bool = False,
):
    """A value per layer, one panel per moment. panels: its title -> residual -> one list
    of values per seed. Lines are means; bands reach from the lowest seed to the highest."""
    figure = Figure(figsize=(3.0 * len(panels) + 1.2, 3.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (moment, residuals) in zip(grid, panels.items()):
        for name, seeds in residuals.items():
            label, colour, marker = STYLES[name]
            layers = range(len(seeds[0]))
            values = list(zip(*seeds))                     # [layers][seeds]
            lowest, highest = [*map(min, values)], [*map(max, values)]
            ax.fill_between(layers, lowest, highest, color=colour, alpha=0.2, linewidth=0)
            ax.plot(layers, [*map(mean, values)], color=colour, marker=marker, ms=4, label=label)
        ax.set_title(moment, fontsize=10)
        ax.set(xlabel="layer", xticks=range(0, len(layers), 4))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    grid[0].set_ylabel(ylabel)
    if log:
        grid[0].set_yscale("log")
    grid[-1].legend(frameon=False)
    return figure


def rate_curves(losses: Mapping[str, Mapping[float, Sequence[float]]], title: str):
    """Final loss by peak learning rate. losses: residual -> rate -> one loss per seed;
    small dots are seeds, lines their means, rings the best mean of each residual."""
    figure, ax = axes(title, "peak learning rate", "validation loss (nats per byte)")
    for name, of_rate in losses.items():
        label, colour, marker = STYLES[name]
        for rate, seeds in of_rate.items():
            ax.scatter([rate] * len(seeds), seeds, color=colour, s=8, alpha=0.6)
        means = {rate: mean(seeds) for rate, seeds in of_rate.items()}
        ax.plot(*zip(*means.items()), color=colour, marker=marker, label=label)
        best = min(means, key=means.get)
        ax.scatter(best, means[best], s=190, facecolors="none", edgecolors=colour, linewidths=2)
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(of_rate), [f"{rate:g}" for rate in of_rate])
    ax.minorticks_off()
    ax.legend(frameon=False)
    return figure


@dataclass(frozen=True)
class Row:
    """A line of a forest plot."""

    label: str
    found: Difference              # ours, with its interval
    style: str                     # a name in plots.STYLES
    paper: float | None = None     # the paper's difference, where it has one


def forest(rows: Sequence[Row], title: str, xlabel: str):
    """Differences with their intervals, hollow where zero lies inside. Where a row has the
    paper's difference, a second panel shows it on a scale of its own."""
    beside = any(row.paper is not None for row in rows)
    figure = Figure(figsize=(7.6, 0.3 * len(rows) + 1.5), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    widths = [2, 1] if beside else [1]
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    for y, row in enumerate(rows):
        _, colour, marker = STYLES[row.style]
        decided = row.found.verdict != "cannot tell"
        panels[0].errorbar(
            row.found.mean, y, xerr=row.found.half_width, color=colour, marker=marker,
            markerfacecolor=colour if decided else "white", markersize=7, capsize=3,
        )
        if row.paper is not None:
            panels[1].plot(row.paper, y, color=GREY, marker=marker, markersize=7)
    for ax, name in zip(panels, ("ours, 95 % intervals", "the paper's")):
        ax.set_title(name, fontsize=10)
        ax.set_xlabel(xlabel)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
    panels[0].invert_yaxis()
    return figure
