"""Every figure of the course, in one style.

Colours are Okabe and Ito's, told apart by colour-blind readers; each residual keeps
its colour and marker everywhere. A function returns a Figure; `show` puts it into a
notebook together with its alt text.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

STYLES = {                             # residual: label, colour, marker
    "prenorm": ("PreNorm", "#0072B2", "o"),
    "block": ("Block AttnRes", "#E69F00", "s"),
    "full": ("Full AttnRes", "#009E73", "^"),
    # Full or Block with one thing changed ...
    "input_query": ("input-dependent query", "#CC79A7", "P"),
    "multihead": ("multihead", "#CC79A7", "X"),
    "sigmoid": ("sigmoid", "#CC79A7", "v"),
    "raw_keys": ("keys without RMSNorm", "#CC79A7", "<"),
    "block_raw_keys": ("Block, keys without RMSNorm", "#CC79A7", ">"),
    "window": ("sliding window", "#CC79A7", "d"),
    "static": ("input-independent mixing", "#CC79A7", "h"),
    # ... and other residual connections.
    "denseformer": ("DenseFormer", "#56B4E9", "D"),
    "mhc": ("mHC", "#56B4E9", "p"),
    "highway": ("Highway", "#56B4E9", "*"),
    "layerscale": ("LayerScale", "#56B4E9", "8"),
    "rezero": ("ReZero", "#56B4E9", "H"),
    "loud": ("PreNorm, loud embedding", "#56B4E9", "$+$"),
}
GREY = "#595959"
MARK = "#D55E00"                       # what a figure is about, or what is wrong in it


def style_of(name: str) -> tuple[str, str, str]:
    """Label, colour and marker of the residual whose label `name` begins with, or the first
    word of the label, as in "Block layer-wise"; grey if there is none."""
    whole = [s for s in STYLES.values() if name.startswith(s[0])]
    word = [s for s in STYLES.values() if name.startswith(s[0].split()[0])]
    return next(iter(whole + word), (name, GREY, "o"))


def show(figure: Figure, alt: str) -> None:
    """Display as PNG with `alt`, a sentence for readers who cannot see the picture."""
    from IPython.display import display

    display(
        {"image/png": png(figure), "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def png(figure: Figure, dpi: int = 160, box: str | None = "tight") -> str:
    """A PNG in base64, cut to its contents unless `box` is None. 160 dpi are sharp on a
    projector; a palette of 128 colours, more than a plot has, saves two thirds of it."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, bbox_inches=box)
    image = Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def sheet(width: float, height: float, title: str = "") -> Figure:
    """An empty figure, in inches; its title is flush left."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def plain(ax) -> None:
    """A light grid, and no frame where no scale is."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)


def axes(title: str, xlabel: str, ylabel: str, width: float = 6.4, height: float = 3.6):
    """A figure with one plain set of axes."""
    figure = sheet(width, height)
    ax = figure.subplots()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_axisbelow(True)
    plain(ax)
    return figure, ax


def in_a_row(names, size, title: str, ylabel: str, fontsize=10, loc="center", sharey=True):
    """A figure and plain axes beside each other, each under its name."""
    figure, names = sheet(*size, title), list(names)
    grid = figure.subplots(1, len(names), sharey=sharey, squeeze=False)[0]
    for ax, name in zip(grid, names):
        ax.set_title(name, fontsize=fontsize, loc=loc)
        plain(ax)
    grid[0].set_ylabel(ylabel)
    return figure, grid


def sketch(ax, points: Mapping[float, float] | None) -> None:
    """The reader's prediction, x -> y, beside what was measured; None draws nothing."""
    if points:
        ax.plot(*zip(*sorted(points.items())), "--", color="black", marker="x",
                label="your prediction")


def learning_curves(curves: Mapping[str, Sequence], title: str, first_step: int = 0):
    """Validation loss by step. curves: residual -> one list of [step, loss] per seed;
    thin lines are seeds, the thick one their mean."""
    figure, ax = axes(title, "step", "validation loss (nats per byte)")
    for name, seeds in curves.items():
        label, colour, marker = STYLES[name]
        seeds = [[point for point in seed if point[0] >= first_step] for seed in seeds]
        for seed in seeds:
            ax.plot(*zip(*seed), color=colour, linewidth=0.7, alpha=0.5)
        steps = [step for step, _ in seeds[0]]
        average = [mean(loss for _, loss in points) for points in zip(*seeds)]
        counted = f"{label} ({len(seeds)} seeds)" if len(seeds) > 1 else label
        ax.plot(steps, average, color=colour, marker=marker, label=counted)
    ax.legend(frameon=False)
    return figure


def final_losses(losses: Mapping[str, Sequence[float]], title: str):
    """Final validation loss: a marker per seed, paired seeds joined by a grey line."""
    figure, ax = axes(title, "", "validation loss (nats per byte)", width=5.0)
    names = list(losses)
    for pair in zip(*losses.values()):
        ax.plot(range(len(names)), pair, color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
    for x, name in enumerate(names):
        _, colour, marker = STYLES[name]
        ax.scatter([x] * len(losses[name]), losses[name], color=colour, marker=marker, s=45)
    ax.set_xticks(range(len(names)), [STYLES[name][0] for name in names])
    ax.set_xlim(-0.4, len(names) - 0.6)
    return figure


def log_share(row: Sequence[float]) -> list[float]:
    """log2 of each entry, a share of 1, over the equal share."""
    return [math.log2(max(float(share) * len(row), 1e-6)) for share in row]


def triangle(rows, title, **look):
    """A `heat_map` of what layers read, Fig. 9: row = reading layer (the last is the
    final read), column = source. Returns the figure, its axes and the image."""
    figure = sheet(0.22 * max(map(len, rows)) + 2.4, 0.22 * len(rows) + 1.2)
    ax = figure.subplots()
    image = heat_map(ax, rows, **look)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set(xlabel="source (0 = embedding)", ylabel="reading layer")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ticks = range(0, len(rows), 4)
    ax.set_yticks(ticks, ["final" if t == len(rows) - 1 else str(t) for t in ticks])
    return figure, ax, image


def heat_map(ax, rows, colours: str = "PuOr", vmin=-3, vmax=3, **look):
    """Rows of growing length as an image, of log2 in the default colours; cells without
    a source are grey."""
    n_sources = max(map(len, rows))
    grid = [[float(x) for x in row] + [math.nan] * (n_sources - len(row)) for row in rows]
    look |= dict(cmap=colormaps[colours].with_extremes(bad="#e6e6e6"), vmin=vmin, vmax=vmax)
    return ax.imshow(grid, interpolation="nearest", **look)


def log_colour_bar(figure: Figure, image, beside, label: str, **look) -> None:
    """The scale of a `heat_map` of log2, in words such as 1/8 and 8."""
    bar = figure.colorbar(image, ax=beside, label=label, extend="both", **look)
    low, high = map(int, image.get_clim())
    ticks = range(low, high + 1)
    bar.set_ticks(ticks, labels=[f"1/{2**-n}" if n < 0 else f"{2**n}" for n in ticks])


def bars(values: Mapping[str, float], title: str, xlabel: str, unit: str = ""):
    """Horizontal bars with the number written at each."""
    figure, ax = axes(title, xlabel, "", height=0.5 * len(values) + 1.1)
    ax.grid(visible=False)
    for y, (name, value) in enumerate(values.items()):
        _, colour, _ = style_of(name)
        ax.barh(y, value, color=colour, height=0.6)
        ax.text(value, y, f" {value:.3g}{unit}", va="center")
    ax.set_yticks(range(len(values)), list(values))
    ax.invert_yaxis()
    ax.margins(x=0.15)
    return figure
