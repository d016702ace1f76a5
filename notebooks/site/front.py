"""The front page of the site: index.md, filled from the README and from the records.

The claim's number comes from where the README has its own, recording/claims_primary.py;
what we measured and the gallery are the README's sections.
"""

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
FIRST = cells.notebooks()[0]


def page() -> str:
    """The front page in Markdown, with links as from the repository's root."""
    template = pages.moved(TEMPLATE.read_text(encoding="utf-8"), TEMPLATE, from_root)
    picture, _, findings = section("What we measured").partition("\n- ")
    return template.format(
        claim=claim(claims_primary.whodunnit()[0]), calls="\n".join(calls()),
        film=size(FILM), reads=size(FIGURES / "reads.png"), picture=picture,
        findings="- " + findings.replace("+/-", "±"), gallery="\n\n".join(gallery()),
    )


def from_root(path: Path) -> str:
    return path.relative_to(cells.ROOT).as_posix()


def claim(test: claims_primary.Primary) -> str:
    """One sentence, with its number and its interval."""
    low, gap = -test.gap.mean, test.gap
    return (
        "Trained on the same text and tuned over the same recipes, a small language model "
        f"with Block AttnRes ends <strong>{low:.3f} ± {gap.half_width:.3f} nats per byte"
        f"</strong> below its twin with PreNorm (95&nbsp;% interval, {gap.n} paired seeds)."
    )


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


def size(path: Path) -> str:
    """The attributes that keep a picture's place until it is there."""
    with Image.open(path) as picture:
        return 'width="{}" height="{}"'.format(*picture.size)


def draw(to: Path) -> None:
    """Write two pictures into the folder `to`: the film's last frame, for readers who asked
    for less motion, and the card that a shared link shows, of 1200 x 630 pixels."""
    to.mkdir()
    with Image.open(FILM) as film:
        film.seek(film.n_frames - 1)
        still = film.convert("RGB")
    still.save(to / "still.png")
    card = Figure(figsize=(12, 6.3), dpi=100)
    card.text(0.05, 0.5, "Attention\nResiduals\nfrom scratch", size=42, va="center")
    picture = card.add_axes((0.47, 0.05, 0.5, 0.9))
    picture.imshow(still)
    picture.axis("off")
    card.savefig(to / "card.png")
