"""Figures of the studies, notebooks 04, 05 and 11: by layer, and many runs at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from matplotlib.lines import Line2D

from attnres_ref.plots import GREY, STYLES, axes, in_a_row, plain, sheet
from attnres_ref.study.compare import Difference
from attnres_ref.study.scaling import Losses, lowest, means, points


def by_layer(panels: Mapping, title: str, ylabel: str, names: Sequence[str] = ()):
    """A value per layer on a logarithmic scale, one panel per moment or quantity.

    panels: its title -> residual -> one list of values per seed. Lines are means; bands
    reach from the lowest seed to the highest. names: of the layers, as ticks; a value
    more than there are names is the final read.
    """
    figure, grid = in_a_row(panels, (3.0 * len(panels) + 1.2, 3.4), title, ylabel)
    for ax, residuals in zip(grid, panels.values()):
        for i, (name, seeds) in enumerate(residuals.items()):
            label, colour, marker = STYLES[name]
            look = dict(color=colour, marker=marker, lw=max(1, 4 - i), ms=max(4, 8 - 2 * i))
            layers = range(len(seeds[0]))
            values = list(zip(*seeds))                     # [layers][seeds]
            low, high = [*map(min, values)], [*map(max, values)]
            ax.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
            average = [*map(mean, values)]
            ax.plot(layers, average, label=label, **look)  # a line shows below its equal
        ax.set(xlabel="layer", xticks=range(0, len(layers), 4))
        if names:
            labels = [*names, "final"][: len(layers)]
            ax.set_xticks(layers, labels, rotation=90, fontsize=7)
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


def draw_runs(ax, losses, name, **look):
    """A marker for each run of a residual."""
    label, colour, marker = STYLES[name]
    look = dict(color=colour, marker=marker, s=22, alpha=0.8, label=label) | look
    ax.scatter(*zip(*points(losses)), **look)


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot; without a gap it is a heading of those below."""

    label: str
    gap: Difference | None = None  # ours, with its interval
    style: str = "prenorm"         # a name in plots.STYLES
    paper: float | None = None     # the paper's difference, where it has one


def forest(
    rows: Sequence[ForestRow], title: str, limit: float | None = None, width: float = 7.6
):
    """Differences of loss with their intervals, hollow where zero lies inside.

    A mean beyond +/- `limit` is written, not drawn, so that it does not squeeze the
    others. Where a row has the paper's difference, a second panel shows it, to its own
    scale.
    """
    figure = sheet(width, 0.3 * len(rows) + 1.5, title)
    widths = [2, 1] if any(row.paper is not None for row in rows) else [1]
    grid = figure.subplots(
        1, len(widths), sharey=True, squeeze=False, width_ratios=widths
    )[0]
    for y, row in enumerate(rows):
        gap = row.gap
        if gap is None:
            for ax in grid:
                ax.axhline(y - 0.5, color=GREY, linewidth=0.8)
        elif limit and abs(gap.mean) > limit:
            at, side = math.copysign(limit, gap.mean), "right" if gap.mean > 0 else "left"
            look = dict(color=STYLES[row.style][1], ha=side, va="center")
            grid[0].text(at, y, f" off the scale: {gap.mean:+.2f} ", **look)
        else:
            bar = dict(xerr=gap.half_width, markersize=7)
            draw_difference(grid[0], gap.mean, y, gap, row.style, **bar)
        if row.paper is not None:
            grid[1].plot(row.paper, y, color=GREY, marker=STYLES[row.style][2], ms=7)
    for ax in grid:
        ax.axvline(0, color="black", linewidth=0.8)
        ax.locator_params(axis="x", nbins=5 if ax is grid[0] else 3)
        plain(ax)
    grid[-1].margins(x=0.1)
    grid[-1].set_xlabel("the paper's, nats per token")
    grid[0].set_xlabel("ours, nats per byte, with 95 % intervals")
    grid[0].set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(grid[0].get_yticklabels(), rows):
        label.set_fontweight("bold" if row.gap is None else "normal")
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    if limit:
        grid[0].set_xlim(-limit, limit)
    return figure


def draw_difference(ax, x, y, difference, name, **look):
    """A marker with its interval, hollow where zero lies inside."""
    _, colour, marker = STYLES[name]
    marker = marker if marker in Line2D.filled_markers else "o"        # can be hollow
    fill = "white" if difference.verdict == "cannot tell" else colour
    look |= dict(color=colour, marker=marker, markerfacecolor=fill, capsize=3)
    ax.errorbar(x, y, **look)


def recall(errors: Mapping[str, Sequence[float]], title: str):
    """Error of reading a pair back by its age in writes, one line for each of up to
    three memories; 1 is what an empty memory gives."""
    figure, ax = axes(title, "writes since the pair was stored", "error / size of value")
    ax.axhline(1, color="black", linewidth=0.8)
    looks = (GREY, ":"), ("#56B4E9", "--"), ("#D55E00", "-")
    for (name, values), (colour, line) in zip(errors.items(), looks):
        ax.plot(values, color=colour, linestyle=line, linewidth=2, label=name)
    ax.text(0.99 * len(values), 0.98, "an empty memory", ha="right", va="top", fontsize=9)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="lower right")
    return figure
