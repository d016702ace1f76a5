"""Schematics of notebooks 00 to 04: streams, reads, writes and blocks, drawn by code.

One example runs through them all, `TOKEN`: a single token of four numbers on its way
through L = 8 layers. A vector is a strip of four cells, darker where a number is larger,
and a line from a source to a reader is as wide as the reader's weight on that source.
"""

import math
from collections.abc import Iterable, Sequence

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from attnres_ref.plots import GREY, STYLES, sheet

# v_0, the embedding, then v_1 ... v_8, what the eight layers write. Each has the RMS 1 and
# is its own key therefore, but for v_4, which is loud: its RMS is 2.
TOKEN = (
    (2, 0, 0, 0),
    (1, 1, 1, 1), (0, 2, 0, 0), (1, 1, -1, 1), (0, 0, 4, 0),
    (1, -1, 1, 1), (0, 0, 0, 2), (1, 1, 1, -1), (0, 2, 0, 0),
)
# Made-up queries for its reads: of layers 0 to 7 and of the final read.
QUERIES = (
    (0, 0, 0, 0), (0, 0, 0, 0), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0),
    (1, 1, 1, 0), (0, -1, 1, 0), (-1, 1, 0, 1), (0, 1, -1, 1),
)
PROBE = "#D55E00"                      # of marks that say where something is measured
PAPER = "#f4f4f4"                      # of boxes that are neither a vector nor a stream


def loop(n_layers: int = 3) -> Figure:
    """begin, read and write: a stream as a band, and the layers that touch it."""
    figure, ax = canvas(6.2, 3.1, (-1.1, 2 * n_layers + 1.6), (-0.35, 3.2))
    end = 2 * n_layers + 0.9
    ax.add_patch(Rectangle((-0.2, 2.2), end + 0.2, 0.5, facecolor="#d9d9d9"))
    ax.text(end / 2 - 0.2, 2.45, "the stream", ha="center", va="center", fontsize=12)
    arrow(ax, (-0.9, 2.45), (-0.22, 2.45), "begin", (-0.6, 2.85))
    for layer in range(n_layers):
        x = 2 * layer + 0.2
        box(ax, (x + 0.6, 0.7), ("attention", "MLP")[layer % 2], f"layer {layer}")
        arrow(ax, (x + 0.2, 2.15), (x + 0.2, 1.1), "read", (x + 0.02, 1.62), 90)
        arrow(ax, (x + 1.0, 1.1), (x + 1.0, 2.15), "write", (x + 1.18, 1.62), 90)
    arrow(ax, (end - 0.35, 2.15), (end - 0.35, 1.1), "final\nread", (end + 0.2, 1.62))
    box(ax, (end - 0.35, 0.7), "head", width=0.9)
    return figure


def probes() -> Figure:
    """Where notebook 04 looks at a layer: 1 what it reads, 2 what it writes, 3 the gradient
    of its parameters, which comes back from the loss."""
    figure, ax = canvas(6.6, 3.2, (-1.9, 7.2), (-0.75, 3.1))
    ax.add_patch(Rectangle((-1.0, 2.5), 8.0, 0.55, facecolor="#d9d9d9"))
    ax.text(3.0, 2.77, "the stream", ha="center", va="center", fontsize=12)
    box(ax, (2.0, 0.55), "layer $l$", width=2.4)
    box(ax, (6.3, 0.55), "head, loss", width=1.5)
    arrow(ax, (1.3, 2.45), (1.3, 0.95))
    arrow(ax, (2.7, 0.95), (2.7, 2.45))
    arrow(ax, (6.3, 2.45), (6.3, 0.95))
    arrow(ax, (5.45, 0.55), (3.3, 0.55), color=PROBE, linestyle="--")
    for number, place, ha, at, words in (
        ("1", (1.3, 1.7), "right", (0.85, 1.7), "what is read\n$h_l$"),
        ("2", (2.7, 1.7), "left", (3.15, 1.7), "what is written\n$f_l(h_l)$"),
        ("3", (4.4, 0.55), "center", (4.4, -0.25), "gradient of\nits parameters"),
    ):
        ax.plot(*place, "o", ms=19, mfc="white", mec=PROBE, mew=2, zorder=3)
        ax.text(*place, number, ha="center", va="center", fontsize=12, color=PROBE)
        ax.text(*at, words, ha=ha, va="center", fontsize=12)
    return figure


def running_sum(vectors: Sequence[Sequence[float]] = TOKEN) -> Figure:
    """PreNorm's stream as an arrow as high as the RMS of the sum in it. vectors: v_0 and
    what each layer writes; below it the writes, above it the sum that is read next."""
    _, blue, _ = STYLES["prenorm"]
    sums = [[sum(column) for column in zip(*vectors[: n + 1])] for n in range(len(vectors))]
    last = len(vectors) - 1
    figure, ax = canvas(6.6, 4.6, (-1.35, last + 1.0), (-1.3, 8.0))
    middle, sizes = 3.65, [0.16 * rms(v) for v in sums]    # of the arrow
    edge = [(x, middle + size) for x, size in enumerate(sizes)]
    edge += [(last + 0.35, middle + sizes[-1]), (last + 0.8, middle)]
    mirror = [(x, 2 * middle - y) for x, y in reversed(edge)]
    ax.add_patch(Polygon([*edge, *mirror], facecolor=tint(blue), edgecolor="none"))
    for x, (wrote, total) in enumerate(zip(vectors, sums)):
        strip(ax, (x, 7.4), total, edge=blue)
        strip(ax, (x, 2.05), wrote)
        arrow(ax, (x, 2.4), (x, middle - sizes[x]))
        ax.text(x, middle, f"{rms(total):.1f}", ha="center", va="center", fontsize=10)
        ax.text(x, -0.4, f"$v_{x}$", ha="center", va="center", fontsize=12)
        ax.text(x, -1.0, "emb." if not x else "MA"[x % 2], ha="center", va="center",
                fontsize=10, color=GREY)
    rows = {"sum,\nread\nnext": 6.5, "its\nRMS": middle, "what is\nwritten": 1.15}
    for words, y in rows.items():
        ax.text(-0.55, y, words, ha="right", va="center", fontsize=10, color=GREY)
    return figure


def fan(sources: Sequence[Sequence[float]], weights: Sequence[float], title: str,
        residual: str = "full", names: Sequence[str] = ()) -> Figure:
    """One read: its sources as strips, lines as wide as their weights, and the mix.
    names: of the sources, v_0, v_1, ... without them."""
    _, colour, _ = STYLES[residual]
    n = len(sources)
    figure, ax = canvas(6.2, 4.0, (-0.8, max(n, 4) - 0.2), (-0.9, 6.6), title)
    middle = (n - 1) / 2
    mixed = [sum(w * v[i] for w, v in zip(weights, sources)) for i in range(4)]
    for i, (source, weight) in enumerate(zip(sources, weights)):
        ax.plot([i, middle], [1.85, 4.3], color=colour, linewidth=14 * weight + 0.4,
                alpha=0.75, zorder=0.5)
        ax.text(i + 0.25 * (middle - i), 2.55, f"{weight:.2f}", ha="center", va="center",
                fontsize=11, bbox=dict(facecolor="white", edgecolor="none", pad=1))
        strip(ax, (i, 1.85), source)
        name = names[i] if names else f"$v_{i}$"
        ax.text(i, -0.6, name, ha="center", va="center", fontsize=12)
    strip(ax, (middle, 6.1), mixed, edge=colour)
    ax.text(middle + 0.45, 5.25, "what is read", va="center", fontsize=11, color=GREY)
    return figure


def one_read(kinds: Iterable[tuple[str, Sequence[Sequence[int]], Sequence[float]]],
             of: str) -> Figure:
    """The same read in several residual connections, one below another. kinds: residual,
    its sources as lists of the outputs that each sums up, and their weights, which give
    the widths of the lines. A bar is one source: what lies in it cannot be told apart."""
    kinds = list(kinds)
    figure = sheet(6.2, 1.75 * len(kinds))
    panels = figure.subplots(len(kinds), squeeze=False).flat
    for ax, (residual, sources, weights) in zip(panels, kinds):
        label, colour, _ = STYLES[residual]
        n = 1 + max(map(max, sources))
        _bare(ax, (-0.7, n + 1.6), (-0.75, 2.05), label)
        for outputs, weight in zip(sources, weights):
            middle = (outputs[0] + outputs[-1]) / 2
            ax.plot([middle, n + 0.6], [0.36, 1.5], color=colour, alpha=0.75,
                    linewidth=10 * weight + 0.4, zorder=0.5)
            bar(ax, outputs, 0, colour)
        box(ax, (n + 0.6, 1.35), of, width=1.7)
    return figure


def staircase(ax, reads: Sequence[Sequence[Sequence[int]]], block_size: int, colour: str):
    """All reads of a block stream, a row each; a bar is a source, hatched while its block
    is open. reads: for each read its sources, as lists of the outputs that each sums."""
    for row, sources in enumerate(reads):
        for n, outputs in enumerate(sources):
            is_open = n > 0 and len(outputs) < block_size
            bar(ax, outputs, row, colour, hatch="///" if is_open else None, name="")
    triangle_of_reads(ax, len(reads))


def triangle_of_reads(ax, n_reads: int) -> None:
    """Axes for a row of each read, the last of which is the final one, and a column of
    each output."""
    last = n_reads - 1
    rows = range(0, last, 2)
    ax.set(xlim=(-0.6, last + 0.6), ylim=(last + 0.6, -0.6), aspect="equal")
    ax.set_xticks(range(0, last + 1, 2))
    ax.set_yticks([*rows, last], [*rows, "final"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def states(rows: Sequence[tuple[str, Sequence, Sequence | None]], title: str) -> Figure:
    """What a block stream holds, a row for each moment: its label, the completed sources
    and the partial sum or None, as vectors of four numbers."""
    _, colour, _ = STYLES["block"]
    widest = max(len(completed) + 1 for _, completed, _ in rows)
    figure, ax = canvas(6.4, 0.62 * len(rows) + 0.9, (-2.1, 2.2 * widest),
                         (-len(rows) + 0.35, 1.15), title)
    for y, (label, completed, partial) in enumerate(rows):
        ax.text(-0.3, -y, label, ha="right", va="center", fontsize=11)
        for n, vector in enumerate(completed):
            strip(ax, (2.2 * n + 0.35, -y), vector, edge=colour, across=True, linewidth=2)
        x = 2.2 * len(completed) + 0.35
        if partial is None:
            ax.text(x + 0.7, -y, "None", ha="center", va="center", fontsize=11, color=GREY)
        else:
            dotted = dict(edge=colour, linestyle=":", linewidth=2)
            strip(ax, (x, -y), partial, across=True, **dotted)
    for n in range(widest):
        ax.text(2.2 * n + 1.05, 0.75, f"$b_{n}$", ha="center", va="center", fontsize=12)
    return figure


def bar(ax, outputs: Sequence[int], y: float, colour: str, hatch=None, name=None) -> None:
    """The sum of neighbouring outputs, as one bar from the first to the last."""
    first, size = outputs[0], len(outputs)
    ax.add_patch(Rectangle((first - 0.42, y - 0.36), size - 0.16, 0.72, hatch=hatch,
                           facecolor=tint(colour), edgecolor=colour, linewidth=1.2))
    for i in outputs if name is None else ():
        ax.text(i, y, f"$v_{i}$", ha="center", va="center", fontsize=11)


def strip(ax, at, vector: Sequence[float], edge: str = GREY, across=False, **look) -> None:
    """A vector as cells, the first at `at`, the others below it or beside it."""
    x, y = at
    for i, value in enumerate(vector):
        cell = (x + 0.46 * i, y) if across else (x, y - 0.6 * i)
        width, height = (0.46, 0.6) if across else (0.72, 0.6)
        shade = 1 - 0.5 * min(abs(value) / 6, 1)
        ax.add_patch(Rectangle((cell[0] - width / 2, cell[1] - height / 2), width, height,
                               facecolor=(shade,) * 3, edgecolor=edge, **look))
        ax.text(*cell, written(value), ha="center", va="center", fontsize=10)


def written(value: float) -> str:
    """At most two digits behind the point, and no needless ones: 1.5, -1, .53."""
    text = f"{round(float(value), 2):g}"
    return text.replace("0.", ".") if 0 < abs(value) < 1 else text


def rms(vector: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in vector) / len(vector))


def tint(colour: str, share: float = 0.35) -> list[float]:
    """So much of the colour, the rest white."""
    return [1 - share * (1 - part) for part in to_rgb(colour)]


def canvas(width, height, xlim, ylim, title=""):
    """A figure, in inches, and axes without ticks or frame to draw on."""
    figure = sheet(width, height)
    ax = figure.subplots()
    _bare(ax, xlim, ylim, title)
    return figure, ax


def _bare(ax, xlim, ylim, title) -> None:
    ax.set(xlim=xlim, ylim=ylim, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=12)


def box(ax, at, text, below="", width=1.6) -> None:
    """A round box around its text, and smaller words below it."""
    x, y = at
    ax.add_patch(FancyBboxPatch((x - width / 2, y - 0.35), width, 0.7, facecolor=PAPER,
                                boxstyle="round,pad=0.03", edgecolor=GREY, zorder=2))
    ax.text(x, y, text, ha="center", va="center", fontsize=11)
    ax.text(x, y - 0.65, below, ha="center", va="center", fontsize=10, color=GREY)


def arrow(ax, start, end, text="", at=(0, 0), rotation=0, **look) -> None:
    """An arrow, with its text at a place of its own."""
    look = dict(arrowstyle="-|>", color=GREY, linewidth=1.5) | look
    ax.annotate("", end, start, arrowprops=look)
    ax.text(*at, text, ha="center", va="center", fontsize=11, rotation=rotation)
