"""The README leads to every notebook by a figure, a claim and minutes that are its own."""

import re
from functools import cache

import pytest
from PIL import Image

import cells
import gallery
import links

README = (cells.ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## The course\n")[2].partition("\n## ")[0]
CARDS = re.findall(r"^\| (\[!.*?) \| (.*) \|$", SECTION, re.MULTILINE)
NAMES = [path.name for path in cells.notebooks()]
of_a_notebook = pytest.mark.parametrize("name", NAMES)


@cache
def notebook(name):
    return cells.read(cells.ROOT / "notebooks" / name)


def card(name):
    """The two cells of the notebook's row."""
    return CARDS[NAMES.index(name)]


def claim(name):
    """What the row says of the notebook."""
    return card(name)[1].split("<br>")[1]


def unknown_numbers(told, text):
    """Those numbers that `text` does not have as they stand."""
    whole = r"(?<![\d.]){}(?!\.?\d)"
    numbers = re.findall(r"[\d,]*\.?\d+", told)
    return [n for n in numbers if not re.search(whole.format(re.escape(n)), text)]


def test_the_readme_is_short_and_every_notebook_has_a_card():
    assert README.count("\n") <= 150
    assert len(CARDS) == len(NAMES)


@of_a_notebook
def test_a_card_leads_to_its_notebook(name):
    picture, words = card(name)
    title = notebook(name).cells[0].source.partition("\n")[0].partition(" · ")[2]
    path, image = f"notebooks/{name}", f"notebooks/figures/gallery/{name[:2]}.png"
    assert re.fullmatch(rf"\[!\[.+\]\({image}\)\]\({path}\)", picture)
    start, _, end = words.split("<br>")
    assert start == f"**{name[:2]} · [{title}]({path})**"
    code = "\n".join(c.source for c in notebook(name).cells if c.cell_type == "code")
    minutes = float(re.search(r'start\(\{.*"cpu": ([\d.]+)', code)[1])
    badge = links.badge(links.setting(), name)
    assert end == f"{max(1, round(minutes))} min · {badge}"


@of_a_notebook
def test_the_numbers_of_a_card_are_the_notebooks(name):
    notes = notebook(name)
    printed = [out.get("text", "") for c in notes.cells for out in c.get("outputs", [])]
    assert unknown_numbers(claim(name), "\n".join([cells.prose(notes), *printed])) == []


def test_a_number_that_a_notebook_does_not_have_is_found():
    assert unknown_numbers("a loss of 0.15, or .99", "rises by 0.15 to .99 and 1") == []
    assert unknown_numbers("a loss of 0.1, or 9", "rises by 0.16, 0.9, 9.5") == ["0.1", "9"]


@of_a_notebook
def test_a_thumbnail_is_small_and_of_a_figure_that_the_notebook_stores(name):
    path = gallery.FOLDER / f"{name[:2]}.png"
    beginning, _ = gallery.PICTURES[name[:2]]
    _, alt = gallery.stored(cells.ROOT / "notebooks" / name, beginning)
    with Image.open(path) as picture:
        assert picture.size == gallery.SIZE and picture.mode == "P"
        assert picture.text["Description"] == alt, "run recording/gallery.py"
    assert path.stat().st_size <= 25_000


@pytest.mark.parametrize("beginning, n", [("A picture that is not there", 0), ("", 6)])
def test_a_picture_is_named_by_the_alt_text_of_one(beginning, n):
    with pytest.raises(ValueError, match=f"00_start_here.ipynb stores {n} pictures"):
        gallery.stored(cells.notebooks()[0], beginning)


def test_a_part_of_a_picture_lies_in_the_middle_of_a_white_card():
    picture = Image.new("RGB", (400, 100), "white")
    picture.paste("black", (200, 0, 400, 100))            # its right half
    half = gallery.thumbnail(picture, (0.5, 0, 1, 1)).convert("L")
    assert half.size == gallery.SIZE
    box = half.point(lambda x: 255 * (x < 128)).getbbox()
    width, height = gallery.SIZE
    assert box[0] + box[2] == width and box[1] + box[3] == height
    assert (box[2] - box[0], box[3] - box[1]) == (200, 100)   # not enlarged


def test_pictures_in_html_are_there_and_described():
    tags = re.findall(r"<img [^>]+>", README)
    assert len(tags) == 2
    for tag in tags:
        assert re.search(r'alt="[^"]{40,}"', tag)
        assert (cells.ROOT / re.search(r'src="([^"]+)"', tag)[1]).is_file()
