"""Sources of Block AttnRes as bars, notebook 03: squares melt as block sizes grow."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from attnres_ref.plots import STYLES, schematic, sheet


def reads(n_layers: int, block_size: int) -> list[list[list[int]]]:
    """For each of the L + 1 reads its sources (Eq. 6), each as the numbers of the outputs
    that it sums; 0 is the embedding."""
    starts = range(1, n_layers + 1, block_size)
    return [
        [[0], *([*range(i, min(i + block_size, read + 1))] for i in starts if i <= read)]
        for read in range(n_layers + 1)
    ]


def melting(block_sizes: Sequence[int], n_layers: int = 8) -> Figure:
    """All reads for four block sizes, a panel each."""
    figure = sheet(6.4, 6.6)
    grid = figure.subplots(2, 2)
    for ax, block_size in zip(grid.flat, block_sizes):
        rows = reads(n_layers, block_size)
        schematic.staircase(ax, rows, block_size, _colour(block_size))
        name = " (Full AttnRes)" if block_size == 1 else ""
        ax.set_title(f"S = {block_size}{name}", fontsize=12)
    for ax in grid[:, 0]:
        ax.set_ylabel("read")
    for ax in grid[1]:
        ax.set_xlabel("output (0 = embedding)")
    return figure


def frame(block_size: int, n_layers: int = 8) -> Figure:
    """All reads for one block size, each bar under its name."""
    figure, rows = sheet(5.4, 5.4), reads(n_layers, block_size)
    ax = figure.subplots()
    schematic.staircase(ax, rows, block_size, _colour(block_size))
    for row, sources in enumerate(rows):
        for n, outputs in enumerate(sources):
            i = len(outputs)
            name = f"$b_{n}$" if n == 0 or i == block_size else f"$b_{n}^{i}$"
            ax.text((outputs[0] + outputs[-1]) / 2, row, name, ha="center", va="center",
                    fontsize=12, bbox=dict(facecolor="white", edgecolor="none", pad=1))
    ax.set_title(f"S = {block_size}: {len(rows[-1])} vectors at the end", fontsize=13)
    ax.set(xlabel="output (0 = embedding)", ylabel="read")
    return figure


def _colour(block_size: int) -> str:
    return STYLES["full" if block_size == 1 else "block"][1]
