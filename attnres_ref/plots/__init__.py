"""Every figure of the course, in one style. A function returns a Figure, and `show` puts it
into a notebook together with its alt text; what can be touched displays itself.
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.ticker import MaxNLocator

from attnres_ref.plots.depth_lens import lens
from attnres_ref.plots.style import (
    GREY,
    MARK,
    STYLES,
    axes,
    draw_triangle,
    heat_map,
    in_a_row,
    log_colour_bar,
    log_share,
    plain,
    png,
    sheet,
    show,
    style_of,
)

__all__ = [
    "GREY", "MARK", "STYLES", "axes", "bars", "final_losses", "heat_map", "in_a_row",
    "learning_curves", "lens", "log_colour_bar", "log_share", "plain", "png", "sheet",
    "show", "sketch", "style_of", "triangle",
]


def sketch(ax, points: Mapping[float, float] | None) -> None:
    """The reader's prediction, x -> y, beside what was measured; None draws nothing."""
    if points:
        ax.plot(*zip(*sorted(points.items())), "--", color="black", marker="x",
                label="your prediction")


def learning_curves(curves: Mapping[str, Sequence], title: str, first_step: int = 0):
    """Validation loss by step. curves: residual -> one list of [step, loss] per seed;
    thin lines are seeds, the thick one their mean."""
    figure, ax = axes(title, "step", "validation loss (nats per byte)")
    for name, seeds in curves.items():
        label, colour, marker = STYLES[name]
        seeds = [[point for point in seed if point[0] >= first_step] for seed in seeds]
        for seed in seeds:
            ax.plot(*zip(*seed), color=colour, linewidth=0.7, alpha=0.5)
        steps = [step for step, _ in seeds[0]]
        average = [mean(loss for _, loss in points) for points in zip(*seeds)]
        counted = f"{label} ({len(seeds)} seeds)" if len(seeds) > 1 else label
        ax.plot(steps, average, color=colour, marker=marker, label=counted)
    ax.legend(frameon=False)
    return figure


def final_losses(losses: Mapping[str, Sequence[float]], title: str):
    """Final validation loss: a marker per seed, paired seeds joined by a grey line."""
    figure, ax = axes(title, "", "validation loss (nats per byte)", width=5.0)
    names = list(losses)
    for pair in zip(*losses.values()):
        ax.plot(range(len(names)), pair, color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
    for x, name in enumerate(names):
        _, colour, marker = STYLES[name]
        ax.scatter([x] * len(losses[name]), losses[name], color=colour, marker=marker, s=45)
    ax.set_xticks(range(len(names)), [STYLES[name][0] for name in names])
    ax.set_xlim(-0.4, len(names) - 0.6)
    return figure


def triangle(rows, title, **look):
    """`draw_triangle` in a figure of its own: the figure, its axes and the image."""
    figure = sheet(0.22 * max(map(len, rows)) + 2.4, 0.22 * len(rows) + 1.2)
    ax = figure.subplots()
    image = draw_triangle(ax, rows, title, **look)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, ax, image


def bars(values: Mapping[str, float], title: str, xlabel: str, unit: str = ""):
    """Horizontal bars with the number written at each."""
    figure, ax = axes(title, xlabel, "", height=0.5 * len(values) + 1.1)
    ax.grid(visible=False)
    for y, (name, value) in enumerate(values.items()):
        _, colour, _ = style_of(name)
        ax.barh(y, value, color=colour, height=0.6)
        ax.text(value, y, f" {value:.3g}{unit}", va="center")
    ax.set_yticks(range(len(values)), list(values))
    ax.invert_yaxis()
    ax.margins(x=0.15)
    return figure
