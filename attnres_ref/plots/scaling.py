"""Figures of notebook 06: what a gap in loss is worth in compute, laws and how straight
they are, intervals, and shapes."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from attnres_ref.plots import GREY, MARK, STYLES, axes, in_a_row, plain, sheet, sketch
from attnres_ref.plots.schematic import canvas, tint
from attnres_ref.plots.study import draw_difference, draw_runs
from attnres_ref.study.intervals import Difference
from attnres_ref.study.scaling import Losses, PowerLaw, means

NUMBER = FuncFormatter(lambda value, _: f"{value:.3g}")
PERCENT = FuncFormatter(lambda value, _: f"{value:+.3g} %" if value else "0")
ARROW = dict(arrowstyle="<|-|>", color="black", linewidth=1.5, shrinkA=0, shrinkB=0)


def worth(ours: PowerLaw, baseline: PowerLaw, compute: float) -> Figure:
    """Block's law below PreNorm's, near `compute`: the gap in loss is upright, and the
    compute that PreNorm needs for Block's loss lies across."""
    figure, ax = axes("", "compute (PFLOP/s-days)", "validation loss", height=4.0)
    left, right, loss = compute / 1.6, compute * 2.1, ours(compute)
    there = baseline.compute(loss)
    for name, law in (("prenorm", baseline), ("block", ours)):
        label, colour, _ = STYLES[name]
        ax.plot([left, right], [law(left), law(right)], color=colour, lw=2.5, label=label)
    ax.annotate("", (there, loss), (compute, loss), arrowprops=ARROW)
    ax.annotate("", (compute, baseline(compute)), (compute, loss), arrowprops=ARROW)
    less = 100 * (1 - loss / baseline(compute))
    for words, end, place in (
        (f"the loss is\n{less:.1f} % lower", (compute, loss * 1.006), (1.1, 1.026)),
        (f"the same loss for {there / compute:.2f}\ntimes the compute",
         (math.sqrt(compute * there), loss), (0.8, 0.974)),
    ):
        line = dict(arrowstyle="-", color=GREY, linewidth=0.8, shrinkA=0)
        ax.annotate(words, end, (compute * place[0], loss * place[1]), fontsize=13,
                    ha="center", va="center", arrowprops=line)
    ax.set(xscale="log", yscale="log", xlim=(left, right))
    ticks = [n for n in (3, 4, 5, 6, 7, 8, 10, 12) if left <= n <= right]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(NUMBER)
        axis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, fontsize=12)
    return figure


def steepness(gap: float, marked: Mapping[float, str], guess: Mapping | None) -> Figure:
    """What a loss lower by `gap`, a fraction, is worth on laws of any exponent. marked:
    exponent -> its name; guess: exponent -> factor, the reader's."""
    figure, ax = axes(f"A loss {100 * gap:.1f} % lower", "exponent $a$ of the law",
                      "worth, times the compute")
    exponents = [0.03 * 1.05**i for i in range(64)]
    ax.plot(exponents, [(1 - gap) ** (-1 / a) for a in exponents], color=GREY, lw=2)
    for a, name in marked.items():
        factor = (1 - gap) ** (-1 / a)
        ax.plot(a, factor, "o", color="black", ms=7)
        ax.annotate(f"{name}\n{factor:.2f}x", (a, factor), (8, 6), fontsize=11,
                    textcoords="offset points")
    sketch(ax, guess)
    ax.set(xscale="log", xticks=[0.03, 0.06, 0.1, 0.2, 0.5], ylim=(0.98, None))
    ax.xaxis.set_major_formatter(NUMBER)
    ax.xaxis.set_minor_formatter(NullFormatter())
    return figure


def straight(sweep: Mapping[str, Losses], law: PowerLaw, title: str) -> Figure:
    """Losses by compute above, PreNorm's law as a line; below, how far every loss is from
    that law. Markers are runs, lines join their means."""
    figure = sheet(6.4, 5.6, title)
    losses, misses = figure.subplots(2, sharex=True, height_ratios=[1, 1])
    for name, runs in sweep.items():
        off = {size: [100 * (loss / law(size) - 1) for loss in seeds]
               for size, seeds in runs.items()}
        draw_runs(losses, runs, name)
        draw_runs(misses, off, name)
        misses.plot(*zip(*means(off).items()), color=STYLES[name][1], lw=1.2)
    ends = min(sweep["prenorm"]), max(sweep["prenorm"])
    look = dict(color=STYLES["prenorm"][1], linewidth=1.5)
    losses.plot(ends, [*map(law, ends)], label="PreNorm's law", **look)
    misses.axhline(0, **look)
    losses.set(xscale="log", yscale="log", ylabel="validation loss")
    losses.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    losses.yaxis.set_major_formatter(NUMBER)
    losses.yaxis.set_minor_formatter(NullFormatter())
    misses.set(xlabel="compute $C$ (PFLOP/s-days)", ylabel="off PreNorm's law")
    misses.yaxis.set_major_locator(MaxNLocator(5))
    misses.yaxis.set_major_formatter(PERCENT)
    if ends[1] < 30 * ends[0]:                   # the paper's: a decade and a half
        misses.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 4]))
        misses.xaxis.set_major_formatter(NUMBER)
        misses.xaxis.set_minor_formatter(NullFormatter())
    for ax in (losses, misses):
        plain(ax)
    losses.legend(frameon=False)
    return figure


def shares(bars: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """What training computes, in parts beside each other. bars: a model -> part, of up
    to four -> its share, with 6ND as 1."""
    figure, ax = axes(title, "FLOPs over $6ND$", "", height=0.5 * len(bars) + 1.9)
    looks = ("#d9d9d9", ""), ("#CC79A7", ""), ("#56B4E9", "//"), ("#F0E442", "")
    for y, parts in enumerate(bars.values()):
        left = 0.0
        for (part, share), (colour, hatch) in zip(parts.items(), looks):
            ax.barh(y, share, 0.65, left, color=colour, hatch=hatch, edgecolor="white",
                    label=None if y else part)
            left += share
        ax.text(left, y, f" {left:.2f}", va="center", fontsize=11)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False, columnspacing=1, handlelength=1.4)
    return figure


def leads(sweep: Mapping[str, Losses], title: str, guess: Mapping | None) -> Figure:
    """Losses minus PreNorm's of the same seed, by size, in nats and in per cent of
    PreNorm's loss. Markers are pairs, lines join their means; guess: size -> nats, the
    reader's."""
    panels = "in nats per byte", "in per cent of the loss"
    figure, grid = in_a_row(panels, (6.4, 3.6), title, "loss minus PreNorm's", sharey=False)
    base = sweep["prenorm"]
    for name, losses in sweep.items():
        nats = {size: [a - b for a, b in zip(seeds, base[size])]
                for size, seeds in losses.items()}
        percent = {size: [100 * gap / b for gap, b in zip(gaps, base[size])]
                   for size, gaps in nats.items()}
        for ax, gaps in zip(grid, (nats, percent)):
            if name == "prenorm":
                ax.axhline(0, color=STYLES[name][1], linewidth=1.5)
                continue
            label, colour, _ = STYLES[name]
            draw_runs(ax, gaps, name, label=f"{label}: pairs")
            ax.plot(*zip(*means(gaps).items()), color=colour, label=f"{label}: their mean")
    sketch(grid[0], guess)
    for ax in grid:
        ax.set(xscale="log", xlabel="$N$, in thousands")
        ax.set_xticks([*base], [f"{size / 1000:.0f}" for size in base])
        ax.xaxis.set_minor_formatter(NullFormatter())
    grid[1].yaxis.set_major_formatter(PERCENT)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2, frameon=False)
    return figure


def coverage(held: Mapping[str, Mapping[int, float]], title: str, guess) -> Figure:
    """How often intervals hold the truth. held: one or two methods -> seeds -> share;
    guess: seeds -> share, the reader's."""
    figure, ax = axes(title, "seeds at each size", "intervals that hold the truth")
    ax.axhline(0.95, color="black", linewidth=0.8)
    looks = (MARK, "o", "--"), (GREY, "D", "-")
    for (method, found), (colour, marker, line) in zip(held.items(), looks):
        ax.plot(*zip(*found.items()), line, color=colour, marker=marker, label=method)
    sketch(ax, guess)
    ax.set(xscale="log", xticks=[*found], ylim=(None, 1.01))
    ax.xaxis.set_major_formatter(NUMBER)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    ax.legend(frameon=False)
    return figure


def multipliers(rows: Sequence, theirs: Sequence[float], title: str) -> Figure:
    """Compute multipliers. rows: (label, a name in STYLES, the Difference of logarithms, or
    a number that has no interval); theirs: low and high end of the paper's."""
    figure, ax = axes(title, "times the compute", "", height=0.5 * len(rows) + 1.5)
    ax.axvspan(*theirs, color="#e6e6e6", label="the paper's Block, rounding alone")
    ax.axvline(1, color="black", linewidth=1)
    for y, (_, name, gain) in enumerate(rows):
        _, colour, marker = STYLES[name]
        if isinstance(gain, Difference):
            low, high = (math.exp(gain.mean + side * gain.half_width) for side in (-1, 1))
            ax.plot([low, high], [y, y], color=colour, lw=2)
            gain = math.exp(gain.mean)
        ax.plot(gain, y, color=colour, marker=marker, ms=8)
        ax.text(gain, y - 0.2, f"{gain:.2f}", ha="center", va="bottom", fontsize=11)
    ax.set(xscale="log", ylim=(len(rows) - 0.4, -0.8), xticks=[1, 1.1, 1.2, 1.3, 1.4, 1.5])
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows])
    ax.xaxis.set_major_formatter(NUMBER)
    ax.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower right", frameon=False)
    return figure


def outlines(models: Sequence[tuple[int, int, str]]) -> Figure:
    """Models as rectangles, as wide as their width and with a row for each layer. models:
    d, L and two lines of words, its parameters and FLOPs."""
    gap, deepest = 45, max(L for _, L, _ in models)
    total = sum(d + gap for d, *_ in models)
    figure, ax = canvas(6.6, 3.6, (-3.2 * gap, total), (-9, deepest + 4))
    for y, words in ((deepest / 2, "layers"), (-1, "weights\nFLOPs")):
        ax.text(-gap / 2, y, words, ha="right", va="center" if y > 0 else "top",
                fontsize=11, color=GREY, linespacing=1.4)
    x = 0.0
    for d, L, words in models:
        for layer in range(L):
            shade = tint(GREY, (0.15, 0.35)[layer % 2])
            ax.add_patch(Rectangle((x, layer), d, 1, facecolor=shade, edgecolor="white",
                                   linewidth=0.5))
        middle = x + d / 2
        ax.text(middle, L + 0.6, f"{d} x {L}", ha="center", va="bottom", fontsize=11)
        ax.text(middle, -1, words, ha="center", va="top", fontsize=11, linespacing=1.4)
        x += d + gap
    return figure


def shapes(sweep: Mapping[str, Losses], gaps: Mapping[float, Difference]) -> Figure:
    """Losses of two residuals by shape d / L_b, and the second's minus PreNorm's, hollow
    where zero lies inside."""
    panels = "validation loss", "Full - PreNorm"
    figure, grid = in_a_row(panels, (6.6, 3.6), "", "nats per byte", sharey=False)
    for name, losses in sweep.items():
        draw_runs(grid[0], losses, name)
        grid[0].plot(*zip(*means(losses).items()), color=STYLES[name][1])
    for shape, gap in gaps.items():
        draw_difference(grid[1], shape, gap.mean, gap, "full", yerr=gap.half_width, ms=7)
    grid[1].axhline(0, color=STYLES["prenorm"][1], linewidth=1.5)
    for ax in grid:
        ax.set(xscale="log", xlabel="$d/L_b$")
        ax.set_xticks([*gaps], [f"{shape:.2g}" for shape in gaps])
        ax.xaxis.set_minor_formatter(NullFormatter())
    grid[0].legend(frameon=False)
    return figure
