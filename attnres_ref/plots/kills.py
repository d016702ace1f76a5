"""Tests against mutants, for the arena of notebooks 02 and 03."""

from collections.abc import Mapping, Sequence

from attnres_ref.plots import GREY, sheet

KILLED, ALIVE = "#D55E00", "#F0E442"


def kill_map(kills: Mapping[str, Sequence[bool]]):
    """A row for each test, under its name, and a column for each mutant, numbered from 1:
    a cross where the test killed it. A mutant that no test killed has a column of another
    colour and a bold number."""
    killed = [any(column) for column in zip(*kills.values())]
    figure = sheet(4.2, 0.42 * len(kills) + 0.9, f"{sum(killed)} of {len(killed)} killed")
    ax = figure.subplots()
    for y, (name, row) in enumerate(kills.items()):
        ax.text(0.55, y - 0.3, name, va="bottom", fontsize=9)
        for x, kill in enumerate(row, start=1):
            ax.barh(y, 0.9, left=x - 0.45, height=0.5, edgecolor=GREY, linewidth=0.6,
                    color=KILLED if kill else "none")
            if kill:
                ax.plot(x, y, "x", color="white", markersize=5, markeredgewidth=1.5)
    ax.set_xticks(range(1, len(killed) + 1))
    for x, label in enumerate(ax.get_xticklabels(), start=1):
        if not killed[x - 1]:
            label.set_fontweight("bold")
            ax.axvspan(x - 0.5, x + 0.5, color=ALIVE, zorder=0)
    ax.set(xlim=(0.4, len(killed) + 0.6), ylim=(len(kills) - 0.6, -0.75), yticks=[])
    ax.set_xlabel("mutant" if all(killed) else "mutant (yellow and bold: alive)")
    ax.tick_params(length=0, labelsize=9)
    ax.spines[:].set_visible(False)
    return figure
