"""Figures of notebook 06, in the style of attnres_ref.plots."""

from collections.abc import Mapping

from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from attnres_ref.plots import STYLES, axes
from attnres_ref.study.scaling import Losses, PowerLaw, lowest, means, points

PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}")


def laws(
    sweep: Mapping[str, Losses], fits: Mapping[str, PowerLaw], title: str,
    live: Mapping[str, tuple[float, float]] | None = None,
):
    """Losses of every residual by compute, on two logarithmic axes: markers are runs,
    lines the power laws. live: residual -> (compute, loss) of one more run, drawn large
    and open."""
    live = live or {}
    figure, ax = axes(title, "compute $C$ (PFLOP/s-days)", "validation loss")
    for name, losses in sweep.items():
        label, colour, marker = STYLES[name]
        sizes = [*losses, *(live[name][:1] if name in live else ())]
        law, ends = fits[name], (min(sizes), max(sizes))
        label = f"{label}: exponent {law.exponent:.3f}"
        draw_runs(ax, losses, name, label, alpha=0.8)
        ax.plot(ends, [law(end) for end in ends], color=colour, linewidth=1.2)
        if name in live:
            ax.plot(*live[name], marker, mfc="none", mec=colour, ms=14, mew=1.8)
    ax.set(xscale="log", yscale="log")
    few_ticks(ax)
    ax.legend(frameon=False)
    return figure


def draw_runs(ax, losses: Losses, name: str, label: str = "", **look) -> None:
    """A marker for each run of a residual."""
    words, colour, marker = STYLES[name]
    look |= dict(color=colour, marker=marker, s=22, label=label or words)
    ax.scatter(*zip(*points(losses)), **look)


def few_ticks(ax, count: int = 5) -> None:
    """Round losses on a logarithmic axis that spans less than a decade; plain numbers
    below on one that spans little more."""
    low, high = ax.get_ylim()
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next(s for s in steps if high - low <= (count + 1) * s)
    first = int(low / step) + 1
    ax.yaxis.set_major_locator(FixedLocator([step * (first + i) for i in range(count + 2)]))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(low, high)
    left, right = ax.get_xlim()
    if right < 30 * left:
        ax.xaxis.set_major_formatter(PLAIN)
        ax.xaxis.set_minor_locator(FixedLocator([0.5, 2, 5]))
        ax.xaxis.set_minor_formatter(PLAIN)


def gaps(sweep: Mapping[str, Losses], baseline: str, title: str):
    """Paired differences to `baseline` by compute: a marker per seed, a line their mean."""
    ylabel = f"loss - {STYLES[baseline][0]}'s"
    figure, ax = axes(title, "compute $C$ (PFLOP/s-days)", ylabel)
    ax.axhline(0, color=STYLES[baseline][1], linewidth=1)
    for name, losses in sweep.items():
        if name == baseline:
            continue
        paired = {
            size: [ours - other for ours, other in zip(seeds, sweep[baseline][size])]
            for size, seeds in losses.items()
        }
        draw_runs(ax, paired, name)
        ax.plot(*zip(*means(paired).items()), color=STYLES[name][1])
    ax.set_xscale("log")
    ax.legend(frameon=False)
    return figure


def shapes(sweep: Mapping[str, Losses], title: str):
    """Losses by shape d / L_b: markers are runs, lines their means, the lowest ringed."""
    figure, ax = axes(title, "width over pairs of layers, $d/L_b$", "validation loss")
    for name, losses in sweep.items():
        colour, average, best = STYLES[name][1], means(losses), lowest(losses)
        draw_runs(ax, losses, name, alpha=0.8)
        ax.plot(*zip(*average.items()), color=colour)
        ax.scatter(best, average[best], s=220, facecolors="none", edgecolors=colour, lw=2)
    ax.set_xscale("log")
    ticks = sorted(next(iter(sweep.values())))
    ax.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)
    return figure
