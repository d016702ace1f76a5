"""Pictures of pipelines: where a state goes, when each rank works, what it costs."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.pipeline.simulate import Simulation, simulate
from attnres_ref.plots import GREY, MARK, axes, in_a_row, sheet

# By virtual stage; the backward pass is hatched, not another colour. Neither here nor in
# the modes' styles is a colour or a marker of PreNorm, Block or Full.
STAGES = ["#F0E442", "#C9C9C9", "#FFFFFF", "#909090"]
MODE_STYLES = {                        # mode: label, colour, marker
    "naive": ("naive", MARK, "X"),
    "received": ("received (the paper)", "#CC79A7", "D"),
    "all": ("all", "#56B4E9", "P"),
}


def journey(shape: Sequence[int], title: str) -> Figure:
    """Fig. 3: one micro-batch on its way down, once for each mode, with the blocks that
    every transition carries. shape: P, V, L, S."""
    figure = sheet(8, 1.9 * len(MODES) + 0.4, title)
    for ax, mode in zip(figure.subplots(len(MODES), sharex=True), MODES, strict=True):
        layout = Layout(*shape, mode)
        run = simulate(layout, 1, forward=1.0, per_tensor=0.0, latency=1.2)
        spans = [span for span in run.spans if span.action.kind == "F"]
        for span in spans:
            chunk = span.action.chunk
            _box(ax, span, layout, f"{layout.layers(chunk)[0]}-{layout.layers(chunk)[-1]}")
        for before, after in zip(spans, spans[1:]):
            ax.annotate(
                "", (after.start, after.rank), (before.end, before.rank),
                arrowprops=dict(arrowstyle="-|>", color=GREY, shrinkA=0, shrinkB=0),
            )
            x, y = (before.end + after.start) / 2, (before.rank + after.rank) / 2
            words = in_few_words(layout.cargo(before.action.chunk))
            ax.text(
                x, y, words, ha="center", va="center",
                fontsize=8, bbox=dict(facecolor="white", edgecolor="none", pad=0.8),
            )
        _ranks(ax, layout, f"{mode}: {layout.total()} tensors")
        ax.set(xticks=[], xlim=(0, spans[-1].end + 0.1))
    ax.set_xlabel("time (boxes: first and last layer of the chunk; ~: a partial sum)")
    return figure


def in_few_words(cargo: Sequence[str]) -> str:
    """`Layout.cargo` in a few characters: b0-b3 ~, where ~ is a partial sum."""
    blocks = [name for name in cargo if name.startswith("b")]
    short = [f"{blocks[0]}-{blocks[-1]}"] if len(blocks) > 2 else blocks
    return " ".join(short + ["~"] * ("partial sum" in cargo))


def timeline(runs: Mapping[str, Simulation], layout: Layout, title: str) -> Figure:
    """When each rank works, a panel for each run: forward passes plain, backward passes
    hatched, coloured by virtual stage, numbered by micro-batch; white is waiting."""
    figure = sheet(9, 1.7 * len(runs) + 0.9, title)
    rows = figure.subplots(len(runs), sharex=True, squeeze=False)[:, 0]
    for ax, (name, run) in zip(rows, runs.items(), strict=True):
        for span in run.spans:
            _box(ax, span, layout, str(span.action.microbatch))
        label = f"{name}: done at {run.makespan:.4g}, ranks busy {run.busy:.0%}"
        _ranks(ax, layout, label)
        ax.axvline(run.makespan, color=GREY, linewidth=1, linestyle=":")
    longest = max(run.makespan for run in runs.values())
    rows[-1].set(xlabel="time (numbers: micro-batches)", xlim=(0, 1.01 * longest))
    keys = [
        Patch(facecolor=STAGES[stage % len(STAGES)], label=f"round {stage + 1}")
        for stage in range(layout.n_virtual)
    ]
    keys.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="backward"))
    figure.legend(handles=keys, loc="outside lower center", ncol=len(keys), frameon=False)
    return figure


def _box(ax, span, layout: Layout, text: str) -> None:
    stage = span.action.chunk // layout.n_ranks
    ax.add_patch(Rectangle(
        (span.start, span.rank - 0.4), span.end - span.start, 0.8, linewidth=0.5,
        facecolor=STAGES[stage % len(STAGES)], edgecolor=GREY,
        hatch="////" if span.action.kind == "B" else None,
    ))
    ax.text(
        (span.start + span.end) / 2, span.rank, text, ha="center", va="center", fontsize=8,
        bbox=dict(facecolor=STAGES[stage % len(STAGES)], edgecolor="none", pad=0.6),
    )


def _ranks(ax, layout: Layout, title: str) -> None:
    ax.set_ylim(layout.n_ranks - 0.4, -0.6)
    ax.set_yticks(range(layout.n_ranks), [f"rank {r}" for r in range(layout.n_ranks)])
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, loc="left", fontsize=10)


def by_mode(values: Mapping[str, Sequence], title: str, xlabel: str, ylabel: str) -> Figure:
    """A line for each mode. values: mode -> (x, y)."""
    figure, ax = axes(title, xlabel, ylabel)
    _lines(ax, values, markersize=5)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return figure


def small_multiples(panels: Mapping[str, Mapping], title: str, xlabel: str, ylabel: str):
    """Panels beside each other with one scale, a line for each mode in each of them.
    panels: name -> mode -> (x, y)."""
    size = 2.8 * len(panels) + 0.6, 3.2
    figure, grid = in_a_row(panels, size, title, ylabel, loc="left")
    for ax, values in zip(grid, panels.values()):
        _lines(ax, values, markersize=4)
        ax.set_xlabel(xlabel)
    grid[0].legend(frameon=False, fontsize=8)
    return figure


def against_formulas(rows: Mapping[str, Mapping[str, Sequence]]) -> Figure:
    """Blocks counted in each mode, and Eq. 7 and 8 beside them as hollow marks. rows: cut
    -> mode -> (counted, by the equation or None)."""
    figure, ax = axes("", "blocks over all transitions", "", 6.2, 0.6 * len(rows) + 1.4)
    styles = [(mode, *MODE_STYLES[mode]) for mode in MODES]
    for y, values in enumerate(rows.values()):
        for place, (mode, label, colour, marker) in zip((-0.25, 0, 0.25), styles):
            look = dict(color=colour, marker=marker, linestyle="none")
            counted, equation = values[mode]
            ax.plot(counted, y + place, label=label if y == 0 else None, markersize=6,
                    zorder=3, **look)
            if equation is not None:
                ax.plot(equation, y + place, markerfacecolor="white", markersize=10, **look)
                ax.plot([equation, counted], [y + place] * 2, color=colour, zorder=1)
    ax.plot([], [], "D", color=GREY, markerfacecolor="white", label="Eq. 7, Eq. 8")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    figure.legend(loc="outside upper center", ncol=4, frameon=False, fontsize=9)
    return figure


def tornado(rows: Mapping[str, Sequence[float]], stated: float, xlabel: str) -> Figure:
    """What one assumption, halved or doubled, makes of a result; the longest bar on top.
    rows: assumption -> (halved, doubled)."""
    figure, ax = axes("", xlabel, "", 6.2, 0.42 * len(rows) + 1.3)
    ranked = sorted(rows.items(), key=lambda row: abs(row[1][1] - row[1][0]), reverse=True)
    kinds = (("halved", "white", dict(hatch="///")), ("doubled", "#909090", {}))
    for y, (_, values) in enumerate(ranked):
        for value, (kind, colour, look) in zip(values, kinds):
            ax.barh(y, value - stated, left=stated, height=0.66, facecolor=colour,
                    edgecolor=GREY, label=kind if y == 0 else None, **look)
            outside = 4 if value > stated else -4
            if abs(value - stated) > 1e-3 * stated:
                ax.annotate(f"{value:.1f}", (value, y), (outside, 0), va="center",
                            ha="left" if outside > 0 else "right", fontsize=9,
                            textcoords="offset points")
    ax.axvline(stated, color="black", linewidth=1)
    ax.set_yticks(range(len(ranked)), [name for name, _ in ranked])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.legend(frameon=False, loc="lower right")
    return figure


def _lines(ax, values: Mapping[str, Sequence], markersize: int) -> None:
    for mode, (x, y) in values.items():
        label, colour, marker = MODE_STYLES[mode]
        ax.plot(x, y, color=colour, marker=marker, markersize=markersize, label=label)
