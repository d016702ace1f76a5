"""Figures of the studies, notebooks 04 and 05: layer by layer, and many runs at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from attnres_ref.plots import GREY, STYLES, axes, in_a_row, plain, sheet
from attnres_ref.study.compare import Difference
from attnres_ref.study.scaling import Losses, lowest, means, points


def by_layer(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    title: str, ylabel: str, log: bool = False,
):
    """A value per layer, one panel per moment. panels: its title -> residual -> one list
    of values per seed. Lines are means; bands reach from the lowest seed to the highest."""
    figure, grid = in_a_row(panels, (3.0 * len(panels) + 1.2, 3.4), title, ylabel)
    for ax, residuals in zip(grid, panels.values()):
        for name, seeds in residuals.items():
            label, colour, marker = STYLES[name]
            layers = range(len(seeds[0]))
            values = list(zip(*seeds))                     # [layers][seeds]
            low, high = [*map(min, values)], [*map(max, values)]
            ax.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
            average = [*map(mean, values)]
            ax.plot(layers, average, color=colour, marker=marker, ms=4, label=label)
        ax.set(xlabel="layer", xticks=range(0, len(layers), 4))
    if log:
        grid[0].set_yscale("log")
    grid[-1].legend(frameon=False)
    return figure


def rate_curves(losses: Mapping[str, Losses], title: str):
    """Final loss by peak learning rate. losses: residual -> rate -> one loss per seed;
    small dots are seeds, lines their means, rings the best mean of each residual."""
    figure, ax = axes(title, "peak learning rate", "validation loss (nats per byte)")
    for name, of_rate in losses.items():
        label, colour, marker = STYLES[name]
        ax.scatter(*zip(*points(of_rate)), color=colour, s=8, alpha=0.6)
        average, best = means(of_rate), lowest(of_rate)
        ax.plot(*zip(*average.items()), color=colour, marker=marker, label=label)
        ax.scatter(best, average[best], s=190, facecolors="none", edgecolors=colour, lw=2)
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(of_rate), [f"{rate:g}" for rate in of_rate])
    ax.minorticks_off()
    ax.legend(frameon=False)
    return figure


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot."""

    label: str
    gap: Difference                # ours, with its interval
    style: str                     # a name in plots.STYLES
    paper: float | None = None     # the paper's difference, where it has one


def forest(rows: Sequence[ForestRow], title: str, limit: float | None = None):
    """Differences of loss with their intervals, hollow where zero lies inside.

    A mean beyond +/- `limit` is written, not drawn, so that it does not squeeze the
    others. Where a row has the paper's difference, a second panel shows it, to its own
    scale.
    """
    beside = any(row.paper is not None for row in rows)
    figure = sheet(7.6, 0.3 * len(rows) + 1.5, title)
    widths = [2, 1] if beside else [1]
    grid = figure.subplots(
        1, len(widths), sharey=True, squeeze=False, width_ratios=widths
    )[0]
    for y, row in enumerate(rows):
        draw_difference(grid[0], y, row, limit)
        if row.paper is not None:
            grid[1].plot(row.paper, y, color=GREY, marker=STYLES[row.style][2], ms=7)
    for ax in grid:
        ax.axvline(0, color="black", linewidth=0.8)
        ax.locator_params(axis="x", nbins=5 if ax is grid[0] else 3)
        plain(ax)
    grid[-1].set_xlabel("the paper's, nats per token")
    grid[0].set_xlabel("ours, nats per byte, with 95 % intervals")
    grid[0].set_yticks(range(len(rows)), [row.label for row in rows])
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    if limit:
        grid[0].set_xlim(-limit, limit)
    return figure


def draw_difference(ax, y: float, row: ForestRow, limit: float | None) -> None:
    """One row of `forest`."""
    _, colour, marker = STYLES[row.style]
    if limit and abs(row.gap.mean) > limit:
        side = "right" if row.gap.mean > 0 else "left"
        words = f" off the scale: {row.gap.mean:+.2f} "
        at = math.copysign(limit, row.gap.mean)
        ax.text(at, y, words, color=colour, ha=side, va="center")
        return
    fill = "white" if row.gap.verdict == "cannot tell" else colour
    ax.errorbar(
        row.gap.mean, y, xerr=row.gap.half_width, color=colour, marker=marker,
        markerfacecolor=fill, markersize=7, capsize=3,
    )
