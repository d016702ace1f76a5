"""Pictures of notebook 02: what Full AttnRes has in common with attention over tokens, its
reads in numbers, and how they change in training."""

from collections.abc import Mapping, Sequence

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from attnres_ref.plots import GREY, STYLES, heat_map, log_colour_bar, log_share, sheet
from attnres_ref.plots.schematic import PAPER, written


def duality() -> Figure:
    """Time runs to the right and depth upwards: one state above, a look at all below."""
    _, blue, _ = STYLES["prenorm"]
    _, green, _ = STYLES["full"]
    figure = sheet(6.4, 5.4)
    time, depth = ["$x_1$", "$x_2$", "$x_3$", "$x_4$"], [f"$v_{i}$" for i in range(4)]
    panels = (
        ("RNN: one state over time", False, time, "step 5", GREY),
        ("PreNorm: one sum over depth", True, depth, "layer 3", blue),
        ("attention: a look at every step", False, time, "step 5", GREY),
        ("Full AttnRes: a look at every layer", True, depth, "layer 3", green),
    )
    for i, (ax, panel) in enumerate(zip(figure.subplots(2, 2).flat, panels)):
        title, upwards, names, reader, colour = panel
        ax.set_title(title, fontsize=11)
        ax.set(xlim=(-0.6, 4.7), ylim=(-0.6, 4.7), xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
        _history(ax, names, reader, colour, upwards, keeps_all=i > 1)
    return figure


def _history(ax, names, reader, colour, upwards: bool, keeps_all: bool) -> None:
    """What was written, in order, and how a later reader gets at it."""
    def at(along, across):
        return (3.3 - across, along) if upwards else (along, 0.6 + across)

    def line(start, end, width=1.8):
        look = dict(arrowstyle="-|>", color=colour, linewidth=width, shrinkA=11, shrinkB=11)
        ax.annotate("", at(*end), at(*start), arrowprops=look)

    def box(place, text, **look):
        ax.text(*at(*place), text, ha="center", va="center", fontsize=11,
                bbox=dict(boxstyle="round,pad=0.3", edgecolor=GREY, **look))

    end = (4, 2.3)
    for i, name in enumerate(names):
        box((i, 0), name, facecolor=PAPER)
        if keeps_all:
            line((i, 0), end)
            continue
        line((i, 0), (i, 1.3))
        ax.plot(*at(i, 1.3), "o", color=colour, markersize=9)
        line((i, 1.3), (i + 1, 1.3) if i + 1 < len(names) else end, width=3)
    box(end, reader, facecolor="white")


def worked_reads(rows: Sequence[Sequence[float]], queries: Sequence[Sequence[float]]):
    """The weights of every read in numbers, a row for each, with its query beside it."""
    green = LinearSegmentedColormap.from_list("full", ["white", STYLES["full"][1]])
    figure, last = sheet(6.8, 4.6), len(rows) - 1
    ax = figure.subplots()
    grid = [list(row) + [0] * (last + 1 - len(row)) for row in rows]
    ax.imshow(grid, cmap=green, vmin=0, vmax=1, aspect="auto")
    for y, (row, query) in enumerate(zip(rows, queries)):
        for x, weight in enumerate(row):
            ax.text(x, y, written(weight), ha="center", va="center", fontsize=11)
        text = ", ".join(map(str, query))
        ax.text(last + 0.8, y, f"({text})", va="center", fontsize=11)
        ax.plot([y + 0.5] * 2, [y - 0.5, y + 0.5], color=GREY, linewidth=1)
    ax.text(last + 0.8, -0.9, "query", color=GREY, fontsize=11)
    ax.set_xticks(range(last + 1), [f"$v_{i}$" for i in range(last + 1)], fontsize=12)
    ax.set_yticks(range(last + 1), [*range(last), "final"], fontsize=11)
    ax.set_ylabel("reading layer", fontsize=11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def moments(observed: Mapping[int, Sequence[Sequence[float]]],
            sources: Sequence[str]) -> Figure:
    """Weights of every read over the plain mean at four moments. observed: step -> rows;
    sources: a tick for each column."""
    figure = sheet(6.8, 6.2)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (step, rows) in zip(grid.flat, observed.items()):
        image = heat_map(ax, [*map(log_share, rows)], vmin=-2, vmax=2)
        ax.set_title(f"step {step}", loc="left", fontsize=12)
        ticks = range(0, len(rows), 4)
        names = ["final" if tick == len(rows) - 1 else str(tick) for tick in ticks]
        ax.set_yticks(ticks, names, fontsize=11)
        ax.set_xticks(range(len(sources)), sources, fontsize=9)
    figure.supxlabel("source", fontsize=11)
    figure.supylabel("reading layer", fontsize=11)
    log_colour_bar(figure, image, list(grid.flat), "weight / plain mean", shrink=0.6)
    return figure
