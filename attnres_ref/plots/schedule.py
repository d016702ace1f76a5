"""Pictures of notebook 08: Algorithm 1 as a schedule, and who holds which tokens when a
prompt is spread over several devices."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from attnres_ref.inference import traffic
from attnres_ref.plots import GREY, STYLES, plain, sheet, style_of
from attnres_ref.plots.schematic import PROBE, arrow, canvas, tint

PARTIAL, RESULTS = "partial sum", "phase 1's\nresults"
ORANGE = STYLES["block"][1]
READ = dict(color="black", marker="o", markersize=7, linestyle="")
WRITE = dict(color=PROBE, marker="s", markersize=8, markerfacecolor="white",
             markeredgewidth=2, linestyle="")


class Step(NamedTuple):
    """A column of the schedule: a phase 1, or a layer with its read and its write."""

    name: str                          # "ph. 1", a layer's number or "final"
    reads: tuple[str, ...]             # of what is in memory
    writes: str | None
    said: str                          # in words


def layer_by_layer(n_layers: int, block_size: int) -> list[Step]:
    """Every layer reads all its sources (Eq. 6)."""
    steps = []
    for layer in range(n_layers + 1):
        reads = _completed(layer // block_size)
        if layer % block_size:
            reads = (*reads, PARTIAL)
        steps.append(_layer(layer, reads, n_layers, block_size))
    return steps


def two_phases(n_layers: int, block_size: int) -> list[Step]:
    """Algorithm 1: a phase 1 for each block, whose results its layers read."""
    steps = []
    for layer in range(n_layers + 1):
        reads = (RESULTS, PARTIAL)
        if layer % block_size == 0:
            reads, n = (RESULTS,), layer // block_size
            queries = min(block_size, n_layers + 1 - layer)
            said = (f"phase 1: {queries} queries together" if queries > 1
                    else "phase 1: the final read's query")
            sums = ", ".join(_completed(n))
            steps.append(Step("ph. 1", _completed(n), RESULTS, f"{said}, over {sums}"))
        steps.append(_layer(layer, reads, n_layers, block_size))
    return steps


def _completed(n: int) -> tuple[str, ...]:
    return tuple(f"$b_{i}$" for i in range(n + 1))


def _layer(layer, reads, n_layers, block_size) -> Step:
    joins = ", joined with the partial sum" if PARTIAL in reads else " as it is"
    if layer == n_layers:
        return Step("final", reads, None, f"final read: its result{joins}")
    block, place = divmod(layer, block_size)
    kept = PARTIAL, "begins a partial sum" if place == 0 else "is added to it"
    if place == block_size - 1:
        kept = f"$b_{block + 1}$", f"completes $b_{block + 1}$"
    return Step(str(layer), reads, kept[0],
                f"layer {layer}: its result{joins}; its output {kept[1]}")


def both_orders(n_layers: int = 8, block_size: int = 4) -> Figure:
    """Both orders of the same reads, one below the other."""
    figure = sheet(6.8, 5.6)
    panels = figure.subplots(2, 1, height_ratios=(4, 5))
    kinds = (("layer by layer", layer_by_layer), ("in two phases", two_phases))
    for ax, (title, kind) in zip(panels, kinds):
        _grid(ax, kind(n_layers, block_size), title)
    keys = Line2D([], [], label="is read", **READ), Line2D([], [], label="written", **WRITE)
    figure.legend(handles=keys, loc="outside upper right", ncols=2, frameon=False,
                  fontsize=11)
    return figure


def moment(step: int, n_layers: int = 8, block_size: int = 4) -> Figure:
    """A frame: the schedule in two phases up to this step, which is told in words."""
    steps = two_phases(n_layers, block_size)
    figure = sheet(6.8, 3.6)
    ax = figure.subplots()
    _grid(ax, steps, steps[step].said, done=step + 1)
    ax.axvspan(step - 0.5, step + 0.5, color="#d9d9d9", alpha=0.5, zorder=0)
    return figure


def _grid(ax, steps: Sequence[Step], title: str, done: int | None = None) -> None:
    """A column for each step, a row for each thing in memory: a dot is a read, an open
    square a write, and a band says when the thing is there."""
    n, shown = len(steps), steps[:done]
    sums = sorted({s.writes for s in steps if s.writes} - {PARTIAL, RESULTS})
    rows = ["$b_0$", *sums, PARTIAL, *([RESULTS] if steps[0].writes == RESULTS else [])]
    for y, row in enumerate(rows):
        reads = [x for x, s in enumerate(shown) if row in s.reads]
        writes = [x for x, s in enumerate(shown) if s.writes == row]
        for start, end in _lifetimes(row, shown, n):
            ax.add_patch(Rectangle((start, y - 0.3), end - start, 0.6, zorder=0.5,
                                   color=tint(ORANGE, 0.3) if row in sums or y == 0
                                   else "#e6e6e6"))
        ax.plot(reads, [y] * len(reads), **READ)
        ax.plot([x + 0.32 for x in writes], [y] * len(writes), **WRITE)
        ax.text(n - 0.2, y, f"{len(reads)} read{'s' * (len(reads) != 1)}", va="center",
                fontsize=11)
    ax.set(xlim=(-0.7, n + 1.1), ylim=(len(rows) - 0.4, -0.6))
    ax.set_yticks(range(len(rows)), rows, fontsize=12)
    ax.set_xticks(range(n), [s.name for s in steps], fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=12)


def _lifetimes(row: str, shown: Sequence[Step], n: int) -> list[tuple[float, float]]:
    """From its first write, or the start, to the end; for a partial sum and for phase 1's
    results to the last read before they are written anew."""
    if row == "$b_0$":
        return [(-0.6, n - 0.4)]
    writes = [x for x, s in enumerate(shown) if s.writes == row]
    if row not in (PARTIAL, RESULTS):
        return [(x, n - 0.4) for x in writes]
    spans = []
    for x, step in enumerate(shown):
        if step.writes == row and row not in step.reads:
            spans.append((x, x + 0.5))                       # it begins
        elif row in step.reads:
            spans[-1] = spans[-1][0], x + 0.5
    return spans


def shards(n_ranks: int = 4) -> Figure:
    """Sequence and tensor parallelism around an attention layer: which rank holds which
    quarter of the tokens, and what of it."""
    figure, ax = canvas(6.8, 3.2, (-1.0, 12.8), (-1.75, 3.6))
    diagonal = [(r, r) for r in range(n_ranks)]
    everything = [(r, t) for r in range(n_ranks) for t in range(n_ranks)]
    orange, grey = tint(ORANGE, 0.55), "#cccccc"
    stages = (
        ("read: phase 2,\nits own tokens", diagonal, dict(facecolor=orange)),
        ("attention: all tokens,\nits own heads", everything, dict(facecolor=grey)),
        ("output: a part of\nthe sum over heads", everything,
         dict(facecolor="white", hatch="////")),
        ("write: partial sum,\nits own tokens", diagonal, dict(facecolor=orange)),
    )
    for stage, (words, held, look) in enumerate(stages):
        x, size = 3.35 * stage, 2.0 / n_ranks
        for rank, tokens in everything:
            place = x + tokens * size, 2.6 - (rank + 1) * 2.6 / n_ranks
            box = dict(facecolor="white", edgecolor="#d9d9d9", linewidth=0.5)
            box |= dict(edgecolor=GREY, **look) if (rank, tokens) in held else {}
            ax.add_patch(Rectangle(place, size - 0.06, 2.6 / n_ranks - 0.08, **box))
        ax.text(x + 1, -0.75, words, ha="center", va="center", fontsize=11)
    for stage, words in ((0, "all-\ngather"), (2, "reduce-\nscatter")):
        x = 3.35 * stage + 2.1
        arrow(ax, (x, 1.3), (x + 1.15, 1.3), words, (x + 0.58, 2.0), color=PROBE)
    arrow(ax, (5.45, 1.3), (6.6, 1.3), "layer", (6.03, 1.75))
    for rank in range(n_ranks):
        ax.text(-0.15, 2.6 - (rank + 0.5) * 2.6 / n_ranks, f"rank {rank}", ha="right",
                va="center", fontsize=10)
    ax.text(0.97, 2.85, "groups of tokens", ha="center", fontsize=11)
    return figure


def decode_shares(
    config, lengths: Sequence[int], names: Sequence[str], sharing: int = 8,
    batches: Sequence[int] = tuple(2**i for i in range(11)),
) -> Figure:
    """The depth reads' share in the bytes of a decode step over the batch, a panel for each
    length of the context. names: of `traffic.depth_passes`; sharing as in `decode_step`."""
    passes = traffic.depth_passes(config.n_layers, config.block_size)
    figure = sheet(6.8, 3.8, "Share of the reads over depth in what a decode step moves")
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    for ax, length in zip(panels, lengths):
        for name in names:
            steps = [traffic.decode_step(config, passes[name], batch, length, sharing)
                     for batch in batches]
            shares = [step.depth / sum(step) for step in steps]
            _, colour, marker = style_of(name)
            look = "--" if "layer by layer" in name else "-"
            ax.plot(batches, shares, look, color=colour, marker=marker,
                    markersize=4, label=name)
        ax.axhline(0.05, color=GREY, linewidth=1, linestyle=":")
        ax.set(xscale="log", yscale="log")
        ax.minorticks_off()
        ax.set_xticks([1, 32, 1024], ["1", "32", "1024"])
        ax.set_title(f"T = {length:,}", loc="left", fontsize=11)
        ax.set_xlabel("batch")
        plain(ax)
    panels[0].set_yticks([1e-4, 1e-3, 1e-2, 1e-1], ["0.01 %", "0.1 %", "1 %", "10 %"])
    panels[0].text(1, 0.054, "5 %", color=GREY, fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2, frameon=False, fontsize=9)
    return figure


def clocked(rows: Mapping[str, Mapping]) -> Figure:
    """Rows of bench_inference.json: the time of a decoded token beside PreNorm's, and its
    operations, in eager mode (open) and compiled (filled)."""
    names = [name for name in rows if f"{name}, compiled" in rows]
    figure = sheet(6.8, 0.45 * len(names) + 1.3)
    times, operations = figure.subplots(1, 2, sharey=True)
    for y, name in enumerate(names):
        _, colour, marker = style_of(name)
        for kind, face in (("", "white"), (", compiled", colour)):
            row, look = rows[name + kind], dict(color=colour, marker=marker, markersize=9)
            times.plot(row["decode_time_ratio"], y, markerfacecolor=face, **look)
            operations.plot(row["operations"], y, markerfacecolor=face, **look)
    times.axvline(1, color=GREY, linewidth=1, linestyle=":")
    times.set_yticks(range(len(names)), names, fontsize=11)
    times.set_ylim(len(names) - 0.5, -0.5)
    times.set_xlabel("time per token, PreNorm = 1")
    operations.set_xlabel("operations per token")
    operations.set_xlim(left=0)
    keys = [Line2D([], [], linestyle="", marker="o", color=GREY, label=label,
                   markerfacecolor=face)
            for label, face in (("eager", "white"), ("compiled", GREY))]
    figure.legend(handles=keys, loc="outside upper right", ncols=2, frameon=False)
    for ax in (times, operations):
        plain(ax)
    return figure
