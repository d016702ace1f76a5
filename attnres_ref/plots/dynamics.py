"""Figures of notebook 04: does a gain last, what did training change, how was it tuned?"""

import math
from collections.abc import Iterable, Mapping

from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from attnres_ref.plots import GREY, STYLES, axes, heat_map, in_a_row, sheet, sketch
from attnres_ref.plots.study import draw_difference
from attnres_ref.study.intervals import mean_of
from attnres_ref.training.recipe import TrainConfig, learning_rate


def horizons(panels: Mapping, title: str, guess: Mapping[int, float] | None = None):
    """The gap to PreNorm's loss against the length of the run, on a logarithmic axis.

    panels: title -> steps -> residual -> Difference, drawn with its interval and hollow
    where zero lies inside. guess: the reader's, steps -> gap, drawn in the first panel.
    """
    size = 3.4 * len(panels) + 1.8, 4.2
    figure, grid = in_a_row(panels, size, title, "loss - PreNorm's (nats per byte)")
    for ax, found in zip(grid, panels.values()):
        label, colour, _ = STYLES["prenorm"]
        ax.axhline(0, color=colour, linewidth=1.5, label=label)
        names = [*next(iter(found.values()))]
        for i, name in enumerate(names):
            aside = 1.05 ** (i - (len(names) - 1) / 2)     # so that intervals stay apart
            gaps = {steps * aside: of_length[name] for steps, of_length in found.items()}
            label, colour, marker = STYLES[name]
            marker = marker if marker in Line2D.filled_markers else "o"
            ax.plot([*gaps], [gap.mean for gap in gaps.values()], color=colour, linewidth=1)
            ax.plot([], [], color=colour, marker=marker, linewidth=0, label=label)
            for x, gap in gaps.items():
                bar = dict(yerr=gap.half_width, markersize=8)
                draw_difference(ax, x, gap.mean, gap, name, **bar)
        ax.set(xscale="log", xlabel="steps of the run")
        ax.set_xticks([*found], [*found])
        ax.minorticks_off()
    sketch(grid[0], guess)
    entries = grid[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=2, frameon=False)
    return figure


def schedules(configs: Iterable[TrainConfig], title: str):
    """The learning rates of runs of different lengths, and the rate that each has when the
    shortest of them ends."""
    configs = sorted(configs, key=lambda config: config.steps)
    figure, ax = axes(title, "step", "learning rate", width=5.4, height=3.2)
    end = configs[0].steps
    for config, style in zip(configs, ("-", "--", ":")):
        rates = [learning_rate(step, config) for step in range(config.steps)]
        ax.plot(rates, style, color="black", label=f"a run of {config.steps} steps")
        ax.plot(end, rates[end - 1], "o", color="black")
    ax.axvline(end, color=GREY, linewidth=1)
    ax.legend(frameon=False)
    return figure


def before_and_after(panels: Mapping, title: str):
    """Numbers of the same models untrained and trained, on logarithmic scales. panels:
    title -> residual -> [untrained, trained], one value for each seed in both; markers are
    means with their 95 % intervals."""
    size = 2.1 * len(panels) + 1.6, 3.8
    figure, grid = in_a_row(panels, size, title, "ratio", sharey=False)
    for ax, residuals in zip(grid, panels.values()):
        for i, (name, moments) in enumerate(residuals.items()):
            label, colour, marker = STYLES[name]
            found = [*map(mean_of, moments)]
            aside = 0.06 * (i - (len(residuals) - 1) / 2)  # so that intervals stay apart
            ax.errorbar(
                [aside, 1 + aside], [level.mean for level in found],
                yerr=[level.half_width for level in found],
                color=colour, marker=marker, markersize=7, capsize=3, label=label,
            )
        ax.set_xticks([0, 1], ["untrained", "trained"])
        ax.set_xlim(-0.4, 1.4)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.25, 1.5, 1.75, 2, 3, 4, 5)))
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    entries = grid[0].get_legend_handles_labels()
    columns = 2 if len(panels) == 1 else 4
    figure.legend(*entries, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def tuning(losses: Mapping, chosen: Mapping, title: str, span: float = 0.15):
    """The loss of each recipe that an arm was tried with, as a small map for every arm,
    three in a row.

    losses: arm -> recipe -> peak rate -> loss; chosen: arm -> (recipe, rate), framed and
    with its loss above the map. Dark is low; `span` or more above the lowest is white, and
    what was not tried is grey.
    """
    height = math.ceil(len(losses) / 3)
    figure = sheet(6.0, 2.3 * height + 1.2, title)
    grid = figure.subplots(height, min(3, len(losses)), squeeze=False, sharex=True,
                           sharey=True)
    by_rate = [row for of_arm in losses.values() for row in of_arm.values()]
    rates = sorted({rate for row in by_rate for rate in row})
    best = min(loss for row in by_rate for loss in row.values())
    for ax, (name, of_arm) in zip(grid.flat, losses.items()):
        recipes = [*of_arm]
        rows = [[of_arm[r].get(rate, math.nan) for r in recipes] for rate in rates]
        look = dict(colours="Purples_r", vmin=best, vmax=best + span, aspect="auto")
        image = heat_map(ax, rows, **look)
        recipe, rate = chosen[name]
        frame = dict(marker="s", ms=16, mfc="none", mec="black", mew=2)
        ax.plot(recipes.index(recipe), rates.index(rate), **frame)
        ax.set_title(f"{name}: {of_arm[recipe][rate]:.3f}", fontsize=11)
        ax.set_xticks(range(len(recipes)), recipes, rotation=90)
    grid[0, 0].set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    grid[0, 0].invert_yaxis()
    figure.supylabel("peak rate", fontsize=10)
    figure.colorbar(image, ax=grid, label="validation loss", extend="max", shrink=0.8)
    return figure
