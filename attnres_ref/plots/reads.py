"""Where layers read, after training: notebooks 02 and 03."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.plots import heat_map, sheet


def by_kind(rows: Sequence[Sequence[float]], title: str, sources: Sequence[str],
            block_size: int = 1) -> Figure:
    """Weights as Fig. 8 draws them, the reads of attention layers (and the final read)
    apart from those of MLPs. rows: of all L + 1 reads; sources: a tick for each column.
    Partial sums, which blocks of more than one layer have, get an outline. The darkest
    colour is the largest weight from read 2 on, and whatever is more."""
    figure = sheet(7.4, 3.9, title)
    panels = figure.subplots(1, 2)
    reads = list(range(len(rows)))
    # The first two reads have little to choose from: they would set the scale for all.
    largest = max(float(w) for row in rows[2:] for w in row)
    names = "attention layers and the final read", "MLPs"
    for ax, name, chosen in zip(panels, names, (reads[::2], reads[1::2])):
        weights = [list(rows[read]) for read in chosen]
        weights = [row + [math.nan] * (len(sources) - len(row)) for row in weights]
        image = heat_map(ax, weights, "magma_r", 0, largest, aspect="auto")
        ax.set_title(name, fontsize=10)
        for row, read in enumerate(chosen):
            if read % block_size:                          # its block is open
                corner = len(rows[read]) - 1.47, row - 0.47
                look = dict(fill=False, edgecolor="#56B4E9", linewidth=2)
                ax.add_patch(Rectangle(corner, 0.94, 0.94, **look))
        labels = ["final" if read == len(rows) - 1 else str(read) for read in chosen]
        ax.set_yticks(range(len(chosen)), labels)
        ax.set_xticks(range(len(sources)), sources)
        ax.set_xlabel("source")
    panels[0].set_ylabel("reading layer")
    figure.colorbar(image, ax=panels, label="weight", shrink=0.9, extend="max")
    return figure
