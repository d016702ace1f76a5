"""What a layer reads of each output, for PreNorm, Full and Block: notebook 01's preview.

The weights are those of the worked example, `schematic.TOKEN`: each reader scores its
sources with a query from `schematic.QUERIES`, which are made up, as the vectors are.
"""

import math
from collections.abc import Sequence

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.plots import STYLES, sheet
from attnres_ref.plots.schematic import QUERIES, TOKEN, rms

Read = Sequence[tuple[Sequence[int], float]]   # per source: its outputs, its weight


def reads(block_size: int | None) -> list[Read]:
    """What each of the nine readers takes, in blocks of so many layers; None: PreNorm,
    whose one source is the sum of all outputs, at weight 1."""
    found = []
    for layer, query in enumerate(QUERIES):
        written = range(1, layer + 1)
        if block_size is None:
            found.append([(range(layer + 1), 1.0)])
            continue
        starts = written[::block_size]
        sources = [range(1), *(written[i - 1 : i - 1 + block_size] for i in starts)]
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
    last = len(rows) - 1
    for y, read in enumerate(rows):
        for outputs, weight in read:
            look = dict(facecolor=_shade(colour, weight), edgecolor=colour, linewidth=1)
            corner = outputs[0] - 0.44, y - 0.44
            ax.add_patch(Rectangle(corner, len(outputs) - 0.12, 0.88, **look))
    ax.set(xlim=(-0.6, last + 0.6), ylim=(last + 0.6, -0.6), aspect="equal", anchor="W")
    ax.set_xticks(range(0, last + 1, 2), [f"$v_{i}$" for i in range(0, last + 1, 2)])
    ax.set_yticks(range(0, last + 1, 2), [*range(0, last, 2), "final"])
    ax.tick_params(length=0, labelsize=11)
    ax.spines[:].set_visible(False)
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


def _shade(colour: str, weight: float) -> list[float]:
    """White for nothing, the colour at half strength for a weight of one half or more."""
    return [1 - 0.65 * min(2 * weight, 1) * (1 - part) for part in to_rgb(colour)]
