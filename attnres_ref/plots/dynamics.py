"""Figures of notebook 04: does a gain last, what did training change, how was it tuned?"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from attnres_ref.plots import GREY, STYLES, axes, heat_map, in_a_row
from attnres_ref.plots.study import draw_difference
from attnres_ref.study.compare import paired_difference


def horizons(found: Mapping, within: Mapping[str, Sequence], title: str):
    """The gap to PreNorm's loss against the length of the run, on a logarithmic axis.

    found: steps -> residual -> Difference, drawn with its interval and hollow where zero
    lies inside; empty where there are no runs yet, which the figure says. within:
    residual -> [[step, gap], ...] inside of one run, drawn as a thin line.
    """
    figure, ax = axes(title, "steps", "loss - PreNorm's (nats per byte)", width=7.0)
    ax.axhline(0, color=STYLES["prenorm"][1], linewidth=1, label=STYLES["prenorm"][0])
    for i, (name, gaps) in enumerate(within.items()):
        label, colour, marker = STYLES[name]
        ax.plot(*zip(*gaps), color=colour, linewidth=1)
        ax.plot([], [], color=colour, marker=marker, linewidth=0, label=label)
        aside = 1.05 ** (i - (len(within) - 1) / 2)    # so that intervals stay apart
        for steps, differences in found.items():
            if gap := differences.get(name):
                bar = dict(yerr=gap.half_width, markersize=8)
                draw_difference(ax, steps * aside, gap.mean, gap, name, **bar)
    for steps in (steps for steps, differences in found.items() if not differences):
        ax.axvline(steps, color=GREY, linestyle=":", linewidth=1)
        look = dict(rotation=90, ha="right", va="center", color=GREY, fontsize=9)
        ax.text(steps, 0.5, "not run yet ", transform=ax.get_xaxis_transform(), **look)
    ax.set_xscale("log")
    ticks = sorted({step for step, _ in next(iter(within.values()))} | {*found})
    ax.set_xticks(ticks, ticks, rotation=60)
    ax.minorticks_off()
    ax.legend(frameon=False, title="points: whole runs\nlines: within a run")
    return figure


def before_and_after(panels: Mapping, title: str):
    """Numbers of the same models untrained and trained, on one logarithmic scale. panels:
    title -> residual -> [untrained, trained], one value for each seed in both; markers are
    means with their 95 % intervals."""
    figure, grid = in_a_row(panels, (2.1 * len(panels) + 1.6, 3.8), title, "ratio")
    for ax, residuals in zip(grid, panels.values()):
        for i, (name, moments) in enumerate(residuals.items()):
            label, colour, marker = STYLES[name]
            found = [paired_difference(values, [0] * len(values)) for values in moments]
            aside = 0.06 * (i - (len(residuals) - 1) / 2)  # so that intervals stay apart
            ax.errorbar(
                [aside, 1 + aside], [level.mean for level in found],
                yerr=[level.half_width for level in found],
                color=colour, marker=marker, markersize=7, capsize=3, label=label,
            )
        ax.set_xticks([0, 1], ["untrained", "trained"])
        ax.set_xlim(-0.4, 1.4)
        ax.set_yscale("log")
    grid[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    grid[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    grid[0].yaxis.set_minor_formatter(NullFormatter())
    entries = grid[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=4, frameon=False)
    return figure


def tuning(losses: Mapping, chosen: Mapping, title: str, span: float = 0.15):
    """The loss of each recipe that an arm was tried with, as a small map for every arm.

    losses: arm -> recipe -> peak rate -> loss; chosen: arm -> (recipe, rate), framed and
    with its loss above the map. Dark is low; `span` or more above the lowest is white, and
    what was not tried is grey.
    """
    size = 1.45 * len(losses) + 1.6, 3.4
    figure, grid = in_a_row(losses, size, title, "peak rate", fontsize=9)
    by_rate = [row for of_arm in losses.values() for row in of_arm.values()]
    rates = sorted({rate for row in by_rate for rate in row})
    best = min(loss for row in by_rate for loss in row.values())
    for ax, (name, of_arm) in zip(grid, losses.items()):
        recipes = [*of_arm]
        rows = [[of_arm[r].get(rate, math.nan) for r in recipes] for rate in rates]
        look = dict(colours="Purples_r", vmin=best, vmax=best + span, aspect="auto")
        image = heat_map(ax, rows, **look)
        recipe, rate = chosen[name]
        frame = dict(marker="s", ms=16, mfc="none", mec="black", mew=2)
        ax.plot(recipes.index(recipe), rates.index(rate), **frame)
        ax.set_title(f"{name}\n{of_arm[recipe][rate]:.3f}", fontsize=9)
        ax.set_xticks(range(len(recipes)), recipes, rotation=90)
        ax.grid(visible=False)
    grid[0].set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    grid[0].invert_yaxis()
    figure.colorbar(image, ax=[*grid], label="validation loss", extend="max")
    return figure
