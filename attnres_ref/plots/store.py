"""Schematics of notebook 10: what a transition carries and what a rank holds already, how
the gradient of a kept block comes back, and what checkpoints leave to keep."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.plan import OneSum
from attnres_ref.plots import GREY, STYLES
from attnres_ref.plots.schematic import PROBE, arrow, bar, box, canvas, tint


def transition(shape: Sequence[int], chunk: int) -> Figure:
    """The wire from `chunk` to the next in three pipelines: PreNorm's, Block's, and Block's
    with a store. shape: P, V, L, S."""
    blocks = [Layout(*shape, mode) for mode in ("naive", "received")]
    ours, next_rank = blocks[0].rank(chunk), blocks[0].rank(chunk + 1)
    rows = [("PreNorm", "prenorm", OneSum(*shape).cargo(chunk), [])]
    for layout, name in zip(blocks, ("Block, nothing kept", "Block, with a store")):
        held = [f"b{n}" for n in range(layout.held(chunk + 1))]
        rows.append((name, "block", layout.cargo(chunk), held))
    figure, ax = canvas(5.8, 4.6, (-0.9, 10.6), (-6.6, 1.3))
    for x, words in ((3.9, "on the wire"), (9.55, "held\nalready")):
        ax.text(x, 1.0, words, ha="center", va="center", fontsize=12, color=GREY)
    for row, (name, residual, sent, held) in enumerate(rows):
        y, (_, colour, _) = -2.6 * row - 0.4, STYLES[residual]
        ax.text(-0.85, y + 0.75, name, va="center", fontsize=12)
        box(ax, (0.2, y), f"chunk {chunk}", f"rank {ours}")
        box(ax, (7.6, y), f"chunk {chunk + 1}", f"rank {next_rank}")
        left, right = 3.95 - 0.45 * len(sent), 3.85 + 0.45 * len(sent)
        ax.plot([1.1, left], [y, y], color=GREY)
        tensors(ax, (left, y), sent, colour)
        arrow(ax, (right, y), (6.75, y))
        tensors(ax, (8.7, y), held, colour)
    return figure


def tensors(ax, at, names: Sequence[str], colour: str) -> None:
    """Squares from left to right, named as by `Layout.cargo`; a partial sum is hatched."""
    x, y = at
    for i, name in enumerate(names):
        partial = name == "partial sum"
        look = dict(hatch="///", linestyle=":") if partial else {}
        ax.add_patch(Rectangle((x + 0.9 * i, y - 0.36), 0.8, 0.72, facecolor=tint(colour),
                               edgecolor=colour, linewidth=1.4, zorder=2, **look))
        if not partial:
            name = f"$b_{{{name[1:]}}}$" if name.startswith("b") else name
            ax.text(x + 0.9 * i + 0.4, y, name, ha="center", va="center", fontsize=12)


def hand_over(block: int = 1, first: int = 2, later: int = 6) -> Figure:
    """A block that arrives once and is read by two chunks of a rank: to the right values,
    to the left gradients, in the order of their numbers."""
    figure, ax = canvas(5.8, 3.7, (-1.0, 9.2), (-0.5, 5.4))
    back = dict(color=PROBE, linestyle="--")
    box(ax, (0.1, 4.2), "wire", width=1.5)
    box(ax, (3.2, 4.2), "view", "with a hook", width=1.6)
    box(ax, (7.9, 4.2), f"chunk {first}", "reads it first", width=2.0)
    box(ax, (3.2, 0.7), "leaf", "in the store", width=1.6)
    box(ax, (7.9, 0.7), f"chunk {later}", "reads it later", width=2.0)
    arrow(ax, (0.95, 4.35), (2.3, 4.35), f"$b_{block}$", (1.6, 4.75))
    arrow(ax, (4.1, 4.35), (6.8, 4.35))
    arrow(ax, (2.7, 3.1), (2.7, 1.15), "detach", (2.35, 2.15), 90)
    arrow(ax, (4.1, 0.85), (6.8, 0.85))
    steps = (
        ("1", (6.8, 0.5), (4.1, 0.5), (5.5, 0.0), "gathers in\nleaf.grad"),
        ("2", (6.8, 4.0), (4.1, 4.0), (5.5, 3.5), "its own\ngradient"),
        ("3", (3.7, 1.15), (3.7, 3.1), (5.75, 2.15), "the hook adds leaf.grad"),
        ("4", (2.3, 4.0), (0.95, 4.0), (0.75, 3.2), "one gradient\ngoes back"),
    )
    for number, start, end, at, words in steps:
        arrow(ax, start, end, **back)
        ax.text(*at, words, ha="center", va="center", fontsize=11, color=PROBE)
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        ax.plot(*middle, "o", ms=17, mfc="white", mec=PROBE, mew=1.8, zorder=3)
        ax.text(*middle, number, ha="center", va="center", fontsize=11, color=PROBE)
    return figure


def kept(n_layers: int = 8, segment: int = 4) -> Figure:
    """What lies in memory between forward and backward, if every `segment` layers are one
    checkpoint: a bar is a vector per token, drawn over the outputs that it sums."""
    starts = range(1, n_layers + 1, segment)
    parts = [range(i, min(i + segment, n_layers + 1)) for i in starts]
    rows = {
        "prenorm": [[*range(part[-1] + 1)] for part in parts],
        "full": [[i] for i in range(1, n_layers + 1)],
        "block": [[*part] for part in parts],
    }
    bottom = 0.9 * len(parts) + 3.9
    figure, ax = canvas(5.8, 3.8, (-2.9, n_layers + 1.6), (bottom + 0.8, -0.9))
    y = 0
    for residual, sums in rows.items():
        label, colour, _ = STYLES[residual]
        ax.text(-0.7, y, label.removesuffix(" AttnRes"), ha="right", va="center",
                fontsize=12)
        ax.text(n_layers + 1, y, str(1 + len(sums)), ha="center", va="center", fontsize=14)
        bar(ax, [0], y, colour)
        for outputs in sums:
            y += 0.9 * (residual == "prenorm")
            bar(ax, outputs, y, colour)
        y += 1.3
    ax.text(n_layers + 1, -0.75, "kept", ha="center", va="center", fontsize=12, color=GREY)
    for part in parts:
        ax.plot([part[0] - 0.42, part[-1] + 0.42], [bottom - 0.2] * 2, color=GREY, lw=2)
        ax.text((part[0] + part[-1]) / 2, bottom + 0.3, "one checkpoint", ha="center",
                va="center", fontsize=12, color=GREY)
    return figure
