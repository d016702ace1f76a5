"""The one style of every figure of the course, and how a figure gets into a notebook.

Colours are Okabe and Ito's, told apart by colour-blind readers; each residual keeps
its colour and marker everywhere.
"""

import base64
import io
import math
from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure
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


def log_share(row: Sequence[float]) -> list[float]:
    """log2 of each entry, a share of 1, over the equal share."""
    return [math.log2(max(float(share) * len(row), 1e-6)) for share in row]


def heat_map(ax, rows, colours: str = "PuOr", vmin=-3, vmax=3, **look):
    """Rows of growing length as an image, of log2 in the default colours; cells without
    a source are grey."""
    n_sources = max(map(len, rows))
    grid = [[float(x) for x in row] + [math.nan] * (n_sources - len(row)) for row in rows]
    look |= dict(cmap=colormaps[colours].with_extremes(bad="#e6e6e6"), vmin=vmin, vmax=vmax)
    return ax.imshow(grid, interpolation="nearest", **look)


def draw_triangle(ax, rows, title: str, **look):
    """A `heat_map` of what layers read, Fig. 9: row = reading layer (the last is the final
    read), column = source. Returns the image."""
    image = heat_map(ax, rows, **look)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set(xlabel="source (0 = embedding)", ylabel="reading layer")
    ticks = range(0, len(rows), 4)
    ax.set_yticks(ticks, ["final" if t == len(rows) - 1 else str(t) for t in ticks])
    return image


def log_colour_bar(figure: Figure, image, beside, label: str, **look) -> None:
    """The scale of a `heat_map` of log2, in words such as 1/8 and 8."""
    bar = figure.colorbar(image, ax=beside, label=label, extend="both", **look)
    low, high = map(int, image.get_clim())
    ticks = range(low, high + 1)
    bar.set_ticks(ticks, labels=[f"1/{2**-n}" if n < 0 else f"{2**n}" for n in ticks])
