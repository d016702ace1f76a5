"""Notebook 07, its first half: what a read gives weight to, and what it cannot lose."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.plots import (
    GREY,
    STYLES,
    axes,
    heat_map,
    in_a_row,
    log_colour_bar,
    log_share,
    plain,
    sheet,
    sketch,
    triptych,
)
from attnres_ref.plots.schematic import TOKEN, strip, tint, triangle_of_reads, written
from attnres_ref.study.intervals import paired_difference

MARK = "#D55E00"                       # the embedding, and what is taken away
LOSS = "loss increase without it (nats per byte)"


def row_of_the_triangle(read: int = 3) -> Figure:
    """All reads of the worked example in numbers, and one row as a mix of vectors."""
    _, green, _ = STYLES["full"]
    figure = sheet(6.4, 7.4)
    above, below = figure.subplots(2, 1, height_ratios=(1.5, 1))
    rows = [[weight for _, weight in row] for row in triptych.reads(1)]
    for y, row in enumerate(rows):
        for x, weight in enumerate(row):
            look = dict(facecolor=tint(green, 0.65 * min(2 * weight, 1)), edgecolor=green)
            above.add_patch(Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, **look))
            above.text(x, y, written(weight), ha="center", va="center", fontsize=10)
    triangle_of_reads(above, len(rows))
    frame = dict(fill=False, edgecolor="black", linewidth=2.5, zorder=3)
    above.add_patch(Rectangle((-0.52, read - 0.52), read + 1.04, 1.04, **frame))
    above.text(read + 0.8, read, f"read {read} mixes four sources,\nas drawn below",
               va="center", fontsize=11)
    above.set_xticks(range(len(rows)), [f"$v_{i}$" for i in range(len(rows))], fontsize=11)
    above.set_ylabel("reading layer", fontsize=11)
    _bare(below, read)
    _read(below, rows[read])
    return figure


def without(read: int = 3, lost: int = 0) -> Figure:
    """One read of the worked example twice: whole, and without one of its sources, whose
    weight the others share in proportion to their own."""
    weights = [weight for _, weight in triptych.reads(1)[read]]
    rest = [0 if i == lost else w / (1 - weights[lost]) for i, w in enumerate(weights)]
    figure, (left, right) = in_a_row(
        ["as it is", f"without $v_{lost}$"], (6.8, 4.2), "", "", fontsize=12, loc="left"
    )
    for ax, row in ((left, weights), (right, rest)):
        _bare(ax, read)
        _read(ax, row)
    cross = dict(color=MARK, linewidth=3)
    for ends in ((0.4, 2.2), (2.2, 0.4)):
        right.plot([lost - 0.45, lost + 0.45], ends, zorder=3, **cross)
    return figure


def _bare(ax, read: int) -> None:
    ax.set(xlim=(-0.6, read + 0.6), ylim=(-1.1, 6.9), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)


def _read(ax, weights: Sequence[float]) -> None:
    """The first sources of the worked example, lines as wide as their weights, the mix."""
    _, green, _ = STYLES["full"]
    middle = (len(weights) - 1) / 2
    mixed = [sum(w * v[c] for w, v in zip(weights, TOKEN)) for c in range(4)]
    for i, (weight, source) in enumerate(zip(weights, TOKEN)):
        strip(ax, (i, 1.95), source)
        ax.text(i, -0.6, f"$v_{i}$", ha="center", va="center", fontsize=12)
        if not weight:
            continue
        ax.plot([i, middle], [2.0, 4.4], color=green, linewidth=14 * weight + 0.4,
                alpha=0.75, zorder=0.5)
        ax.text(i + 0.3 * (middle - i), 2.85, f"{weight:.2f}", fontsize=11,
                ha="center", va="center",
                bbox=dict(facecolor="white", edgecolor="none", pad=1))
    strip(ax, (middle, 6.3), mixed, edge=green)
    ax.text(middle + 0.45, 5.5, "what is\nread", va="center", fontsize=11, color=GREY)


def maps(weights: Sequence[Sequence[float]], increases: Sequence[Sequence[float]],
         guess: Mapping[int, int] | None = None) -> Figure:
    """Two triangles: where reads give weight, over the plain mean, and how much the loss
    rises without it, nats per byte. guess: a reader's source -> read, marked on both."""
    figure = sheet(6.4, 4.0)
    left, right = panels = figure.subplots(1, 2, sharey=True)
    looks = log_share, lambda row: [math.log10(max(x, 1e-5)) for x in row]
    weight = heat_map(left, [*map(looks[0], weights)], vmin=-2, vmax=2)
    lost = heat_map(right, [*map(looks[1], increases)], "magma_r", -4, 0)
    last, ticks = len(weights) - 1, range(0, len(weights), 4)
    for ax, title in zip(panels, ("the weight of a source", "what its loss costs")):
        ax.set_title(title, loc="left", fontsize=12)
        ax.set_xlabel("source (0 = embedding)", fontsize=11)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks, ["final" if tick == last else str(tick) for tick in ticks])
        sketch(ax, guess)
    left.set_ylabel("reading layer", fontsize=11)
    beside = dict(location="bottom", shrink=0.9)
    log_colour_bar(figure, weight, left, "weight / plain mean", **beside)
    bar = figure.colorbar(lost, ax=right, label="nats per byte", extend="both", **beside)
    bar.set_ticks(range(-4, 1), labels=["0.0001", "0.001", "0.01", "0.1", "1"])
    return figure


def of_embedding(seeds: Sequence[Sequence[dict]]) -> Figure:
    """The embedding in every read from 1 on, a line for each seed's `mixing.reads`: its
    weight over the plain mean, and its part of the read's size."""
    figure, ax = axes("The embedding in each read of Full AttnRes", "reading layer",
                      "times the plain mean, or part of the read")
    panels = ("weight / plain mean", "-", _weight), ("part of what is read", ":", audible)
    for label, line, number in panels:
        for i, reads in enumerate(seeds):
            ax.plot(range(1, len(reads)), [number(read) for read in reads[1:]], line,
                    color=MARK, linewidth=1.5, label=label if i == 0 else None)
    ax.axhline(1, color=GREY, linewidth=0.7)
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=11)
    return figure


def _weight(read: dict) -> float:
    return read["weights"][0] * len(read["weights"])


def audible(read: dict, source: int = 0) -> float:
    """A source's share over the root of the sum of all squared shares, which is the size of
    the read if its sources are at right angles."""
    return read["shares"][source] / math.hypot(*read["shares"])


def importance(panels: Mapping[str, Mapping[str, Sequence[tuple]]], xlabels: Sequence[str],
               notes: Mapping[str, tuple] | None = None) -> Figure:
    """Loss increase of a lost source against something measured of it. panels: title ->
    kind of source -> points (x, increase); notes, on the first: words -> their point and
    where they stand."""
    looks = (MARK, "o"), ("black", "^"), (GREY, ".")
    figure, grid = in_a_row(panels, (3.3 * len(panels), 4.2), "", LOSS, 12, "left")
    for ax, kinds, xlabel in zip(grid, panels.values(), xlabels):
        for (kind, points), (colour, marker) in reversed([*zip(kinds.items(), looks)]):
            look = dict(color=colour, marker=marker, s=26, alpha=0.7, label=kind)
            ax.scatter(*zip(*points), **look)
        ax.set(xlabel=xlabel, xscale="log")
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.axhline(0, color="black", linewidth=0.6)
    for words, (point, at) in (notes or {}).items():
        grid[0].annotate(words, point, at, fontsize=10, ha="center",
                         arrowprops=dict(arrowstyle="-", color="black"))
    grid[-1].legend(frameon=False, loc="upper left", fontsize=10)
    return figure


def intervals(panels: Mapping[str, tuple[float, Mapping[str, Sequence[float]]]]) -> Figure:
    """Seeds as points, their mean and its 95 % interval as a bar with its numbers. panels,
    one above another: title -> a value to compare with, and name -> one value per seed."""
    heights = [len(rows) for _, rows in panels.values()]
    figure = sheet(6.6, 0.36 * sum(heights) + 0.75 * len(panels))
    grid = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, (reference, rows)) in zip(grid, panels.items()):
        plain(ax)
        for y, (name, values) in enumerate(rows.items()):
            known = paired_difference(values, [0.0] * len(values))
            _, colour, marker = STYLES["block" if name.startswith("Block") else "full"]
            ax.errorbar(known.mean, y, xerr=known.half_width, color=colour, linewidth=5,
                        alpha=0.45)
            dots = dict(color=colour, marker=marker, s=24, zorder=3)
            ax.scatter(values, [y] * len(values), **dots)
            words = f"{known.mean:.2f} +/- {known.half_width:.2f}"
            ax.text(1.02, y, words, transform=ax.get_yaxis_transform(), va="center")
        ax.axvline(reference, color="black", linewidth=0.8)
        ax.set_yticks(range(len(rows)), list(rows), fontsize=11)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_title(title, loc="left", fontsize=11)
    return figure


def missed(panels: Mapping[str, Sequence[Sequence[float]]],
           guess: Mapping[int, float] | None = None) -> Figure:
    """By read, how far the loss moves without the embedding, and without another source on
    average. panels, two in a row: title -> `source_ablation`'s rows; guess: on the last."""
    titles = list(panels)
    figure = sheet(6.8, 2.7 * math.ceil(len(titles) / 2))
    grid = figure.subplots(math.ceil(len(titles) / 2), 2, sharex=True, sharey=True).flat
    for ax, title in zip(grid, titles):
        plain(ax)
        rows = [[abs(float(x)) for x in row] for row in panels[title][1:]]
        reads = range(1, len(rows) + 1)
        ax.plot(reads, [sum(row[1:]) / len(row[1:]) for row in rows], color=GREY,
                marker=".", label="another source")
        ax.plot(reads, [max(row[0], 1e-6) for row in rows], color=MARK, marker="o",
                markersize=4, label="the embedding")
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(yscale="log", xticks=range(0, len(rows) + 1, 4))
    sketch(ax, guess)
    figure.supxlabel("reading layer", fontsize=11)
    figure.supylabel("change of the loss (nats per byte)", fontsize=11)
    figure.axes[0].legend(frameon=False, fontsize=10)
    return figure
