"""The depth lens, a page of its own that needs no server: copied together from its parts.

    python notebooks/site/lens_page.py              # build/lens/index.html, to try it

The site and the decks each get a copy, because either folder can be given away alone. It is
8 MB, and the links to notebooks differ: in the decks they lead to the handouts.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "notebooks" / "site" / "lens"
DRAWING = ROOT / "attnres_ref" / "plots" / "triangle.js"
ICON = ROOT / "notebooks" / "site" / "static" / "icon.svg"
WEIGHTS = ROOT / "notebooks" / "recorded" / "lens"


def copy_to(folder: Path, notebooks: str = "../notebooks", weights: Path = WEIGHTS) -> None:
    """Make `folder` the lens. notebooks: where the rendered notebooks lie, seen from it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PAGE, folder)
    shutil.copytree(weights, folder / "weights")
    for part in (DRAWING, ICON):
        shutil.copy(part, folder)
    index = folder / "index.html"
    html = index.read_text(encoding="utf-8").replace("NOTEBOOKS", notebooks)
    index.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    copy_to(ROOT / "build" / "lens", notebooks="../site/notebooks")
    print("wrote build/lens/index.html")
