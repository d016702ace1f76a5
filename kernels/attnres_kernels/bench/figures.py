"""Figures of a benchmark's joined record. They need matplotlib, which the machine with the
GPU may not have, so that the report does not import them."""

import re
import statistics

from attnres_kernels.ahead import CLOCK, COPY
from attnres_kernels.bench import report
from attnres_kernels.bench.peers import SWEPT
from attnres_kernels.launch import fits_ring
from attnres_ref import plots

OURS, LIGHT = "#D55E00", "#BBBBBB"
STREAMS = {                            # cases of the stage `model`, with their labels
    "Block, fused": "Block, fused", "Full, fused": "Full, fused",
    "Block, kernels in two phases": "Block, two phases",
}


def shares(
    record: dict, part: str, d: int, contender: str = "ours", T: int = 8192
) -> dict[int, float]:
    """A read's bandwidth by a copy's, for each number of sources; the floor's bytes over
    the median time of the turns. part: forward or backward."""
    ms = {}
    for row in report.reads(record):
        if (row["contender"], row["part"], row["T"], row["d"]) == (contender, part, T, d):
            ms.setdefault(row["n"], []).append(row["ms"][1])
    rates = {n: report.gb_per_s(part, n, T, d, statistics.median(times))
             for n, times in sorted(ms.items())}
    return {n: rate / record["copy_gb_per_s"] for n, rate in rates.items()}


def shares_by_warps(record: dict, part: str, n: int, d: int) -> dict[int, float]:
    """The same by the number of warps, of those that the sweep has timed: the most over its
    numbers of loads under way. The one-read backward is not among them."""
    found = {}
    for row in report.rows_of(record, "sweep"):
        timed = "ms" in row and row.get("kind") != "ring"
        if timed and (row["part"], row["n"], row["d"]) == (part, n, d):
            found.setdefault(row["warps"], []).append(row["gb_per_s"])
    return {k: max(rates) / record["copy_gb_per_s"] for k, rates in sorted(found.items())}


def issue_on(record: dict, rows: list[dict]) -> list[dict]:
    """Rows of `ahead`, as far as they have a share of the issue slots, with what it is on
    this record's GPU: `ahead` assumes an H100's copy and clock. The GPU must have as many
    SMs, as an H200 has; its clock is the one at the start, and one that falls under load
    makes the shares larger."""
    smi = record["stages"]["environment"]["nvidia_smi"]
    clock = 1e6 * float(re.search(r"(\d+) MHz", smi)[1])
    scale = 1e9 * record["copy_gb_per_s"] / COPY * CLOCK / clock
    return [row | dict(issue=scale * row["issue"]) for row in rows if row["issue"]]


def reads_beside_a_copy(record: dict, widths=(4096, 1024)):
    """Two panels, forward and backward: `shares` by the number of sources. Hollow, and not
    joined to the others: the backward in two loops, where one read does not fit."""
    parts = "forward", "backward"
    figure, panels = plots.in_a_row(
        parts, (8, 3.2), f"Our reads on {record['device']}, T = 8192", "speed of a copy (%)"
    )
    for part, ax in zip(parts, panels):
        for d, colour, marker in zip(widths, (OURS, plots.GREY), "os"):
            found = {n: 100 * x for n, x in shares(record, part, d).items()}
            loops = [n for n in found if part == "backward" and not fits_ring(n, d, 2)]
            for ns, face in (([n for n in found if n not in loops], colour),
                             (loops, "white")):
                ax.plot(ns, [found[n] for n in ns], marker=marker, color=colour,
                        markerfacecolor=face, label=f"d = {d}" if face == colour else None)
        ticks = [*shares(record, part, widths[0])]
        ax.set(xscale="log", xlabel="sources n", ylim=(0, 110))
        ax.set_xticks(ticks, ticks)
        ax.minorticks_off()
        ax.axhline(100, color="black", linewidth=1, linestyle="--")
    allowed = [100 * (2 * n + 1) / (3 * n + 1) for n in ticks]
    extra = panels[1].plot(ticks, allowed, ":", color="black",
                           label="all that 3n + 1 allows")
    for label, face in (("one read", plots.GREY), ("two loops", "white")):
        extra += panels[1].plot([], [], "s", color=plots.GREY, markerfacecolor=face,
                                label=label)
    panels[0].legend(frameon=False, loc="lower left")
    panels[1].legend(handles=extra, frameon=False, loc="lower left")
    return figure


def training_steps(record: dict):
    """Two panels, uncompiled and compiled: time of a training step by PreNorm's, replayed
    as a CUDA graph and launched from Python."""
    ratios = {(row["kind"], row["case"]): row["ratio_to_prenorm"]
              for row in report.rows_of(record, "model") if "ms" in row}
    kinds = {"uncompiled": ("graph", "eager"), "compiled": ("compiled, graph", "compiled")}
    figure, panels = plots.in_a_row(
        kinds, (8, 3.0), f"A training step on {record['device']}, beside PreNorm's", ""
    )
    for ax, (graph, launched) in zip(panels, kinds.values()):
        for kind, label, colour, shift in ((graph, "as a CUDA graph", OURS, -0.2),
                                           (launched, "launched from Python", LIGHT, 0.2)):
            values = [ratios[kind, case] for case in STREAMS]
            bars = ax.barh([y + shift for y in range(len(values))], values, 0.38,
                           color=colour, label=label)
            ax.bar_label(bars, fmt=" %.2f")
        ax.axvline(1, color="black", linewidth=1, linestyle="--")
        ax.set(xlim=(0, 2.1), xlabel="time, x PreNorm's of the same kind")
        ax.set_axisbelow(True)
    panels[0].set_yticks(range(len(STREAMS)), [*STREAMS.values()])
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=2,
                  loc="outside lower center")
    return figure


def roofline(record: dict):
    """Bytes of the floor per second, by bytes of the floor; the line is a plain copy."""
    figure, axes = plots.axes(f"One read on {record['device']}", "bytes it must move (MB)",
                              "those bytes / time (GB/s)", width=8)
    names = list(dict.fromkeys(row["contender"] for row in report.reads(record)))
    for name, marker in zip(names, "osv^D<>Phx*"):
        for part, filled in (("forward", True), ("backward", False)):
            rows = [row for row in report.reads(record)
                    if (row["contender"], row["part"]) == (name, part)]
            moved = [report.floor(part, r["n"]) * r["T"] * r["d"] * 2 / 1e6 for r in rows]
            colour = OURS if name in ("ours", SWEPT) else plots.GREY
            axes.scatter(moved, [r["gb_per_s"] for r in rows], s=22, marker=marker,
                         edgecolors=colour, facecolors=colour if filled else "none",
                         label=f"{name}, {part}" if rows else None)
    axes.axhline(record["copy_gb_per_s"], color="black", linewidth=1, label="copy")
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
