"""Figures of a stream under somebody else's decoder: notebook 12."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from attnres_ref.plots import GREY, STYLES, heat_map, in_a_row, log_colour_bar, plain, sheet
from attnres_ref.study.intervals import Difference

AFTER = "step after the conversion"
PARTS = ("norm", "attention", "norm", "MLP")       # of a block, from below


def two_blocks() -> Figure:
    """A block of a decoder as it was written, and the same parts on a stream."""
    figure = sheet(8.2, 4.1)
    was, now = figure.subplots(1, 2)
    for ax, title in ((was, "as it was written: two sums"), (now, "on a stream: no sum")):
        ax.set(xlim=(0, 6), ylim=(-0.2, 6.6), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, loc="left", fontsize=10)
        for y, part in zip((1.0, 1.9, 3.9, 4.8), PARTS):
            _box(ax, 4.1, y, part)
    _, blue, _ = STYLES["prenorm"]
    _arrow(was, (1.4, 0), (1.4, 6.4), blue, linewidth=3)
    was.text(1.15, 0.2, "h", color=blue, ha="right", fontsize=12)
    for bottom in (0.6, 3.5):
        _arrow(was, (1.4, bottom), (3.2, bottom + 0.4), blue)
        _arrow(was, (3.2, bottom + 1.5), (1.55, bottom + 2.1), blue)
        was.plot(1.4, bottom + 2.15, marker="o", markersize=15, color="white",
                 markeredgecolor=blue)
        was.text(1.4, bottom + 2.13, "+", ha="center", va="center", color=blue, fontsize=13)
    _on_a_stream(now)
    return figure


def _on_a_stream(ax) -> None:
    """Squares are sources; a layer reads all that lie below it and writes one more."""
    _, green, _ = STYLES["full"]
    heights = (0.2, 2.9, 5.9)
    for y, name in zip(heights, ("embedding", "attention's\noutput", "MLP's\noutput")):
        ax.add_patch(FancyBboxPatch((1.4, y - 0.2), 0.4, 0.4, boxstyle="round,pad=0.02",
                                    facecolor=green, edgecolor="none"))
        ax.text(1.25, y, name, ha="right", va="center", fontsize=9, color=GREY)
    for n_sources, bottom in ((1, 0.6), (2, 3.5)):
        for y in heights[:n_sources]:
            ax.plot([1.85, 2.7], [y, bottom + 0.3], color=green, linewidth=1.2)
        _arrow(ax, (2.7, bottom + 0.3), (3.2, bottom + 0.4), green)
        ax.text(2.8, bottom + 0.05, "read", color=green, fontsize=9, va="top")
        _arrow(ax, (3.2, bottom + 1.5), (1.9, heights[n_sources]), green)
        ax.text(2.7, bottom + 1.95, "write", color=green, fontsize=9)


def _box(ax, x, y, text) -> None:
    ax.add_patch(FancyBboxPatch((x - 0.85, y - 0.3), 1.7, 0.6, boxstyle="round,pad=0.02",
                                facecolor="#f2f2f2", edgecolor=GREY))
    ax.text(x, y, text, ha="center", va="center", fontsize=9)


def _arrow(ax, start, end, colour, **look) -> None:
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=colour, **look))


def before_and_after(maps: Mapping[str, Sequence[Sequence[float]]], title: str) -> Figure:
    """Weights of every read over its plain mean, a triangle for each name; rows of log2 as
    `plots.log_share` makes them."""
    figure = sheet(3.1 * len(maps) + 0.9, 3.4, title)
    panels = list(figure.subplots(1, len(maps), sharey=True))
    for ax, (name, rows) in zip(panels, maps.items()):
        image = heat_map(ax, rows)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("source (0 = embedding)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    n_reads = len(next(iter(maps.values())))
    ticks = range(0, n_reads, 4)
    panels[0].set_yticks(ticks, ["final" if t == n_reads - 1 else str(t) for t in ticks])
    panels[0].set_ylabel("reading layer")
    log_colour_bar(figure, image, panels, "weight / plain mean")
    return figure


def kept(bytes_of: Mapping[str, Mapping[str, int]], title: str) -> Figure:
    """Kept for the backward over PreNorm's. bytes_of: way -> residual -> bytes."""
    figure, panels = in_a_row(bytes_of, (7.6, 3.0), title, "kept / PreNorm's")
    for ax, found in zip(panels, bytes_of.values()):
        for x, (name, size) in enumerate(found.items()):
            ratio = size / found["prenorm"]
            ax.bar(x, ratio, color=STYLES[name][1], width=0.7)
            ax.text(x, ratio, f"{ratio:.2f}x", ha="center", va="bottom", fontsize=9)
        labels = [STYLES[name][0].removesuffix(" AttnRes") for name in found]
        ax.set_xticks(range(len(found)), labels, fontsize=9)
        ax.axhline(1, color=GREY, linewidth=0.8)
        ax.grid(visible=False)
    panels[0].margins(y=0.12)
    return figure


def arms(curves: Mapping[str, Sequence], title: str) -> Figure:
    """Mean loss by step, [[step, loss], ...] for each arm; dashed where the name ends in
    `_from_start`."""
    figure = sheet(6.4, 3.4, title)
    ax = figure.subplots()
    plain(ax)
    for name, points in curves.items():
        ax.plot(*zip(*points), **look(name), markersize=4)
    ax.set(xlabel=AFTER, ylabel="validation loss (nats per byte)")
    ax.legend(frameon=False, fontsize=8)
    return figure


def look(name: str) -> dict:
    """Of an arm: its residual's colour and marker, dashed and hollow from the start."""
    residual = name.removesuffix("_from_start")
    label, colour, marker = STYLES[residual]
    found = dict(color=colour, marker=marker, linestyle="-", label=f"{label}, converted")
    if residual != name:
        found |= dict(linestyle="--", markerfacecolor="white",
                      label=f"{label} from the start")
    return found | (dict(label="PreNorm goes on") if name == "prenorm" else {})


def retrofit(gaps: Mapping[str, Sequence[tuple[int, Difference]]], title: str) -> Figure:
    """Difference in loss against PreNorm by step, with 95 % intervals; arm -> points."""
    figure = sheet(6.4, 3.6, title)
    ax = figure.subplots()
    plain(ax)
    for name, points in gaps.items():
        steps, found = zip(*points)
        means, halves = [d.mean for d in found], [d.half_width for d in found]
        ax.plot(steps, means, **look(name))
        low, high = ([m + s * h for m, h in zip(means, halves)] for s in (-1, 1))
        colour = look(name)["color"]
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.axhline(0, color=STYLES["prenorm"][1], linewidth=1.5)
    ax.set(xlabel=AFTER, ylabel="loss - PreNorm's (nats per byte)")
    ax.legend(frameon=False, fontsize=8)
    return figure


def queries(sizes: Mapping[str, Sequence[tuple]], title: str) -> Figure:
    """RMS of each read's query by step, a line a read: residual -> [(step, sizes), ...]."""
    figure, panels = in_a_row(
        [STYLES[name][0] for name in sizes], (6.4, 2.9), title, "RMS of a query"
    )
    for ax, (name, points) in zip(panels, sizes.items()):
        steps, rows = zip(*points)
        for read in zip(*rows):
            ax.plot(steps, read, color=STYLES[name][1], linewidth=0.8, alpha=0.7)
        ax.set_xlabel(AFTER)
    return figure
