"""Every deck of build/slides, opened as a file, with nothing but itself."""

import re

import pytest
from looking import SLIDES, inaccessible, overflow, too_small, without_alt

DECKS = sorted(path.name for path in SLIDES.glob("[0-9][0-9]_*.html"))
TALKS = sorted(path.name for path in SLIDES.glob("seminar_*.html"))

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
# On a projector nothing but a link is small, and neither code nor a formula is cut.
SMALL = """() => {
    const slide = Reveal.getCurrentSlide();
    const size = (e) => parseFloat(getComputedStyle(e).fontSize);
    const most = size(document.querySelector(".reveal"));
    const scrolls = (e) => e.matches("pre, mjx-container") && e.tabIndex === 0;
    return [...slide.querySelectorAll("p, li, td, th, pre, h1, h2, mjx-container")]
        .filter((e) => size(e) < 0.74 * most || scrolls(e))
        .map((e) => e.outerHTML.slice(0, 100));
}"""
TO_SLIDE_WITH = """(what) => Reveal.slide(
    [...document.querySelectorAll(".slides > section")]
        .findIndex((slide) => slide.querySelector(what))
)"""
SCROLLS = "() => Reveal.getCurrentSlide().tabIndex === 0"


def opened(visit, name: str, width: int):
    page, complaints = visit(f"{SLIDES.as_uri()}/{name}", width)
    page.wait_for_selector("body[data-ready]")
    return page, complaints


def test_every_notebook_has_a_deck():
    notebooks = (SLIDES.parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb")
    assert DECKS == sorted(f"{path.stem}.html" for path in notebooks)
    talks = (SLIDES.parents[1] / "notebooks" / "site" / "seminar").glob("*.md")
    assert TALKS == sorted(f"seminar_{path.stem}.html" for path in talks)


@pytest.mark.parametrize("width", [360, 1024, 1920])
@pytest.mark.parametrize("name", [*DECKS, *TALKS])
def test_no_slide_is_cut_off(visit, name, width):
    page, complaints = opened(visit, name, width)
    count = page.evaluate("Reveal.getTotalSlides()")
    cut, scrolling, small = {}, [], []
    for number in range(1, count + 1):
        page.evaluate("() => { while (Reveal.nextFragment()); }")
        if faults := page.evaluate(CUT_OFF):
            cut[number] = faults
        if page.evaluate(SCROLLS):
            scrolling.append(number)
        if width == 360:
            small += too_small(page, 0.38)             # figures
        elif name in TALKS:
            small += page.evaluate(SMALL)              # words
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.isLastSlide()")
    assert cut == {}
    assert small == []
    if width > 360:  # a cell of forty lines has to; else the packing is too tight
        assert len(scrolling) <= (0 if name in TALKS else count / 10), scrolling
    assert overflow(page) == []
    # Whoever turns the pages this fast leaves the lens before it is there.
    assert [words for words in complaints if "ERR_ABORTED" not in words] == []


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


@pytest.mark.parametrize("name", TALKS)
def test_every_slide_of_a_talk_is_readable_and_described(visit, name):
    page, complaints = opened(visit, name, 1024)
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate("() => { while (Reveal.nextFragment()); }")
        if not page.locator(".present > .present .lens").count():  # test_lens.py has it
            assert inaccessible(page) == []
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.isLastSlide()")
    assert without_alt(page) == []
    assert [words for words in complaints if "ERR_ABORTED" not in words] == []


def test_a_poll_shows_one_answer_after_another(visit):
    page, _ = opened(visit, "seminar_02.html", 1024)
    page.evaluate(TO_SLIDE_WITH, ".celltag_option")
    answers = page.locator(".present > .present .celltag_option li")
    assert answers.count() >= 3
    for answer in answers.all():
        assert not answer.is_visible()
        page.keyboard.press("Space")
        answer.wait_for()


def test_the_lens_runs_inside_a_talk(visit):
    page, complaints = opened(visit, "seminar_02.html", 1024)
    page.evaluate(TO_SLIDE_WITH, ".lens")
    lens = page.frame_locator(".present .lens iframe")
    lens.get_by_text("What each layer reads").wait_for()
    lens.get_by_text("chance of").first.wait_for()      # a model has read the text
    assert not page.locator(".present .lens img").is_visible()
    assert complaints == []


def test_without_scripts_a_talk_shows_the_lens_as_a_picture(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((SLIDES / "seminar_02.html").as_uri())
    display = "(e) => getComputedStyle(e).display"
    assert page.locator(".lens img").evaluate(display) == "block"
    assert page.locator(".lens .frame").evaluate(display) == "none"
    context.close()


def test_the_speaker_sees_notes(visit):
    page, complaints = opened(visit, "seminar_02.html", 1024)
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes")
    notes.get_by_text("Minute 0.").wait_for()
    page.keyboard.press("Space")
    notes.get_by_text("Minute 1.").wait_for()
    assert complaints == []


def test_a_talk_is_printed_a_slide_to_a_page(visit):
    page, _ = opened(visit, "seminar_02.html?print-pdf", 1024)
    page.wait_for_selector(".pdf-page")
    printed = page.pdf(prefer_css_page_size=True)
    n_slides = page.locator(".slides > section").count()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == n_slides > 12
