"""Figures of notebook 11: the layers of a hybrid, what each has to keep of the past, and
what recorded runs could have told."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle

from attnres_ref.plots import GREY, MARK, STYLES, axes, in_a_row, plain, sheet
from attnres_ref.plots.blocks import reads
from attnres_ref.plots.schematic import arrow, bar, box, canvas, tint
from attnres_ref.plots.study import draw_difference
from attnres_ref.study.intervals import Difference

# Colours that no residual in these figures has.
KINDS = {"attention": GREY, "MLA": "#CC79A7", "KDA": "#56B4E9", "MoE": "#F0E442"}
UNSEEN = "#bdbdbd"                     # gains that could not be seen
SHARE = {"attention": 2.0, "MLA": 0.25}        # what a token leaves behind, in units of d


def scores(found: Mapping[str, tuple[float, float]], title: str) -> Figure:
    """Scores of two models, the largest gain on top. found: task -> PreNorm's, Block's."""
    ranked = sorted(found, key=lambda task: found[task][1] - found[task][0])
    figure, ax = axes(title, "score (paper, sec. 5)", "", height=4.8)
    for y, task in enumerate(ranked):
        ax.plot(found[task], (y, y), color=GREY, linewidth=1.5, zorder=1)
        gain = found[task][1] - found[task][0]
        ax.text(max(found[task]) + 1.2, y, f"{gain:+.1f}", va="center", fontsize=10)
    for i, name in enumerate(("prenorm", "block")):
        label, colour, marker = STYLES[name]
        values = [found[task][i] for task in ranked]
        look = dict(color=colour, marker=marker, label=label, s=45)
        ax.scatter(values, range(len(ranked)), **look)
    ax.set_yticks(range(len(ranked)), ranked)
    ax.margins(x=0.12)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.9))
    return figure


def kept(n_tokens: int = 7) -> Figure:
    """What the newest token draws on, and what must be kept for that, in each of the four
    kinds of layer."""
    figure = sheet(6.6, 5.6)
    words = {
        "attention": "keeps 2 d numbers for each token",
        "MLA": "keeps d / 4 numbers for each token",
        "KDA": "keeps one state, whatever the length",
        "MoE": "keeps nothing",
    }
    for ax, (kind, what) in zip(figure.subplots(2, 2).flat, words.items()):
        ax.set(xlim=(-0.7, n_tokens), ylim=(-1.25, 4.4), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(f"{kind}: {what}", fontsize=10.5, loc="left")
        newest = n_tokens - 1
        for t in range(n_tokens):
            look = dict(facecolor="white" if t < newest else "#d9d9d9", edgecolor=GREY)
            ax.add_patch(Rectangle((t - 0.35, -0.7), 0.7, 0.5, **look))
        ax.text((newest - 1) / 2, -1.1, "earlier tokens", ha="center", fontsize=10)
        ax.text(newest, -1.1, "newest", ha="center", fontsize=10)
        ax.text(newest, 4.0, "its output", ha="center", fontsize=10)
        draw = {"KDA": _one_state, "MoE": _experts}.get(kind, _a_bar_each)
        draw(ax, newest, kind)
    return figure


def _a_bar_each(ax, newest: int, kind: str) -> None:
    """A bar on every token, as high as what it leaves behind, and all of them are read."""
    height = 1.1 * SHARE[kind]
    for t in range(newest + 1):
        ax.add_patch(Rectangle((t - 0.35, 0), 0.7, height, facecolor=tint(KINDS[kind]),
                               edgecolor=KINDS[kind]))
        arrow(ax, (t, height + 0.1), (newest, 3.8), linewidth=0.8)


def _one_state(ax, newest: int, kind: str) -> None:
    """Every token is written into one square, which the newest alone reads."""
    middle = newest / 2
    for t in range(newest + 1):
        arrow(ax, (t, -0.15), (middle + (t - middle) / 4, 0.95), linewidth=0.8)
    ax.add_patch(Rectangle((middle - 0.9, 1), 1.8, 1.8, facecolor=tint(KINDS[kind]),
                           edgecolor=KINDS[kind]))
    ax.text(middle, 1.9, "S", ha="center", va="center", fontsize=13)
    arrow(ax, (middle + 1, 2.4), (newest, 3.8))


def _experts(ax, newest: int, kind: str) -> None:
    """The newest token goes to two of the experts and to the shared one."""
    used, shared = (1, 4), newest
    for e in range(newest + 1):
        busy = e in (*used, shared)
        ax.add_patch(Rectangle((e - 0.35, 1.6), 0.7, 0.7, edgecolor=KINDS[kind],
                               facecolor=KINDS[kind] if busy else "white", linewidth=2))
        if busy:
            arrow(ax, (newest, -0.15), (e, 1.5))
            arrow(ax, (e, 2.4), (newest, 3.8), linewidth=0.8)
    ax.text(-0.4, 2.6, "experts", fontsize=10)
    ax.text(shared + 0.1, 1.15, "shared", ha="center", fontsize=10,
            bbox=dict(facecolor="white", edgecolor="none", pad=1))


def stack(kinds: Sequence[str], block_size: int, reader: int) -> Figure:
    """The layers in a row under their numbers, below each its output, in bars of one block;
    lines lead from the sources of one read to the layer that reads. kinds: keys of KINDS,
    of all layers."""
    last, colour = len(kinds), STYLES["block"][1]
    figure, ax = canvas(7.2, 3.1, (-0.6, last + 0.6), (-0.9, 3.8))
    for i, kind in enumerate(kinds, 1):
        edge = "black" if i == reader + 1 else KINDS[kind]
        ax.add_patch(Rectangle((i - 0.4, 1.9), 0.8, 1.3, facecolor=tint(KINDS[kind], 0.6),
                               edgecolor=edge, linewidth=2))
        ax.text(i, 2.55, kind, ha="center", va="center", rotation=90, fontsize=11)
        ax.text(i, 3.5, i - 1, ha="center", va="center", fontsize=11)
    *whole, final = reads(last, block_size)
    for outputs in whole[reader]:
        ax.plot([(outputs[0] + outputs[-1]) / 2, reader + 1], [0.36, 1.85], color=colour,
                linewidth=3, alpha=0.75, zorder=0.5)
    for n, outputs in enumerate(final):
        bar(ax, outputs, 0, colour, name="")
        there = whole[reader][n] if n < len(whole[reader]) else []
        if 0 < len(there) < len(outputs):          # the reader finds a part of it
            bar(ax, there, 0, colour, hatch="///", name="")
        ax.text((outputs[0] + outputs[-1]) / 2, -0.7, f"$b_{n}$", ha="center", va="center",
                fontsize=12)
    return figure


def chunks(n_chunks: int = 4) -> Figure:
    """The chunked recurrence: systems that are solved at once, and the states that follow
    one another."""
    figure, ax = canvas(6.6, 3.0, (-1.0, 2 * n_chunks + 0.6), (-0.3, 4.1))
    for n in range(n_chunks):
        x = 2 * n + 0.2
        corners = [(x, 3.4), (x, 2.2), (x + 1.2, 2.2)]
        ax.add_patch(Polygon(corners, facecolor=tint(KINDS["KDA"]), edgecolor=GREY))
        arrow(ax, (x + 0.6, 2.1), (x + 0.6, 1.0), "$M, N$", (x + 1.1, 1.55))
        box(ax, (x + 0.6, 0.6), f"$S_{n + 1}$", width=0.8)
        arrow(ax, (x - 0.75, 0.6), (x + 0.15, 0.6))
    ax.text(-0.8, 0.6, "$S_0$", ha="center", va="center", fontsize=11)
    ax.text(n_chunks - 0.3, 3.85, "one system for each chunk, all solved at once",
            ha="center", va="center", fontsize=11)
    ax.text(n_chunks - 0.3, -0.15, "the states, one after another: $M S + N$",
            ha="center", va="center", fontsize=11)
    return figure


def by_training(panels: Mapping[str, Mapping[str, tuple]], title: str) -> Figure:
    """Differences Block - PreNorm of untrained models, grey, and of the same models after
    training. panels: quantity -> recipe -> the two as a `Difference`."""
    figure, grid = in_a_row(panels, (7.2, 2.9), title, "", loc="left")
    for ax, recipes in zip(grid, panels.values()):
        ax.axvline(0, color="black", linewidth=0.8)
        for y, (before, after) in enumerate(recipes.values()):
            ax.errorbar(before.mean, y - 0.15, xerr=before.half_width, color=GREY,
                        marker="x", capsize=3)
            draw_difference(ax, after.mean, y + 0.15, after, "block", markersize=7,
                            xerr=after.half_width)
        ax.set_yticks(range(len(recipes)), list(recipes))
        ax.set_ylim(len(recipes) - 0.5, -0.5)
        ax.set_xlabel("Block - PreNorm")
    return _with_legend(figure, {"untrained": (GREY, "x"), "trained": STYLES["block"][1:]})


def _with_legend(figure: Figure, looks: Mapping[str, tuple[str, str]]) -> Figure:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
        for label, (colour, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def room(
    puzzles: Mapping[str, Mapping], guesses: Mapping[str, Sequence[float]], title: str
) -> Figure:
    """Every run's accuracy by the number of steps that the answer takes, whatever its
    residual: is there room for a gain? puzzles: name -> what
    `study.puzzles.final_accuracies` gives; guesses: name -> accuracy of a guess at 1, 2,
    ... steps."""
    names = [name.replace("_", " ") for name in puzzles]
    figure, grid = in_a_row(names, (6.6, 3.4), title, "accuracy on unseen puzzles")
    for ax, (name, depths) in zip(grid, puzzles.items()):
        groups = [seeds for found in depths.values() for seeds in found.values()]
        runs = sum(groups, [])
        for k, (guess, reached) in enumerate(zip(guesses[name], zip(*runs)), 1):
            ax.plot((k - 0.35, k + 0.35), (guess, guess), color="black", linestyle="--")
            places = [k + 0.5 * ((i + 0.5) / len(runs) - 0.5) for i in range(len(runs))]
            ax.scatter(places, sorted(reached), color=GREY, s=12, alpha=0.7)
        ax.set(xlabel="steps k", xticks=range(1, len(runs[0]) + 1), ylim=(0, 1.05))
    looks = {"a run of any residual": (GREY, "o"), "a guess": ("black", "_")}
    return _with_legend(figure, looks)


def power(rows: Mapping[str, Difference], paper: float, title: str) -> Figure:
    """For each comparison its 95 % interval, over the range of true gains that its seeds
    would miss in more than one of five experiments; dashed, the gain of the paper."""
    figure = sheet(6.6, 0.4 * len(rows) + 1.5, title)
    ax = figure.subplots()
    plain(ax)
    for y, gain in enumerate(rows.values()):
        unseen = dict(width=2 * gain.seen(), left=-gain.seen(), height=0.7)
        ax.barh(y, **unseen, color=UNSEEN, zorder=1)
        look = dict(color="black", marker="o", markerfacecolor="white", capsize=3)
        ax.errorbar(gain.mean, y, xerr=gain.half_width, **look)
    ax.axvline(paper, color=MARK, linestyle="--")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="gain in accuracy over PreNorm")
    return _with_legend(figure, {
        "the gain, 95 %": ("black", "o"), "too small to be seen": (UNSEEN, "s"),
        "the paper's gain": (MARK, "|"),
    })
