"""Figures of notebook 07, in the style of attnres_ref.plots."""

import math
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure

from attnres_ref.plots import GREY, STYLES, axes

TICKS = [-3, -2, -1, 0, 1, 2, 3]


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


def by_label(records: Sequence[dict], key) -> dict[str, list]:
    """label -> key(record) of each seed."""
    found = {}
    for record in records:
        found.setdefault(label(record), []).append(key(record))
    return found


def draw(ax, rows: Sequence[Sequence[float]]):
    """Rows of growing length, coloured by `of_plain_mean`; grey where nothing is read."""
    n_sources = max(map(len, rows))
    grid = [of_plain_mean(row) + [math.nan] * (n_sources - len(row)) for row in rows]
    colours = colormaps["PuOr"].with_extremes(bad="#e6e6e6")
    return ax.imshow(grid, colours, interpolation="nearest", aspect="auto", vmin=-3, vmax=3)


def colour_bar(figure: Figure, image, axes) -> None:
    label = "weight / mean of its row"
    bar = figure.colorbar(image, ax=axes, label=label, shrink=0.6, extend="both", aspect=30)
    bar.set_ticks(TICKS, labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])


def gallery(matrices: Mapping[str, Sequence[Sequence[float]]], columns: int = 4):
    """Small multiples of mixing matrices, Fig. 9: row = reading layer, column = source."""
    n_rows = math.ceil(len(matrices) / columns)
    figure = Figure(figsize=(2.1 * columns + 1, 2.1 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (name, rows) in zip(grid.flat, matrices.items()):
        image = draw(ax, rows)
        ax.set_title(name, loc="left", fontsize=9)
    colour_bar(figure, image, grid)
    return figure


def side_by_side(maps: Mapping[str, Mapping[str, Sequence[float]]]):
    """Heat maps with named rows in one figure, Fig. 8: title -> name of read -> weights."""
    figure = Figure(figsize=(4.2 * len(maps) + 0.8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, rows) in zip(panels, maps.items()):
        image = draw(ax, list(rows.values()))
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="source (0 = embedding)", ylabel="reading layer")
    colour_bar(figure, image, panels)
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
    looks = {0: ("#D55E00", "o"), 1: ("black", "^"), 2: (GREY, ".")}
    figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, kinds), xlabel in zip(grid, panels.items(), xlabels):
        for order, (kind, points) in reversed(list(enumerate(kinds.items()))):
            colour, marker = looks[order]
            look = dict(color=colour, marker=marker, s=26, alpha=0.7, label=kind)
            ax.scatter(*zip(*points), **look)
        ax.set(xlabel=xlabel, xscale="log")
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_title(title, loc="left", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    grid[0].set_ylabel("loss increase without it (nats per byte)")
    grid[0].legend(frameon=False, loc="lower left")
    return figure
