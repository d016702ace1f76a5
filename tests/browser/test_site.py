"""Every page of build/site: quiet, complete, readable, within reach of the keyboard."""

import io
import re

import pytest
from looking import (
    COLOURS,
    HEIGHTS,
    SITE,
    dimmed,
    inaccessible,
    overflow,
    spilled,
    split_words,
    too_small,
    without_alt,
)
from PIL import Image

import links

PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not {"_static", "lens", "slides"} & {*path.relative_to(SITE).parts}
)
NOTEBOOK = next((name for name in PAGES if name.startswith("notebooks/02")), None)

# What a reader can press must be in the tab order, unless a mouse cannot reach it either.
OUT_OF_REACH = """() => [...document.querySelectorAll("a[href], button, input, summary")]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && e.tabIndex < 0)
    .map((e) => e.outerHTML.slice(0, 120))"""
FOCUSED = """() => {
    const e = document.activeElement;
    if (e.closest("pre, div.output, .math")) return "scroller";
    if (e.textContent.trim() === "Skip to main content") return "skip link";
    if (e.closest(".prev-next-area")) return "previous and next";
    if (e.closest(".bd-sidebar-secondary")) return "contents";
    if (e.closest(".search-button-field")) return "search";
    if (e.closest(".bd-sidebar-primary")) return "navigation";
    if (e.closest(".bd-article")) return "article";
    if (e.closest(".bd-header-article")) return "buttons";
    return e.tagName;
}"""


def test_there_is_a_site_with_every_notebook():
    assert "index.html" in PAGES and "search.html" in PAGES
    notebooks = sorted((SITE.parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert {f"notebooks/{p.stem}.html" for p in notebooks} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_page(visit, site, name):
    page, complaints = visit(f"{site}/{name}", 360)
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) == [], f"scrolls sideways at {width} px"
        assert split_words(page) == [], f"in a table, at {width} px"
        assert spilled(page) == [], f"at {width} px"
        assert width < 390 or too_small(page, 0.31) == [], f"at {width} px"
    page.set_viewport_size({"width": 1024, "height": 768})
    assert without_alt(page) == []
    assert page.evaluate(OUT_OF_REACH) == []
    assert inaccessible(page) == [], "in the light theme"
    page.add_style_tag(content="* {transition: none !important}")  # or colours lag
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert inaccessible(page, COLOURS) == [], "in the dark theme"
    assert dimmed(page) == []
    assert complaints == []


@pytest.mark.parametrize("name", ["index.html", NOTEBOOK])
def test_tab_walks_through_the_page(visit, site, name):
    page, _ = visit(f"{site}/{name}", 1920)
    seen = []
    for _ in range(200):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if seen[-1] == "BODY":
            break
    parts = {"search", "navigation", "buttons", "article", "previous and next"}
    assert seen[0] == "skip link"
    assert parts <= set(seen) and ("contents" in seen) == (name != "index.html")


def test_skip_link_leads_to_the_text(visit, site):
    page, _ = visit(f"{site}/{NOTEBOOK}", 1024)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"


def test_the_system_chooses_dark(visit, site):
    page, _ = visit(f"{site}/index.html", 1024, dark=True)
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")


@pytest.mark.parametrize("picture", [".cell_output > img", ".text_html img"])
def test_white_is_white_in_the_dark(visit, site, picture):
    page, _ = visit(f"{site}/{NOTEBOOK}", 1024, dark=True)
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    shot = page.locator(f".bd-article {picture}").first.screenshot()
    colours = Image.open(io.BytesIO(shot)).convert("RGB").getcolors(1 << 24)
    assert max(colours)[1] == (255, 255, 255)


@pytest.mark.parametrize("term", ["pseudo-query", "softmax", "square root", "alpha"])
def test_search_finds_a_term_and_quotes_no_tex(visit, site, term):
    page, complaints = visit(f"{site}/search.html?q={term}", 1024)
    page.wait_for_selector("#search-results li a")
    page.get_by_text("Search finished").wait_for()
    page.wait_for_load_state("networkidle")
    found = page.locator("#search-results").inner_text()
    assert len(found) > 200
    assert re.findall(r"\\[()\[\]].*|\\[a-z]{3,}.*|\$.*", found) == []
    assert complaints == []


def test_a_caption_looks_like_one_and_nothing_else_does(visit, site):
    page, _ = visit(f"{site}/{NOTEBOOK}", 1024)
    small = page.evaluate("""() => {
        const size = (e) => parseFloat(getComputedStyle(e).fontSize);
        const all = [...document.querySelectorAll(".bd-article section > p")];
        return all.filter((p) => size(p) < size(document.body)).map((p) => p.textContent);
    }""")
    captions = page.locator("p", has_text=re.compile(r"^Figure: ")).all_text_contents()
    assert len(captions) > 5 and small == captions


def test_a_folded_solution_unfolds_and_formulas_are_set(visit, site):
    page, _ = visit(f"{site}/{NOTEBOOK}", 1024)
    page.wait_for_selector("mjx-container svg")
    solution = page.locator("details", has=page.get_by_text("Solution", exact=True)).first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert solution.locator("pre").is_visible()


def test_the_launch_button_leads_to_colab_once_the_address_is_known(visit, site):
    page, _ = visit(f"{site}/{NOTEBOOK}", 1024)
    launch = page.locator("a[href*='colab.research.google.com/github/']")
    found = [link.get_attribute("href") for link in launch.all()]
    wanted = "/blob/main/" + NOTEBOOK.replace(".html", ".ipynb")
    assert len(found) == 2 * links.known() and all(to.endswith(wanted) for to in found)
