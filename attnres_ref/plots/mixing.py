"""Figures of notebook 07, in the style of attnres_ref.plots."""

import math
from collections.abc import Mapping, Sequence

from attnres_ref.plots import GREY, STYLES, axes, heat_map, in_a_row, log_colour_bar, sheet

BAR = dict(label="weight / mean of its row", shrink=0.6, aspect=30)


def of_plain_mean(row: Sequence[float]) -> list[float]:
    """log2 of each entry over the mean of its row; a read that sums its sources and one
    that averages them look alike. Negative entries are drawn as tiny ones; what is not
    read at all, zero, as where there is no source."""
    mean = sum(map(abs, row)) / len(row)
    return [math.log2(max(w / mean, 1e-6)) if w else math.nan for w in row]


def label(record: dict) -> str:
    """A recorded run's residual in words, with its window, or its block size if not 4."""
    model = record["model"]
    name = STYLES[model["residual"]][0]
    if model["residual"] == "window":
        return f"{name}, W={model['window']}"
    usual = model["residual"] != "block" or model["block_size"] == 4
    return name if usual else f"{name}, S={model['block_size']}"


def gallery(matrices: Mapping[str, Sequence[Sequence[float]]], columns: int):
    """Small multiples of mixing matrices, Fig. 9: row = reading layer, column = source."""
    n_rows = math.ceil(len(matrices) / columns)
    figure = sheet(2.1 * columns + 1, 2.1 * n_rows)
    grid = figure.subplots(n_rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (name, rows) in zip(grid.flat, matrices.items()):
        image = heat_map(ax, [*map(of_plain_mean, rows)], aspect="auto")
        ax.set_title(name, loc="left", fontsize=9)
    log_colour_bar(figure, image, grid, **BAR)
    return figure


def heat_maps(maps: Mapping[str, Mapping[str, Sequence[float]]]):
    """Heat maps with named rows in one figure, Fig. 8: title -> name of read -> weights."""
    figure = sheet(4.2 * len(maps) + 0.8, 3.4)
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, rows) in zip(grid, maps.items()):
        image = heat_map(ax, [*map(of_plain_mean, rows.values())], aspect="auto")
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="source (0 = embedding)", ylabel="reading layer")
    log_colour_bar(figure, image, grid, **BAR)
    return figure


def ranks(rows: Sequence[tuple], title: str):
    """Semiseparable ranks. rows: (name, residual, bound, ranks, rough ranks) each; a bar
    to the bound, a filled marker at the largest rank, an open one at the median rough."""
    figure, ax = axes(title, "semiseparable rank", "", height=0.28 * len(rows) + 1.2)
    ax.grid(axis="y", visible=False)
    for y, (_, residual, bound, tight, rough) in enumerate(rows):
        _, colour, marker = STYLES[residual]
        ax.barh(y, bound, color=GREY, alpha=0.18, height=0.7)
        middle = sorted(rough)[len(rough) // 2]
        ax.scatter(middle, y, s=90, facecolors="none", edgecolors=GREY)
        ax.scatter(max(tight), y, s=30, color=colour, marker=marker, zorder=3)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, None)
    return figure


def importance(panels: Mapping[str, Mapping[str, Sequence[tuple]]], xlabels: Sequence[str]):
    """Loss increase of a lost source against something measured of it. panels: title ->
    kind of source -> points (x, increase)."""
    looks = ("#D55E00", "o"), ("black", "^"), (GREY, ".")
    size, ylabel = (4.6 * len(panels), 3.8), "loss increase without it (nats per byte)"
    figure, grid = in_a_row(panels, size, "", ylabel, fontsize=11, loc="left")
    for ax, kinds, xlabel in zip(grid, panels.values(), xlabels):
        for (kind, points), (colour, marker) in reversed([*zip(kinds.items(), looks)]):
            look = dict(color=colour, marker=marker, s=26, alpha=0.7, label=kind)
            ax.scatter(*zip(*points), **look)
        ax.set(xlabel=xlabel, xscale="log")
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.axhline(0, color="black", linewidth=0.6)
    grid[0].legend(frameon=False, loc="lower left")
    return figure
