"""Pictures that move: frames under a slider in a notebook, or a GIF for a page."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from attnres_ref.plots import log_colour_bar, log_share, png, triangle

SLIDER = """<div style="max-width: {width}px">
<img alt="{alt}" src="data:image/png;base64,{first}" style="width: 100%">
<input type="range" min="0" max="{last}" value="0" style="width: 100%"
 aria-label="{what}" oninput="var frames = this.nextElementSibling.textContent.split(' ');
 this.previousElementSibling.src = 'data:image/png;base64,' + frames[this.value]">
<script type="text/plain">{frames}</script>
</div>"""


def slider(figures: Sequence[Figure], what: str, alt: str, still: int = -1) -> None:
    """Display frames of one size with a slider, where HTML with scripts is shown; else one
    frame as a picture, the last if no `still` says which. what: the quantity that the
    slider moves, "step"; alt: a sentence for readers who cannot see the frames."""
    from IPython.display import display

    frames = pngs(figures)
    width = round(figures[0].get_figwidth() * 96)
    page = SLIDER.format(
        width=width, alt=html.escape(alt), what=html.escape(what),
        first=frames[0], last=len(frames) - 1, frames=" ".join(frames),
    )
    display(
        {"text/html": page, "image/png": frames[still], "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def pngs(figures: Sequence[Figure]) -> list[str]:
    """The frames in base64. Raises ValueError if they are not of one size."""
    if len({tuple(figure.get_size_inches()) for figure in figures}) != 1:
        raise ValueError("frames of different sizes do not lie on one another")
    return [png(figure, 110, None) for figure in figures]


def gif(figures: Sequence[Figure], path: Path, seconds: float = 0.15) -> None:
    """Write frames of one size as a GIF that plays three times and stops at the last frame,
    because what moves for ever beside a text keeps people from reading it."""
    frames = [Image.open(io.BytesIO(base64.b64decode(frame))) for frame in pngs(figures)]
    rest = [1000 * seconds] * (len(frames) - 1) + [2500]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=rest, loop=2, optimize=True
    )


def unfolding(rows: Sequence[Sequence[float]], step: int) -> Figure:
    """A frame: the weights of every read after so many steps, over the plain mean, which
    is white and where every read begins."""
    shares = [*map(log_share, rows)]
    figure, ax, image = triangle(shares, f"step {step}", vmin=-2, vmax=2)
    log_colour_bar(figure, image, ax, "weight / plain mean", shrink=0.8)
    return figure
