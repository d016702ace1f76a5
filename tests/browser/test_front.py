"""The front page and what it leads to: no dead link, pictures where they belong, less
motion for whoever asked for it."""

import re
from urllib.parse import unquote

import pytest
from looking import SITE

LOADED = """() => Promise.all([...document.images].map((i) => {
    i.loading = "eager";
    return i.decode().then(() => i.naturalWidth > 0, () => i.src);
}))"""


def test_everything_that_the_front_page_leads_to_is_there(visit, site):
    page, complaints = visit(f"{site}/index.html", 1440)
    leads = page.locator("a[href]").evaluate_all("all => all.map(a => a.href)")
    own = {to.removeprefix(f"{site}/").partition("#")[0] for to in leads if site in to}
    calls = page.locator(".calls a").evaluate_all("all => all.map(a => a.href)")
    for name in ("notebooks/00_start_here.html", "slides/index.html", "lens/index.html"):
        assert f"{site}/{name}" in calls
    assert [to for to in own if not (SITE / (unquote(to) or "index.html")).is_file()] == []
    assert page.evaluate(LOADED) == [True] * page.locator("img").count()
    assert page.locator(".gallery .notebook img").count() == 13
    assert complaints == []


def test_every_notebook_leads_to_its_slides():
    for path in SITE.glob("notebooks/[0-9]*.html"):
        found = re.findall(r'href="../(slides/[0-9].+?)"', path.read_text(encoding="utf-8"))
        assert found == [f"slides/{path.name}"] and (SITE / found[0]).is_file()


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_the_two_pictures_lie_side_by_side_where_there_is_room(visit, site, width):
    page, _ = visit(f"{site}/index.html", width)
    left, right = (page.locator(".hero img").nth(i).bounding_box() for i in (0, 1))
    if width == 390:
        assert right["y"] > left["y"] + left["height"] and left["x"] == right["x"]
    else:
        assert left["y"] == right["y"] and right["x"] > left["x"] + left["width"]
        assert abs(left["height"] - right["height"]) < 1


@pytest.mark.parametrize(("motion", "file"), [
    ("reduce", "still.png"), ("no-preference", "unfolding.gif"),
])
def test_the_film_stands_still_for_whoever_asked_for_less_motion(visit, site, motion, file):
    page, _ = visit("about:blank", 1024)
    page.emulate_media(reduced_motion=motion)
    page.goto(f"{site}/index.html")
    film = page.locator("picture img")
    film.evaluate("e => e.decode()")
    assert film.evaluate("e => e.currentSrc").endswith(f"/{file}")


def test_a_button_copies_a_lessons_code_and_outputs_have_none(visit, site):
    page, complaints = visit(f"{site}/notebooks/02_full_attnres.html", 1024)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = page.locator(".cell_input .highlight", has_text="def read").first
    code = block.locator("pre").text_content()
    block.hover()
    block.get_by_role("button", name="Copy").click()
    block.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == code.rstrip()
    assert page.locator(".cell_output .copy").count() == 0
    assert complaints == []


def test_the_code_of_a_figure_unfolds(visit, site):
    page, _ = visit(f"{site}/notebooks/02_full_attnres.html", 1024)
    folded = page.locator("details", has=page.get_by_text("Code of the figure")).first
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").click()
    assert "plots." in folded.locator("pre").inner_text()
