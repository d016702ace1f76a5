"""What a layer reads of each output, for PreNorm, Full and Block: notebook 01's preview.

The weights are those of the worked example, `schematic.TOKEN`: each reader scores its
sources with a query from `schematic.QUERIES`, which are made up, as the vectors are.
"""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.plots import STYLES, blocks, sheet
from attnres_ref.plots.schematic import QUERIES, TOKEN, rms, tint, triangle_of_reads

Read = Sequence[tuple[Sequence[int], float]]   # per source: its outputs, its weight


def reads(block_size: int | None) -> list[Read]:
    """What each of the nine readers takes, in blocks of so many layers; None: PreNorm,
    whose one source is the sum of all outputs, at weight 1."""
    found = []
    for layer, query in enumerate(QUERIES):
        if block_size is None:
            found.append([(range(layer + 1), 1.0)])
            continue
        sources = blocks.reads(layer, block_size)[-1]
        values = [[sum(TOKEN[o][i] for o in outputs) for i in range(4)]
                  for outputs in sources]
        exps = [math.exp(sum(w * x for w, x in zip(query, v)) / rms(v)) for v in values]
        found.append([(o, e / sum(exps)) for o, e in zip(sources, exps)])
    return found


def triptych(block_size: int = 4) -> Figure:
    """The three mixing matrices; on PreNorm's the three faults of section 2."""
    figure = sheet(6.4, 7.2)
    ax = figure.subplot_mosaic(
        [["prenorm", "prenorm"], ["full", "block"]], height_ratios=(1.35, 1)
    )
    for name, size in (("prenorm", None), ("full", 1), ("block", block_size)):
        _matrix(ax[name], reads(size), name)
    ax["block"].set_title(f"Block AttnRes, S = {block_size}", loc="left", fontsize=12)
    _faults(ax["prenorm"])
    return figure


def _matrix(ax, rows: Sequence[Read], residual: str) -> None:
    """Rows are readers, columns outputs; a source is one bar, the darker the heavier."""
    label, colour, _ = STYLES[residual]
    for y, read in enumerate(rows):
        for outputs, weight in read:
            shade = tint(colour, 0.65 * min(2 * weight, 1))   # a half is dark, and more
            look = dict(facecolor=shade, edgecolor=colour, linewidth=1)
            corner = outputs[0] - 0.44, y - 0.44
            ax.add_patch(Rectangle(corner, len(outputs) - 0.12, 0.88, **look))
    triangle_of_reads(ax, len(rows))
    ax.set_anchor("W")
    ax.set_xticks(range(0, len(rows), 2), [f"$v_{i}$" for i in range(0, len(rows), 2)])
    ax.tick_params(labelsize=11)
    ax.set_title(label, loc="left", fontsize=12)
    ax.set_ylabel("reading layer", fontsize=11)


def _faults(ax) -> None:
    """Ones and row sums on PreNorm's matrix, its three faults beside them."""
    last = len(QUERIES) - 1
    sums = last + 1.7
    for y in range(last + 1):
        for x in range(y + 1):
            ax.text(x, y, "1", ha="center", va="center", fontsize=11)
        ax.text(sums, y, str(y + 1), ha="center", va="center", fontsize=11)
    ax.text(sums, -0.8, "sum", ha="center", fontsize=11)
    frames = (-0.5, 2.5, 4, 1), (1.5, 1.5, 1, last - 1), (sums - 0.5, -0.5, 1, last + 1)
    for x, y, width, height in frames:
        look = dict(facecolor="none", edgecolor="black", linewidth=2, zorder=3)
        ax.add_patch(Rectangle((x, y), width, height, **look))
    for x, y, words in (
        (3.8, 3, "1. no selection:\na row is all ones"),
        (2.8, 1.3, "2. no way back:\na column stays 1"),
        (sums + 0.8, 4, "3. growth:\na row sums to\nits length"),
    ):
        ax.text(x, y, words, va="center", fontsize=11)
    ax.set_xlim(-0.6, sums + 5)
