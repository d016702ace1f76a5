"""The front page of the site: index.md, filled from the README and from the records.

The claim's number comes from where the README has its own, recording/claims_primary.py;
what we measured and the gallery are the README's sections.
"""

import base64
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import cells
import claims_primary
import links
import pages

TEMPLATE = cells.ROOT / "notebooks" / "site" / "index.md"
FIGURES = cells.ROOT / "notebooks" / "figures"
FILM = FIGURES / "unfolding.gif"
FIRST, _, WITH_LENS = cells.notebooks()[:3]
# What the depth lens shows of itself where pages cannot run scripts.
STILL = re.compile(r'<img (alt="The depth lens[^"]+") src="data:image/png;base64,([^"]+)"')


def page() -> str:
    """The front page in Markdown, with links as from the repository's root."""
    test = claims_primary.whodunnit()[0]
    template = pages.moved(TEMPLATE.read_text(encoding="utf-8"), TEMPLATE, from_root)
    picture, _, findings = section("What we measured").partition("\n- ")
    return template.format(
        claim=claim(test), measure=measure(test), calls="\n".join(calls()),
        film=size(FILM), reads=size(FIGURES / "reads.png"), lens=lens()[0], picture=picture,
        findings="- " + findings.replace("+/-", "±"), gallery="\n\n".join(gallery()),
    )


def from_root(path: Path) -> str:
    return path.relative_to(cells.ROOT).as_posix()


def claim(test: claims_primary.Primary) -> str:
    """One sentence, with its number and what that means."""
    low, gap = -test.gap.mean, test.gap
    return (
        "Of two small language models, tuned alike and trained on the same text, the one "
        f"whose layers choose ends with a loss **{low:.3f} ± {gap.half_width:.3f} nats per "
        "byte** below that of the one with the usual sum, so that it gives the byte that "
        f"comes next about {100 * math.expm1(low):.0f}&nbsp;% more probability."
    )


def measure(test: claims_primary.Primary) -> str:
    """What the claim is about."""
    ours, theirs = test.name.split(" - ")
    return (f"{ours} against {theirs}, the usual sum: validation loss, 95&nbsp;% interval, "
            f"{test.gap.n} paired seeds, and the probability as a geometric mean.")


def calls() -> Iterator[str]:
    """The buttons."""
    yield f'<a class="first" href="notebooks/{FIRST.stem}.html">Read the course</a>'
    if links.known():
        yield f'<a href="{links.colab(links.setting(), FIRST.name)}">Run it on Colab</a>'
    yield '<a href="slides/index.html">Show the slides</a>'
    yield '<a href="lens/index.html">Try the depth lens</a>'


def section(heading: str) -> str:
    """What the README has under this heading."""
    readme = (cells.ROOT / "README.md").read_text(encoding="utf-8")
    return readme.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].strip()


def gallery() -> Iterator[str]:
    """A card for each row of the README's table: its thumbnail, then the words beside."""
    for row in re.findall(r"^\| (\[!\[.+) \|$", section("The course"), re.M):
        picture, _, words = row.partition(" | ")
        parts = ['<div class="notebook">', picture, *words.split("<br>"), "</div>"]
        yield "\n\n".join(parts)


def lens() -> tuple[str, bytes]:
    """The depth lens in notebook 02: the attributes of its still, and the still, a PNG."""
    shown = cells.read(WITH_LENS).cells
    outputs = (out.get("data", {}) for cell in shown for out in cell.get("outputs", []))
    html = "".join(data.get("text/html", "") for data in outputs)
    alt, data = STILL.search(html).groups()
    png = base64.b64decode(data)
    return f"{alt} {size(io.BytesIO(png))}", png


def size(path: Path | io.BytesIO) -> str:
    """The attributes that keep a picture's place until it is there."""
    with Image.open(path) as picture:
        return 'width="{}" height="{}"'.format(*picture.size)


def draw(to: Path) -> None:
    """Write three pictures into the folder `to`: the film's last frame, for readers who
    asked for less motion, the lens, and the card of a shared link, of 1200 x 630 pixels."""
    to.mkdir()
    with Image.open(FILM) as film:
        film.seek(film.n_frames - 1)
        still = film.convert("RGB")
    still.save(to / "still.png")
    (to / "lens.png").write_bytes(lens()[1])
    card = Figure(figsize=(12, 6.3), dpi=100)
    title, told = "Attention\nResiduals\nfrom scratch", "Layers that choose what they read"
    card.text(0.05, 0.58, title, size=42, weight="bold", va="center", linespacing=1.15)
    course = f"A course in {len(cells.notebooks())} notebooks, in PyTorch"
    card.text(0.05, 0.21, f"{told}.\n{course}", size=18, color="0.3", linespacing=1.5)
    picture = card.add_axes((0.49, 0.03, 0.5, 0.94))
    picture.imshow(still)
    picture.axis("off")
    card.savefig(to / "card.png")
