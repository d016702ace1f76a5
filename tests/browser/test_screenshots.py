"""Pictures to look at, in build/screenshots: pages and a deck at three widths."""

import io

import pytest
from looking import ROOT, SLIDES
from PIL import Image

FOLDER = ROOT / "build" / "screenshots"
WIDTHS = (390, 1024, 1440)


def save(page, name: str) -> None:
    data = page.screenshot()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_bytes(data)
    colours = Image.open(io.BytesIO(data)).convert("RGB").getcolors(1 << 24)
    assert len(colours) > 20, "an empty page?"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index", "lens/index", "notebooks/02_full_attnres"])
def test_page(visit, site, name, width, dark):
    page, _ = visit(f"{site}/{name}.html", width, dark)
    page.wait_for_load_state("networkidle")
    save(page, f"{name.replace('/', '_')}_{width}{'_dark' if dark else ''}.png")


@pytest.mark.parametrize("width", WIDTHS)
def test_deck(visit, width):
    page, _ = visit((SLIDES / "02_full_attnres.html").as_uri(), width)
    page.wait_for_selector("body[data-ready]")
    for _ in range(5):
        page.keyboard.press("Space")
    save(page, f"deck_{width}.png")
