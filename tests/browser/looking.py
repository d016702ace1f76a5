"""What the browser tests ask of an open page."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
SLIDES = ROOT / "build" / "slides"
# Two telephones, a projector, a laptop, a large screen.
HEIGHTS = {360: 740, 390: 844, 1024: 768, 1440: 900, 1920: 1080}
# axe-core's rules for WCAG 2.1, levels A and AA, and those among them that see colours.
QUICK = {"preload": False, "resultTypes": ["violations"]}
LEVELS = QUICK | {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
COLOURS = QUICK | {"runOnly": ["color-contrast", "link-in-text-block"]}


def listen(page: Page, complaints: list[str], own: str) -> None:
    """Note console errors, requests that fail and requests to any host but `own`."""

    def on_request(request) -> None:
        scheme, _, rest = request.url.partition(":")
        if scheme in ("http", "https", "ws", "wss") and rest[2:].partition("/")[0] != own:
            complaints.append(f"asks another server: {request.url}")

    def on_response(response) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status}: {response.url}")

    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda r: complaints.append(f"failed: {r.url} {r.failure}"))
    page.on("request", on_request)
    page.on("response", on_response)


def overflow(page: Page) -> list[str]:
    """What is wider than the window, if the page scrolls sideways at all."""
    return page.evaluate("""() => {
        const wide = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= wide) return [];
        return [...document.querySelectorAll("body *")]
            .filter((e) => e.getBoundingClientRect().right > wide + 1)
            .slice(0, 5).map((e) => e.outerHTML.slice(0, 120));
    }""")


def split_words(page: Page) -> list[str]:
    """Words in the cells of tables that go over two lines. Chinese may."""
    return page.evaluate("""() => {
        const split = [], part = document.createRange();
        const words = /[\\p{Script=Latin}\\d_.]{2,}/gu;
        for (const e of document.querySelectorAll(":is(th, td), :is(th, td) *"))
            for (const text of e.childNodes)
                for (const word of (text.data || "").matchAll(words)) {
                    part.setStart(text, word.index);
                    part.setEnd(text, word.index + word[0].length);
                    const boxes = [...part.getClientRects()];
                    if (boxes.some((box) => box.top > boxes[0].bottom)) split.push(word[0]);
                }
        return split;
    }""")


def spilled(page: Page) -> list[str]:
    """Cells of tables that are too narrow for their words."""
    return page.evaluate("""() => [...document.querySelectorAll("th, td")]
        .filter((e) => e.scrollWidth > e.clientWidth + 1)
        .map((e) => e.textContent)""")


def dimmed(page: Page) -> list[str]:
    """Pictures that a theme changes: white is no longer white."""
    return page.evaluate("""() => [...document.querySelectorAll(".bd-article img")]
        .filter((i) => i.checkVisibility() && getComputedStyle(i).filter !== "none")
        .map((i) => i.alt)""")


def too_small(page: Page, least: float) -> list[str]:
    """Figures shown at less than `least` of their own width. They have 160 pixels an inch,
    so that letters of 10 points at .31 are 7 pixels high."""
    return page.evaluate("""(least) => [...document.images]
        .filter((i) => i.closest(".cell_output, .figure") && i.checkVisibility())
        .map((i) => [i.getBoundingClientRect().width, i.naturalWidth, i.alt])
        .filter(([width, natural]) => width < least * natural)
        .map(([width, natural, alt]) => `${width} of ${natural}: ${alt}`)""", least)


def without_alt(page: Page) -> list[str]:
    """Pictures that say nothing to who cannot see them."""
    return page.evaluate("""() => [...document.images]
        .filter((i) => !i.alt.trim() || i.alt.includes("_images/"))
        .map((i) => i.outerHTML.slice(0, 120))""")


def inaccessible(page: Page, options: dict = LEVELS) -> list[str]:
    """One line per rule that is broken, with the first three places."""
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:150]} {node['failureSummary'][-160:]}"
        for rule in found for node in rule["nodes"][:3]
    ]


def answered(page: Page) -> None:
    """Wait until what the depth lens draws is the answer to what it is asked."""
    page.wait_for_function("models.get(`${state.residual}_${state.step}`) === model")
