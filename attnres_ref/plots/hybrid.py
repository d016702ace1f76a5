"""Figures of notebook 11: what memories recall, what routers do, and puzzles."""

from collections.abc import Mapping, Sequence

from attnres_ref.plots import (
    GREY,
    STYLES,
    axes,
    heat_map,
    in_a_row,
    log_colour_bar,
    log_share,
    sheet,
)

MEMORIES = ((GREY, ":"), ("#56B4E9", "--"), ("#D55E00", "-"))      # no residual's colours


def recall(errors: Mapping[str, Sequence[float]], title: str):
    """Error of reading a pair back by its age in writes, one line for each of up to
    three memories; 1 is what an empty memory gives."""
    figure, ax = axes(title, "writes since the pair was stored", "error / size of value")
    ax.axhline(1, color="black", linewidth=0.8)
    for (name, values), (colour, line) in zip(errors.items(), MEMORIES):
        ax.plot(values, color=colour, linestyle=line, linewidth=2, label=name)
    ax.text(0.99 * len(values), 0.98, "an empty memory", ha="right", va="top", fontsize=9)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="lower right")
    return figure


def expert_loads(panels: Mapping, layers: Sequence[int], title: str):
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


def by_hops(panels: Mapping, title: str, chance: float | None = None):
    """Accuracies by number of hops, or gains over PreNorm where there is no `chance`, the
    accuracy of a guess. panels: title -> residual -> a Difference for each k, drawn with
    its interval, hollow if zero lies inside."""
    size = max(2.6 * len(panels) + 0.8, 5.4), 3.6
    ylabel = "accuracy on unseen puzzles" if chance else "gain in accuracy over PreNorm"
    figure, grid = in_a_row(panels, size, title, ylabel)
    for ax, residuals in zip(grid, panels.values()):
        if chance:
            ax.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="chance")
            ax.set_ylim(0, 1.03)
        else:
            ax.axhline(0, color="black", linewidth=0.8)
        for i, (name, points) in enumerate(residuals.items()):
            label, colour, marker = STYLES[name]
            aside = 0.08 * (i - (len(residuals) - 1) / 2)  # so that intervals stay apart
            hops = [k + aside for k in range(1, len(points) + 1)]
            ax.plot(hops, [p.mean for p in points], color=colour, linewidth=1)
            for k, point in zip(hops, points):
                fill = "white" if point.verdict == "cannot tell" else colour
                ax.errorbar(
                    k, point.mean, yerr=point.half_width, color=colour, marker=marker,
                    markerfacecolor=fill, ms=6, capsize=3, label=label,
                )
                label = None           # one entry in the legend
        ax.set(xlabel="hops k", xticks=range(1, len(points) + 1))
    entries = figure.axes[-1].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=4, frameon=False)
    return figure


def describe(panels: Mapping) -> str:
    """The alt text of `by_hops`: every mean."""
    parts = [
        f"{panel}, {STYLES[name][0]}: " + ", ".join(f"{x.mean:.2f}" for x in points)
        for panel, residuals in panels.items()
        for name, points in residuals.items()
    ]
    return "Accuracy by number of hops, from 1 up. " + "; ".join(parts) + "."
