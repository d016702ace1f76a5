"""Pictures of notebook 09: how kernels move tiles between memory and chip, and how long it
takes. A tile is what one program holds of one source, the numbers of one token."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from attnres_ref.plots import GREY, MARK, axes, in_a_row, schematic, sheet, sketch
from attnres_ref.plots.schematic import PAPER, arrow, box, canvas, strip

LIGHT, DARK = "#CCCCCC", "#8c8c8c"
READ = 4                               # the read of the worked example: it has 5 sources
SOURCES, QUERY = schematic.TOKEN[: READ + 1], schematic.QUERIES[READ]


def states() -> list[tuple[float, float, list[float]]]:
    """m, l and acc before the first source and after each, by online softmax."""
    m, l, acc = -math.inf, 0.0, [0.0] * 4
    found = [(m, l, acc)]
    for v in SOURCES:
        s = sum(q * x for q, x in zip(QUERY, v)) / schematic.rms(v)
        larger = max(m, s)
        shrink, p = math.exp(m - larger), math.exp(s - larger)
        m, l = larger, l * shrink + p
        acc = [a * shrink + p * x for a, x in zip(acc, v)]
        found.append((m, l, acc))
    return found


def streaming(step: int) -> Figure:
    """A frame: the program of token 1 before its first load (step 0), with source
    step - 1 just loaded (1 to n), or with its result stored (n + 1)."""
    n, marked = len(SOURCES), dict(across=True, edge=MARK, linewidth=2)
    figure, ax = canvas(6.4, 5.9, (-1.1, 8.7), (-0.75, 8.3))
    rows = [0.72 * (n - i) + 0.3 for i in range(n + 1)]               # the last is h
    _memory(ax, rows)
    m, l, acc = states()[min(step, n)]
    _chip(ax, acc, "$-\\infty$" if step == 0 else f"{m:.2g}", f"{l:.2f}")
    if 0 < step <= n:
        strip(ax, (2.53, rows[step - 1]), SOURCES[step - 1], zorder=3, **marked)
        strip(ax, (1.61, 6.6), SOURCES[step - 1], **marked)
        arrow(ax, (2.1, rows[step - 1] + 0.35), (2.1, 6.2), color=MARK, linewidth=2.5)
    if step > n:
        strip(ax, (2.53, rows[n]), [round(a / l, 1) for a in acc], **marked)
        arrow(ax, (5.3, 6.2), (4.2, rows[n] + 0.1), color=MARK, linewidth=2.5,
              connectionstyle="arc3,rad=-0.25")
        ax.text(5.65, 3.6, "$h = acc / \\ell$", fontsize=13, color=MARK,
                bbox=dict(facecolor="white", edgecolor="none", pad=2))
    ax.text(5.75, 5.65, f"loaded: {min(step, n)}, stored: {int(step > n)}", fontsize=12)
    return figure


def _memory(ax, rows: Sequence[float]) -> None:
    """A row for each source and one for h, a column for each token; token 1 in numbers."""
    for i, y in enumerate(rows):
        name = f"$v_{i}$" if i < len(SOURCES) else "$h$"
        ax.text(-0.35, y, name, ha="center", va="center", fontsize=13)
        for t in (0, 2, 3):
            ax.add_patch(Rectangle((2.15 * t + 0.15, y - 0.3), 1.84, 0.6, facecolor=LIGHT))
    for source, y in zip(SOURCES, rows):
        strip(ax, (2.53, y), source, across=True)
    ax.text(4.4, -0.6, "memory: a row for each source, a column for each token",
            ha="center", fontsize=11, color=GREY)


def _chip(ax, acc: Sequence[float], m: str, l: str) -> None:
    """The registers of a program."""
    ax.add_patch(FancyBboxPatch((0.15, 5.45), 8.3, 2.15, facecolor=PAPER, edgecolor=GREY,
                                boxstyle="round,pad=0.08"))
    ax.text(0.15, 7.9, "the chip: registers of program 1, which has token 1", fontsize=12)
    for x, name in ((2.3, "tile $v$"), (5.25, "$acc$"), (6.9, "$m$"), (7.85, "$\\ell$")):
        ax.text(x, 7.2, name, ha="center", fontsize=12)
    strip(ax, (4.56, 6.6), [round(a, 1) for a in acc], across=True)
    for x, number in ((6.9, m), (7.85, l)):
        ax.text(x, 6.6, number, ha="center", va="center", fontsize=12)


def beside(lines: Mapping[str, float], by_formula: Mapping[str, float], title: str,
           guess: float | None = None) -> Figure:
    """Lines of code, each with a bar of what it moves, in u; lines that end in a colon are
    totals. by_formula: totals not counted but known, hollow. guess: of all code lines."""
    bars, most = lines | by_formula, max(lines.values())
    height = len(bars) - 0.4
    figure, ax = canvas(7.0, 0.52 * height + 0.9, (-1.3, 1.2), (-height, 0.7), title)
    for y, (line, u) in enumerate(bars.items()):
        total = line.endswith(":")
        words = line if total else "\n    ".join(textwrap.wrap(line, 40))
        ax.text(-1.28, -y, words, va="center", fontsize=11 if total else 10,
                family="sans-serif" if total else "monospace")
        ax.add_patch(Rectangle((0, -y - 0.3), u / most, 0.6, fill=line in lines,
                               color=MARK if total else DARK, linewidth=1.5))
        ax.text(u / most + 0.02, -y, f"{u:.0f} u", va="center", fontsize=11)
    if guess is not None:
        ax.axvline(guess / most, color="black", linestyle="--")
        ax.text(guess / most, 0.6, "your guess", ha="center", fontsize=11)
    return figure


def two_loops(n: int = 4) -> Figure:
    """The backward of one token: three numbers of each source, then the softmax's gradient,
    which needs them all, then the sources again."""
    figure, ax = canvas(7.0, 3.5, (-1.3, 12.6), (-1.0, 4.4))
    for left, title in ((0, "loop 1"), (8.2, "loop 2")):
        ax.text(left + 1.75, 4.05, title, ha="center", fontsize=13)
        for i in range(n):
            box(ax, (left + 1.15 * i, 0), f"$v_{i}$", width=0.9)
    for i in range(n):
        x = 1.15 * i
        arrow(ax, (x, 0.42), (x, 1.55))
        for row in range(3):
            ax.add_patch(Rectangle((x - 0.4, 1.65 + 0.62 * row), 0.8, 0.56,
                                   facecolor="white", edgecolor=GREY))
        arrow(ax, (8.2 + x, 0.42), (8.2 + x, 2.15))
        box(ax, (8.2 + x, 2.6), f"$dv_{i}$", width=0.9)
    for row, name in enumerate(("$d\\alpha$", "$r$", "$s$")):
        ax.text(-0.65, 1.93 + 0.62 * row, name, ha="right", va="center", fontsize=12)
    ax.text(-0.65, 0, "load", ha="right", va="center", fontsize=12, color=GREY)
    ax.text(11.65, 3.4, "store", ha="center", va="center", fontsize=12, color=GREY)
    ax.add_patch(FancyBboxPatch((4.75, 1.7), 1.9, 1.7, facecolor=PAPER, edgecolor=MARK,
                                boxstyle="round,pad=0.05", linewidth=2))
    ax.text(5.7, 2.55, "softmax:\nneeds all\ncolumns", ha="center", va="center",
            fontsize=11)
    arrow(ax, (4.0, 2.55), (4.65, 2.55), color=MARK)
    arrow(ax, (6.75, 2.55), (7.55, 2.55), color=MARK)
    ax.text(5.7, -0.85, "memory", ha="center", fontsize=11, color=GREY)
    return figure


def readers(n: int = 4) -> Figure:
    """The gradient of a source with n readers: autograd adds up one tensor for each, or
    each reader adds its part to what comes back along the chain."""
    figure = sheet(7.0, 3.9)
    left, right = figure.subplots(1, 2)
    for ax, title in ((left, f"each reads it: {n - 1} additions"),
                      (right, "handed on: one gradient")):
        ax.set(xlim=(-1.0, 4.4), ylim=(-0.3, n - 0.2), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=12)
    for k in range(n):
        y = n - 1 - k + 0.2
        box(left, (3.6, y), f"read {n - 1 - k}", width=1.4)
        left.text(2.3, y + 0.2, "$dv$", ha="center", fontsize=11)
        if k:
            arrow(left, (2.85, y), (1.75, y), color=MARK, linewidth=2)
            left.text(1.5, y, "+", ha="center", va="center", fontsize=15, bbox=dict(
                boxstyle="circle,pad=0.15", facecolor="white", edgecolor=MARK))
        else:
            left.plot([2.85, 1.5, 1.5], [y, y, y - 0.4], color=MARK, linewidth=2)
        if k < n - 1:
            arrow(left, (1.5, y - 0.28), (1.5, y - 0.72), color=MARK, linewidth=2)
        box(right, (2.2, y), f"read {n - 1 - k}: g += dv", width=2.7)
        if k < n - 1:
            arrow(right, (2.2, y - 0.37), (2.2, y - 0.63), color=MARK, linewidth=2)
    for ax, start in ((left, 1.2), (right, 0.8)):
        box(ax, (-0.35, 0.2), "source", width=1.1)
        arrow(ax, (start, 0.2), (0.25, 0.2), color=MARK, linewidth=2)
    return figure


def warps(rows: Sequence[Mapping], reached: Mapping[int, float],
          guess: Mapping | None = None, n: int = 33, d: int = 1024) -> Figure:
    """Three panels by the number of warps of a program: the issue slots that they need, in
    %, for two ways to find a source; the KB that are under way on a multiprocessor; the
    share of a copy's speed that was reached. rows: those of the record `warps`."""
    names = "issue slots needed (%)", "KB under way", "measured: % of a copy"
    figure, panels = in_a_row(names, (8.4, 3.3), "", "", 11, sharey=False)
    rows = [r for r in rows if (r["n"], r["d"]) == (n, d)]
    for kind, look, colour in (("pick", "x-", GREY), ("addresses", "o-", MARK)):
        needed = {r["warps"]: 100 * r["issue"] for r in rows if r["kernel"] == kind}
        panels[0].plot(*zip(*needed.items()), look, color=colour, label=kind)
    flying = {r["warps"]: r["at_once"] * r["shared_bytes"] / 1e3 for r in rows
              if r["kernel"] == "addresses"}
    panels[0].axhline(100, color="black", linewidth=1, linestyle="--")
    sketch(panels[0], guess)
    panels[0].set_yscale("log", base=2)
    panels[0].set_yticks([50, 100, 200, 400, 800], [50, 100, 200, 400, 800])
    panels[0].legend(frameon=False, fontsize=10)
    for ax, values in ((panels[1], flying), (panels[2], reached)):
        ax.plot(*zip(*values.items()), "o-", color=MARK)
        ax.set_ylim(0, 1.15 * max(values.values()))
    for ax in panels:
        ax.set_xscale("log", base=2)
        ax.set(xticks=[*flying], xticklabels=[*flying], xlabel="warps per program")
        ax.minorticks_off()
    return figure


def times_by_tokens(rows: Sequence[Mapping], part: str, d: int,
                    of: Sequence[int]) -> dict[int, dict[int, float]]:
    """sources -> tokens -> microseconds of our read, the median over its turns. rows: the
    timed reads of a GPU's record; of: the numbers of sources wanted."""
    found = {n: {} for n in of}
    for row in sorted(rows, key=lambda row: row["T"]):
        ours = (row["contender"], row["part"], row["d"]) == ("ours", part, d)
        if ours and row["n"] in found:
            found[row["n"]].setdefault(row["T"], []).append(1e3 * row["ms"][1])
    return {n: {T: median(us) for T, us in of_n.items()} for n, of_n in found.items()}


def short_reads(times: Mapping[int, Mapping[int, float]], gb_per_s: float, d: int,
                title: str, guess: Mapping | None = None) -> Figure:
    """Time of a read by tokens, and dashed its bytes in half precision by the bandwidth of
    a copy. times: up to three numbers of sources -> tokens -> us; guess: tokens -> us."""
    figure, ax = axes(title, "tokens T", "microseconds", 6.4, 3.9)
    for (n, us), colour in zip(times.items(), ("#a8a8a8", GREY, MARK)):
        ax.plot(*zip(*us.items()), "o-", color=colour, label=f"{n} sources")
        copied = [(n + 1) * T * d * 2 / gb_per_s / 1e3 for T in us]
        ax.plot([*us], copied, "--", color=colour)
    ax.plot([], [], "--", color=GREY, label="bytes / bandwidth")
    sketch(ax, guess)
    ax.set(xscale="log", yscale="log", xticks=[*us], xticklabels=[*us])
    ax.minorticks_off()
    ax.legend(frameon=False)
    return figure


def errors(xs: Sequence[float], lines: Mapping[str, Sequence[float]], title: str,
           xlabel: str, guess: Mapping | None = None) -> Figure:
    """Relative errors of up to three ways, the first of which is the one with a fault."""
    figure, ax = axes(title, xlabel, "relative error")
    for (label, values), colour in zip(lines.items(), (MARK, GREY, "black")):
        ax.plot(xs, values, "o-", color=colour, label=label)
    sketch(ax, guess)
    ax.legend(frameon=False)
    return figure


def step_traffic(ways: Mapping[str, Sequence[float]], floor: float, title: str,
                 guess: Mapping | None = None) -> Figure:
    """Stacked bars of what a training step moves: forward, backward and additions, in u.
    floor: the sum of all reads' floors, dashed; guess: way -> u, as crosses."""
    figure, ax = axes(title, "moved for reads, in u", "", 7.0, 3.4)
    left = [0.0] * len(ways)
    parts = "forward", "backward", "additions"
    for part, colour, us in zip(parts, (LIGHT, DARK, MARK), zip(*ways.values())):
        bars = ax.barh(list(ways), us, 0.6, left, color=colour, label=part)
        left = [a + b for a, b in zip(left, us)]
    ax.bar_label(bars, [f" {total:,.0f}" for total in left], fontsize=11)
    ax.axvline(floor, color="black", linewidth=1, ls="--", label="floors of all reads")
    for way, u in (guess or {}).items():
        ax.plot(u, way, "x", color="black", markersize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * max(left))
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, ncols=4, fontsize=10,
                  loc="outside lower center")
    return figure
