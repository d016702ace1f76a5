"""Notebook 05's own: at which place of the loop each variant changes something, which
sources it sees, and what the shared colours of variants mean."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from attnres_ref.plots import GREY, STYLES, sheet
from attnres_ref.plots.schematic import PAPER, arrow, box, canvas, staircase

# The residuals that change something there. Keys without RMSNorm are one idea, on Full as
# on Block, and stand there once.
PLACES = {
    "start": ("loud",),
    "recursion": ("highway", "mhc"),
    "sources": ("window", "block"),
    "scores": ("raw_keys", "input_query", "sigmoid", "static", "denseformer", "multihead"),
    "outputs": ("layerscale", "rezero"),
}
# Where the words stand, the question that is asked there, and the width of a line.
WORDS = {
    "start": ((-1.6, 8.5), "how loud?", 10),
    "recursion": ((4.6, 8.0), "what is carried on?", 20),
    "sources": ((-1.5, 3.9), "which are seen?", 16),
    "scores": ((2.9, 0.9), "with what weight?", 45),
    "outputs": ((8.4, 3.9), "at what size?", 12),
}


def places() -> Figure:
    """A layer that reads from a stream of four sources and writes a fifth, with the names
    of the variants at the place that each of them changes."""
    figure, ax = canvas(6.6, 5.2, (-3.1, 9.9), (-1.7, 8.9))
    ax.add_patch(Rectangle((-0.1, 4.9), 7.7, 1.2, facecolor="#d9d9d9"))
    for i, weight in enumerate((0.53, 0.20, 0.07, 0.20)):      # notebook 02's example
        ax.plot([1.2 * i + 0.5, 2.2], [5.1, 2.6], color=GREY, linewidth=14 * weight + 0.4,
                alpha=0.6, solid_capstyle="butt", zorder=0.5)
    for i, x in enumerate((0.5, 1.7, 2.9, 4.1, 6.4)):
        look = dict(facecolor=PAPER, edgecolor=GREY, linestyle="-" if i < 4 else ":")
        ax.add_patch(Rectangle((x - 0.42, 5.1), 0.84, 0.8, **look))
        ax.text(x, 5.5, f"$v_{i}$", ha="center", va="center", fontsize=12)
    box(ax, (2.2, 2.2), "read", width=1.4)
    box(ax, (4.4, 2.2), "layer 3", width=1.6)
    arrow(ax, (3.0, 2.2), (3.55, 2.2))
    ax.plot([5.25, 6.4], [2.2, 2.2], color=GREY, linewidth=1.5)
    arrow(ax, (6.4, 2.2), (6.4, 5.05), "write", (6.1, 3.5), 90)
    arrow(ax, (-2.3, 5.5), (-0.15, 5.5), "begin", (-1.3, 5.85))
    arrow(ax, (2.2, 6.5), (7.0, 6.5))
    for place, ((x, y), question, width) in WORDS.items():
        names = [STYLES[name][0].removeprefix("PreNorm, ") for name in PLACES[place]]
        ax.text(x, y, place, ha="center", va="center", fontsize=13, fontweight="bold")
        ax.text(x, y - 0.57, question, ha="center", va="center", fontsize=11, color=GREY)
        ax.text(x, y - 0.9, fill(", ".join(names), width), ha="center", va="top",
                fontsize=12)
    return figure


def sources_seen(panels: Mapping[str, tuple[str, Sequence[Sequence[int]]]]) -> Figure:
    """All reads, a row each, with the sources that arrive at them as squares. panels:
    title -> residual and, for each read, its sources."""
    figure = sheet(6.4, 3.5)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, (name, reads)) in zip(grid, panels.items()):
        staircase(ax, [[[i] for i in row] for row in reads], 1, STYLES[name][1])
        ax.set_title(title, loc="left", fontsize=12)
        ax.set_xlabel("source (0 = embedding)", fontsize=11)
    grid[0].set_ylabel("reading layer", fontsize=11)
    return figure


def explain_colours(figure: Figure) -> None:
    """A legend below: the colours that the variants of one kind share."""
    kinds = {
        "AttnRes with one thing changed": "sigmoid", "other residual connections": "rezero"
    }
    marks = [
        Line2D([], [], color=STYLES[name][1], marker="o", linestyle="", label=kind)
        for kind, name in kinds.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False)
