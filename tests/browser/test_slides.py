"""Every deck of build/slides, opened as a file, with nothing but itself."""

import pytest
from looking import SLIDES, inaccessible, overflow, too_small, without_alt

DECKS = sorted(path.name for path in SLIDES.glob("[0-9][0-9]_*.html"))

# A slide shows all it holds, or else scrolls and says so by being in the tab order.
CUT_OFF = """() => {
    const slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
    const out = [];
    const scrolls = slide.tabIndex === 0 && getComputedStyle(slide).overflowY === "auto";
    if (slide.scrollHeight > slide.clientHeight + 1 && !scrolls) out.push("too tall");
    if (slide.scrollWidth > slide.clientWidth + 1) out.push("too wide");
    if (box.left < 0 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1)
        out.push("outside the window");
    for (const e of slide.querySelectorAll("p, li, h1, h2, h3, img, table, pre")) {
        const edge = (e.closest(".figure") || e).getBoundingClientRect();  // it scrolls
        if (edge.width && edge.right > box.right + 1) out.push(e.outerHTML.slice(0, 100));
    }
    if (!slide.innerText.trim() && !slide.querySelector("img")) out.push("empty");
    return out;
}"""
SCROLLS = "() => Reveal.getCurrentSlide().tabIndex === 0"


def opened(visit, name: str, width: int):
    page, complaints = visit((SLIDES / name).as_uri(), width)
    page.wait_for_selector("body[data-ready]")
    return page, complaints


def test_every_notebook_has_a_deck():
    notebooks = (SLIDES.parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb")
    assert DECKS == sorted(f"{path.stem}.html" for path in notebooks)


@pytest.mark.parametrize("width", [360, 1024, 1920])
@pytest.mark.parametrize("name", DECKS)
def test_no_slide_is_cut_off(visit, name, width):
    page, complaints = opened(visit, name, width)
    count = page.evaluate("Reveal.getTotalSlides()")
    cut, scrolling, small = {}, [], []
    for number in range(1, count + 1):
        if faults := page.evaluate(CUT_OFF):
            cut[number] = faults
        if page.evaluate(SCROLLS):
            scrolling.append(number)
        small += too_small(page, 0.38) if width == 360 else []
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.isLastSlide()")
    assert cut == {}
    assert small == []
    if width > 360:  # a cell of forty lines has to; else the packing is too tight
        assert len(scrolling) <= count / 10, scrolling
    assert overflow(page) == []
    assert complaints == []


@pytest.mark.parametrize("name", DECKS)
def test_first_and_last_slide_show_and_are_readable(visit, name):
    page, complaints = opened(visit, name, 1024)
    title = page.locator("section.present section.present h1")
    assert title.is_visible() and title.inner_text().startswith(name[:2])
    assert page.locator("section.present h1").count() == 1
    assert inaccessible(page) == []
    page.evaluate("Reveal.slide(1e6, 1e6)")
    assert page.evaluate("Reveal.isLastSlide()")
    assert page.locator("section.present section.present").is_visible()
    assert "References" in page.locator(".slides > section.present").text_content()
    assert without_alt(page) == []
    assert inaccessible(page) == []
    assert complaints == []
