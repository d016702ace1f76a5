"""Figures of the hybrid, notebook 11: what a memory recalls, and what routers do."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from attnres_ref.plots import GREY, axes, heat_map, log_colour_bar, log_share, sheet
from attnres_ref.plots.study import by_layer

MEMORIES = ((GREY, ":"), ("#56B4E9", "--"), ("#D55E00", "-"))      # no residual's colours


def recall(errors: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Error of reading a pair back by its age in writes, one line for each of up to
    three memories; 1 is what an empty memory gives."""
    figure, ax = axes(title, "writes since the pair was stored", "error / size of value")
    ax.axhline(1, color="black", linewidth=0.8)
    for (name, values), (colour, line) in zip(errors.items(), MEMORIES):
        ax.plot(range(len(values)), values, color=colour, linestyle=line, lw=2, label=name)
    ax.text(0.99 * len(values), 0.98, "an empty memory", ha="right", va="top", fontsize=9)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="lower right")
    return figure


def expert_loads(
    panels: Mapping[str, Sequence[Sequence[float]]], layers: Sequence[int], title: str
) -> Figure:
    """Each expert's share of the tokens beside the equal share, on a logarithmic scale:
    white is equal, purple more, orange less. panels: title -> [MoE layers][E];
    layers: the MoE layers' numbers."""
    figure = sheet(2.1 * len(panels) + 1.6, 3.3, title)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (panel, loads) in zip(grid, panels.items()):
        image = heat_map(ax, [*map(log_share, loads)], aspect="auto")
        ax.set_title(panel, fontsize=10)
        ax.set(xlabel="expert", xticks=range(len(loads[0])))
    grid[0].set(ylabel="MoE in layer")
    grid[0].set_yticks(range(len(layers)), layers)
    log_colour_bar(figure, image, list(grid), "load / equal load")
    return figure


def by_layer_name(panels, names: Sequence[str], title: str, ylabel: str, log: bool = True):
    """plots.study.by_layer with a name under every layer: what kind it is. One more
    value than names is the final read."""
    figure = by_layer(panels, title, ylabel, log)
    for ax, residuals in zip(figure.axes, panels.values()):
        n_values = len(next(iter(residuals.values()))[0])
        labels = [*names, "final"][:n_values]
        ax.set_xticks(range(n_values), labels, rotation=90, fontsize=7)
    return figure
