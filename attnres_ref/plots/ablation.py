"""Notebook 07, its first half: what a read gives weight to, and what it cannot lose."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.plots import (
    GREY,
    MARK,
    STYLES,
    heat_map,
    in_a_row,
    log_colour_bar,
    log_share,
    plain,
    sheet,
    sketch,
    style_of,
    triptych,
)
from attnres_ref.plots.schematic import TOKEN, strip, tint, triangle_of_reads, written
from attnres_ref.study.intervals import mean_of
from attnres_ref.study.mixing import Lost, relative

LOSS = "loss increase without it (nats per byte)"


def row_of_the_triangle(read: int = 3) -> Figure:
    """All reads of the worked example in numbers, and one row as a mix of vectors."""
    _, green, _ = STYLES["full"]
    figure = sheet(6.4, 7.4)
    above, below = figure.subplots(2, 1, height_ratios=(1.5, 1))
    rows = [[weight for _, weight in row] for row in triptych.reads(1)]
    for y, row in enumerate(rows):
        for x, weight in enumerate(row):
            look = dict(facecolor=tint(green, 0.8 * weight), edgecolor=green)
            above.add_patch(Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, **look))
            above.text(x, y, written(weight), ha="center", va="center", fontsize=10)
    triangle_of_reads(above, len(rows))
    frame = dict(fill=False, edgecolor="black", linewidth=2.5, zorder=3)
    above.add_patch(Rectangle((-0.52, read - 0.52), read + 1.04, 1.04, **frame))
    above.text(read + 0.8, read, f"read {read} mixes four sources,\nas drawn below",
               va="center", fontsize=11)
    above.set_xticks(range(len(rows)), [f"$v_{i}$" for i in range(len(rows))], fontsize=11)
    above.set_yticks(range(len(rows)), [*range(len(rows) - 1), "final"])
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
    powers = [[math.log10(max(x, 1e-5)) for x in row] for row in increases]
    weight = heat_map(left, [*map(log_share, weights)], vmin=-2, vmax=2)
    lost = heat_map(right, powers, "magma_r", -4, 0)
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
    """The embedding in every read from 1 on, a line for each seed's `mixing.reads`: on the
    left its weight over the plain mean, on the right its part of the read's size."""
    panels = {"embedding: weight / plain mean": lambda read: relative([read])[0][0],
              "embedding: part of the read": audible}
    figure, grid = in_a_row(panels, (6.8, 3.4), "", "", 12, "left")
    for ax, number in zip(grid, panels.values()):
        for reads in seeds:
            ax.plot(range(1, len(reads)), [number(read) for read in reads[1:]], color=MARK)
        ax.axhline(1, color=GREY, linewidth=0.7)
        ax.set(yscale="log", xticks=range(0, len(seeds[0]), 4))
    figure.supxlabel("reading layer", fontsize=11)
    return figure


def audible(read: dict, source: int = 0) -> float:
    """A source's share over the root of the sum of all squared shares, which is the size of
    the read if its sources are at right angles."""
    return read["shares"][source] / math.hypot(*read["shares"])


def importance(lost: Sequence[Lost], measures: Mapping[str, str]) -> Figure:
    """Loss increase of lost sources against what was measured of them. measures: a field of
    `mixing.Lost` -> the words below its axis. The loss is on a linear scale near zero.
    Source 2 is the first MLP's only in Full, with attention and MLP in turn."""
    kinds = {"others": (GREY, ".", lambda x: x.source not in (0, 2)),
             "first MLP's output": ("black", "^", lambda x: x.source == 2),
             "embedding": (MARK, "o", lambda x: x.source == 0)}
    titles = [f"by {field}" for field in measures]
    figure, grid = in_a_row(titles, (3.3 * len(titles), 4.2), "", LOSS, 12, "left")
    for ax, (field, xlabel) in zip(grid, measures.items()):
        for kind, (colour, marker, belongs) in kinds.items():
            own = [x for x in lost if belongs(x)]
            look = dict(color=colour, marker=marker, s=26, alpha=0.7, label=kind)
            measured = [getattr(x, field) for x in own]
            ax.scatter(measured, [x.increase for x in own], **look)
        ax.set(xlabel=xlabel, xscale="log")
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.axhline(0, color="black", linewidth=0.6)
    first, *_, last = [(getattr(x, next(iter(measures))), x.increase)
                       for x in sorted(lost) if x.source == 0]
    for words, point, at in (("read 1", first, (0.35, 0.93)),
                             ("all later reads", last, (0.25, 0.1))):
        grid[0].annotate(words, point, at, textcoords="axes fraction", fontsize=10,
                         ha="center", arrowprops=dict(arrowstyle="-", color="black"))
    grid[-1].legend(frameon=False, loc="upper left", fontsize=10)
    return figure


def interval(values: Sequence[float]) -> str:
    """The mean of one value per seed with half of its 95 % interval, in words."""
    known = mean_of(values)
    return f"{known.mean:.2f} +/- {known.half_width:.2f}"


def intervals(panels: Mapping[str, tuple[float, Mapping[str, Sequence[float]]]]) -> Figure:
    """Seeds as points, their mean and its 95 % interval as a bar with its numbers. panels,
    one above another: title -> a value to compare with, and name -> one value per seed;
    a name begins as a residual's does, for its colour."""
    heights = [len(rows) for _, rows in panels.values()]
    figure = sheet(6.6, 0.36 * sum(heights) + 0.75 * len(panels))
    grid = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, (reference, rows)) in zip(grid, panels.items()):
        plain(ax)
        for y, (name, values) in enumerate(rows.items()):
            known, (_, colour, marker) = mean_of(values), style_of(name)
            ax.errorbar(known.mean, y, xerr=known.half_width, color=colour, linewidth=5,
                        alpha=0.45)
            dots = dict(color=colour, marker=marker, s=24, zorder=3)
            ax.scatter(values, [y] * len(values), **dots)
            beside = dict(transform=ax.get_yaxis_transform(), va="center")
            ax.text(1.02, y, interval(values), **beside)
        ax.axvline(reference, color="black", linewidth=0.8)
        ax.set_yticks(range(len(rows)), list(rows), fontsize=11)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_title(title, loc="left", fontsize=11)
    return figure


def beside_others(rows: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Rows of `source_ablation` as a pair for each read from 1 on: how far the loss moves,
    up or down, without the embedding, and without another source, the mean of them all."""
    sizes = [[abs(float(x)) for x in row] for row in rows[1:]]
    return [(own, sum(others) / len(others)) for own, *others in sizes]


def missed(panels: Mapping[str, Sequence[Sequence[float]]],
           guess: Mapping[int, float] | None = None) -> Figure:
    """By read, how far the loss moves without the embedding, and without another source on
    average. panels, two in a row: title -> `source_ablation`'s rows; guess: on the last."""
    titles = list(panels)
    figure = sheet(6.8, 2.7 * math.ceil(len(titles) / 2))
    grid = figure.subplots(math.ceil(len(titles) / 2), 2, sharex=True, sharey=True).flat
    for ax, title in zip(grid, titles):
        plain(ax)
        own, others = zip(*beside_others(panels[title]))
        reads = range(1, len(own) + 1)
        ax.plot(reads, others, color=GREY, marker=".", label="another source")
        ax.plot(reads, [max(x, 1e-6) for x in own], color=MARK, marker="o", markersize=4,
                label="the embedding")
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(yscale="log", xticks=range(0, len(own) + 1, 4))
    sketch(grid[len(titles) - 1], guess)
    figure.supxlabel("reading layer", fontsize=11)
    figure.supylabel("change of the loss, up or down (nats per byte)", fontsize=11)
    figure.axes[0].legend(frameon=False, fontsize=10)
    return figure
