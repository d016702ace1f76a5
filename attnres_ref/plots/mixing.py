"""Notebook 07, its second half: mixing matrices of any residual, and their ranks."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from attnres_ref.plots import (
    GREY,
    STYLES,
    axes,
    heat_map,
    log_colour_bar,
    plain,
    sheet,
    sketch,
)


def label(record: dict) -> str:
    """A recorded run's residual in words, with its window, or its block size if not 4."""
    model = record["model"]
    name = STYLES[model["residual"]][0]
    if model["residual"] == "window":
        return f"{name}, W={model['window']}"
    usual = model["residual"] != "block" or model["block_size"] == 4
    return name if usual else f"{name}, S={model['block_size']}"


def since_start(now: Sequence[Sequence[float]], start: Sequence[Sequence[float]]):
    """log2 of each entry over what it was at the start, row by row. What has become
    negative is drawn as tiny, and a zero, which is not read at all, as no source."""
    return [
        [math.log2(max(x / x0, 1e-6)) if x and x0 else math.nan for x, x0 in zip(*rows)]
        for rows in zip(now, start)
    ]


def gallery(matrices: Mapping[str, Sequence], starts: Mapping[str, Sequence], title: str):
    """Up to six small triangles: how each entry has changed since the start, which is
    white. Both: residual -> rows of its mixing matrix."""
    figure = sheet(6.8, 5.2, title)
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for ax, (residual, rows) in zip(grid.flat, matrices.items()):
        image = heat_map(ax, since_start(rows, starts[residual]), vmin=-2, vmax=2)
        ax.set_title(STYLES[residual][0], loc="left", fontsize=12)
        ticks = range(0, len(rows), 4)
        ax.set(xticks=ticks, yticks=ticks)
    figure.supxlabel("source (0 = embedding)", fontsize=11)
    figure.supylabel("reading layer", fontsize=11)
    log_colour_bar(figure, image, list(grid.flat), "entry / entry at the start", shrink=0.7)
    return figure


def row_sums(matrices: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """The sum of each row against its read. matrices: residual -> rows."""
    figure, ax = axes("Sum of a row: how much is added up before it is read",
                      "reading layer", "sum of the row", width=6.8, height=4.0)
    for residual, rows in matrices.items():
        name, colour, marker = STYLES[residual]
        sums = [sum(row) for row in rows]
        ax.plot(sums, color=colour, marker=marker, markersize=5)
        ax.text(len(sums) - 0.7, sums[-1], name, color=colour, va="center", fontsize=11)
    ax.set_yscale("log")
    ax.set_yticks([1, 2, 4, 8, 16], [1, 2, 4, 8, 16])
    ax.set_yticks([], minor=True)
    ax.set_xlim(-0.5, len(sums) + 4.5)
    ax.set_xticks(range(0, len(sums), 4))
    return figure


def cuts(panels: Mapping[str, tuple], guess: Mapping[int, int] | None = None) -> Figure:
    """The rank that was measured at each cut, under two bounds: vectors that a stream keeps
    and reads to come. panels, up to four: residual -> ranks, kept; guess: on Block's."""
    figure = sheet(6.8, 5.2)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (residual, (ranks, kept)) in zip(grid.flat, panels.items()):
        plain(ax)
        name, colour, marker = STYLES[residual]
        last = len(ranks) - 1
        ax.plot([last + 1 - j for j in range(last + 1)], color=GREY, linestyle=":",
                label="reads to come")
        ax.plot(kept, color=GREY, label="vectors kept")
        ax.plot(ranks, color=colour, marker=marker, markersize=5, linewidth=0,
                label="rank measured")
        if residual == "block":
            sketch(ax, guess)
        ax.set_title(f"{name}: at most {max(ranks)}", loc="left", fontsize=12)
    figure.axes[0].legend(frameon=False, fontsize=10, loc="upper right")
    figure.supxlabel("the cut is made above source j, below read j", fontsize=11)
    figure.supylabel("number", fontsize=11)
    return figure


def between(rows: Sequence[tuple]) -> Figure:
    """Block's rank and the vectors that a block reads, beside N to N + S. rows: (L, S,
    rank, vectors) each."""
    _, orange, square = STYLES["block"]
    figure, ax = axes("", "", "number of vectors", width=6.4, height=3.8)
    for x, (n_layers, size, rank, vectors) in enumerate(rows):
        n, known = n_layers // size, dict(zorder=3)
        first = {} if x else dict(label="N to N + S")
        ax.bar(x, size, bottom=n, color=GREY, alpha=0.25, width=0.5, **first)
        ax.hlines(n + 1, x - 0.35, x + 0.35, color="black", label=None if x else "N + 1")
        ax.scatter(x, vectors, color="black", marker="x", s=50, **known)
        ax.scatter(x, rank, color=orange, marker=square, s=45, **known)
    ax.scatter([], [], color="black", marker="x", label="vectors that a block reads")
    ax.scatter([], [], color=orange, marker=square, label="semiseparable rank")
    names = [f"L = {L}\nS = {S}\nN = {L // S}" for L, S, *_ in rows]
    ax.set_xticks(range(len(rows)), names, fontsize=11)
    ax.legend(frameon=False, fontsize=10, loc="upper left")
    ax.set_ylim(0, max(L // S + S for L, S, *_ in rows) + 7)
    return figure
