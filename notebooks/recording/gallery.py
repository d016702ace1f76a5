"""Cut the pictures of the README's gallery out of the notebooks' stored outputs,
notebooks/figures/gallery/NN.png.

    python notebooks/recording/gallery.py

A picture is named by the beginning of its alt text, so that it is found again after a
notebook was recorded anew. The alt text goes along, into the PNG's Description, where
tests/test_front_door.py compares it with the notebook's.
"""

import argparse
import base64
import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import cells

FOLDER = Path(__file__).parents[1] / "figures" / "gallery"
SIZE = 320, 200                        # pixels
WHOLE = 0, 0, 1, 1
# notebook: how the alt text begins, and the part to show: left, top, right, bottom.
PICTURES = {
    "00": ("A grey band, the stream, above three layers", WHOLE),
    "01": ("An arrow that swells from 1 to 5.6", WHOLE),
    "02": ("Two triangles of weights, for reads of attention and of MLPs", WHOLE),
    "03": ("Four staircases of nine rows", WHOLE),
    "04": ("Differences of loss to PreNorm's against the length", (0, 0, 1, 0.87)),
    "05": ("Differences to PreNorm of five arms", (0, 0, 0.68, 1)),
    "06": ("Two falling lines, PreNorm above Block", WHOLE),
    "07": ("Two triangles. On the left the weights", WHOLE),
    "08": ("The schedule in two phases, moment by moment", WHOLE),
    "09": ("Code lines with bars", WHOLE),
    "10": ("Three timelines of four ranks", (0, 0.05, 0.8, 0.595)),
    "11": ("Layers 0 to 15 in a row", WHOLE),
    "12": ("Left: a line h rises past a block", WHOLE),
}


def stored(path: Path, beginning: str) -> tuple[Image.Image, str]:
    """The one picture of a notebook whose alt text begins so, and that text. Raises
    ValueError if there is none, or more than one."""
    outputs = [out for cell in cells.read(path).cells for out in cell.get("outputs", [])]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    alts = [out.metadata["image/png"]["alt"] for out in pictures]
    found = [i for i, alt in enumerate(alts) if alt.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(
            f"{path.name} stores {len(found)} pictures whose alt text begins with "
            f"{beginning!r}; name one of its own in PICTURES"
        )
    data = base64.b64decode(pictures[found[0]]["data"]["image/png"])
    return Image.open(io.BytesIO(data)).convert("RGB"), alts[found[0]]


def thumbnail(picture: Image.Image, part: tuple[float, float, float, float]) -> Image.Image:
    """A part of a picture, in the middle of a white card of the gallery's size."""
    width, height = picture.size
    left, top, right, bottom = part
    picture = picture.crop((left * width, top * height, right * width, bottom * height))
    margin = 6
    picture.thumbnail([side - 2 * margin for side in SIZE], Image.Resampling.LANCZOS)
    card = Image.new("RGB", SIZE, "white")
    card.paste(picture, [(a - b) // 2 for a, b in zip(SIZE, picture.size)])
    look = dict(method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    return card.quantize(128, **look)


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    for path in cells.notebooks():
        name = path.name[:2]
        beginning, part = PICTURES[name]
        picture, alt = stored(path, beginning)
        note = PngInfo()
        note.add_itxt("Description", alt)
        thumbnail(picture, part).save(FOLDER / f"{name}.png", optimize=True, pnginfo=note)
    print(f"wrote {len(PICTURES)} pictures to notebooks/figures/gallery")


if __name__ == "__main__":
    main()
