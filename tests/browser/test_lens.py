"""The depth lens in Chromium, from a folder and from a server: what it does."""

import re

import pytest
import torch
from looking import answered, inaccessible, overflow

import lens
from attnres_ref.study.probes import at_every_read

BUDGET = 8e6                           # bytes, of the page with every model
TEXT = ("def area(width, height):\n    total = width * height\n    return total\n\n"
        "print(area(31, 24), 'é')\n")
assert len(TEXT.encode()) == 96
CHANGE = "#change"


def drawn(page, part: str) -> str:
    """All but what is in the tab order."""
    return re.sub(r' tabindex="\S+"', "", page.inner_html(part))


@pytest.mark.parametrize("residual", lens.RESIDUALS)
def test_the_page_computes_what_pytorch_computes(look, residual):
    page, _ = look(text=TEXT, residual=residual)
    model, tokens = lens.load(residual, 2000), torch.tensor([list(TEXT.encode())])
    found = page.evaluate("({weights: answer.weights.map((w) => [...w]),"
                          " chances: [...answer.chances]})")
    with torch.no_grad():
        wanted = model(tokens)[0].softmax(-1)
    chances = torch.tensor(found["chances"]).view_as(wanted)
    torch.testing.assert_close(chances, wanted, atol=1e-4, rtol=0)
    if residual == "prenorm":
        weights = [torch.full([96, n], 1 / n) for n in range(1, 18)]
    else:
        weights = at_every_read(model, tokens, lambda weights, _: weights[:, 0].T)
    for got, wanted in zip(found["weights"], weights, strict=True):
        got = torch.tensor(got, dtype=torch.float32).view_as(wanted)
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


def test_the_first_answer_to_96_bytes_comes_within_two_seconds(look):
    page, _ = look(text=TEXT)
    assert page.evaluate("bytes.length") == 96
    first = "performance.getEntriesByName('first answer')[0].startTime"
    milliseconds = page.evaluate(first)
    print(f"\nfirst answer after {milliseconds:.0f} ms; {page.inner_text('#speed')}")
    assert milliseconds < 2000


def test_the_page_with_every_model_keeps_its_budget(visit, lens_folder, lens_address):
    loaded = {}
    page, complaints = visit("about:blank", 1024)
    page.on("response", lambda r: loaded.setdefault(r.url.split("#")[0], r))
    page.goto(lens_address)
    page.wait_for_selector(".triangle")
    for residual in lens.RESIDUALS:
        page.evaluate("(residual) => show({ residual })", residual)
        for step in lens.STEPS:
            page.evaluate("(step) => show({ step })", step)
            answered(page)
    names = {url.rpartition("/lens/")[2] or url for url in loaded}
    sizes = [len(response.body()) for response in loaded.values()]
    print(f"\n{len(loaded)} files, {sum(sizes) / 1e6:.2f} MB")
    assert sum("weights/" in name for name in names) == 16
    everything = [path for path in lens_folder.rglob("*") if path.is_file()]
    assert sum(sizes) <= sum(path.stat().st_size for path in everything) <= BUDGET


def test_type_hover_cut_slide_switch_and_share(look):
    page, complaints = look()
    page.fill("#text", "for x in names:\n    print(x)")
    page.wait_for_function("bytes.length === 28")
    assert page.locator("[role=option]").count() == 28
    assert page.locator("[role=option][aria-selected=true]").text_content() == ")"

    here = page.inner_html("#triangle")
    page.hover("#byte-5")
    assert page.inner_html("#triangle") != here, "hovering shows other weights"
    page.mouse.move(0, 0)
    assert page.inner_html("#triangle") == here, "and leaving brings the chosen ones back"
    page.click("#byte-20")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)         # until the browser sees what is under the mouse
    assert page.evaluate("[state.at, seen()]") == [21, 21], "the keys outdo a resting mouse"

    page.click("[data-read='7'][data-source='7']")
    assert "MLP 7 reads attention 6 by" in page.inner_text("#cell")
    assert "The model gives" in page.inner_text(CHANGE)
    bars = page.inner_html("#bars")
    page.click("#cut")
    assert page.inner_html("#bars") != bars
    assert page.locator(".before").count() == 8
    assert "Over the whole text, the loss goes from" in page.inner_text(CHANGE)
    assert "reads nothing of attention 6" in page.inner_text("#cell")
    page.fill("#pin", "0.4")
    assert "reads attention 6 by 0.40" in page.inner_text("#cell")
    assert page.locator(".triangle .pinned").count() == 1
    page.click(".triangle text[data-source='3']")
    assert page.locator(".triangle .cut").count() == 14
    assert "Attention 2 is cut from every read" in page.inner_text("#said")

    page.fill("#step", "3")
    answered(page)
    assert page.evaluate("model === models.get('full_200')")
    assert page.inner_text("#moment").startswith("200, validation loss")
    page.get_by_label("PreNorm").check()
    answered(page)
    assert page.locator(".triangle .cut").count() == 14, "the same sources, the same edits"

    page.wait_for_function("location.hash.includes('residual=prenorm')")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".triangle")
    for part in ("#triangle", "#bars", CHANGE, "#cell", "#moment"):
        assert drawn(other, part) == drawn(page, part), part
    page.get_by_label("Block AttnRes").check()
    answered(page)
    assert page.locator(".triangle .cut").count() == 0
    assert "other sources" in page.inner_text("#said")
    assert complaints == []


def test_the_last_source_of_a_read_cannot_be_cut(look):
    page, _ = look(edits="1,0=0", cell="1,1")
    page.click("#cut")
    assert "last source" in page.inner_text("#said")
    assert page.evaluate("[...state.edits]") == [["1,0", 0]]
    page.click(".triangle text[data-source='0']")
    assert "but for attention 0" in page.inner_text("#said")
    assert page.locator(".triangle .cut").count() == 16
    page.click("#undo")
    assert page.locator(".triangle .cut").count() == 0


def test_every_lesson_shows_something_else(look):
    page, complaints = look()
    seen = {page.inner_html("#triangle")}
    buttons = page.locator("#lessons button")
    for number in range(buttons.count()):
        buttons.nth(number).click()
        answered(page)
        assert page.inner_text("#lesson")
        seen.add(page.inner_html("#triangle"))
        pressed = page.locator("#lessons [aria-current=true]").all_inner_texts()
        assert pressed == [buttons.nth(number).inner_text()]
    assert len(seen) == buttons.count() + 1
    buttons.nth(2).click()             # from Block, with other sources, to edits of Full
    answered(page)
    assert page.locator(".triangle .cut").count() == 10
    assert complaints == []


def tab_to(page, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_the_keyboard_reaches_and_does_everything(look):
    page, _ = look()
    page.focus("#text")
    tab_to(page, "#characters")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.at") == 1
    tab_to(page, "#lessons button:last-child")
    tab_to(page, "[name=residual]")
    page.keyboard.press("ArrowLeft")
    answered(page)
    assert page.evaluate("state.residual") == "block"
    tab_to(page, "#step")
    page.keyboard.press("ArrowLeft")
    answered(page)
    assert page.evaluate("state.step") == 700
    tab_to(page, ".triangle *")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert "MLP 1 reads block 1" in page.inner_text("#cell")
    page.keyboard.press("Enter")
    assert page.evaluate("state.selected") == "1,1"
    tab_to(page, "#cut")
    page.keyboard.press("Enter")
    assert page.evaluate("[...state.edits]") == [["1,1", 0]]
    tab_to(page, "#pin")
    page.keyboard.press("End")
    assert page.evaluate("state.edits.get('1,1')") == 1
    tab_to(page, "#release")
    page.keyboard.press("Space")
    assert page.evaluate("state.edits.size") == 0
    tab_to(page, "#undo")
    tab_to(page, "#copy")
    page.keyboard.press("Enter")
    page.wait_for_function("$('said').textContent.includes('copied') || !$('link').hidden")
    page.focus(".triangle [tabindex='0']")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")       # the name of block 1, at the end of its row
    assert page.evaluate("state.edits.size") == 16
    assert page.evaluate("document.activeElement.dataset.source") == "1", "keeps the focus"


@pytest.mark.parametrize("dark", [False, True])
def test_everyone_can_read_it(look, dark):
    page, complaints = look(dark=dark, edits="7,7=0 9,2=0.5", cell="9,2")
    page.locator("#lessons button").first.focus()
    assert inaccessible(page) == []
    for width in (390, 320, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert overflow(page) == []
    assert complaints == []


SEEN_TOGETHER = ("#text", "#characters", "#lessons", "#triangle", "#panel", "#bars",
                 "#change")


@pytest.mark.parametrize("size", [(1024, 768), (1440, 900), (980, 680)])
def test_a_cut_and_its_effect_are_seen_together(look, size):
    embed = size == (980, 680)         # as a deck makes room for it
    page, _ = look("?embed" if embed else "", edits="7,7=0", cell="7,7")
    page.set_viewport_size(dict(zip(("width", "height"), size)))
    assert page.is_visible("header") != embed
    assert page.evaluate("scrollY") == 0
    for part in SEEN_TOGETHER:
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= size[1], part
    if embed:
        assert page.evaluate("document.documentElement.scrollHeight") <= size[1]


def test_on_a_telephone_a_finger_reaches_every_cell(browser, lens_address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True,
                                  is_mobile=True)
    page = context.new_page()
    page.goto(lens_address)
    page.tap("[data-read='7'][data-source='7']")
    page.wait_for_function("state.selected === '7,7'")
    beside = page.locator("#steps-aside button")
    assert all(min(b.bounding_box()["width"], b.bounding_box()["height"]) >= 44
               for b in beside.all())
    for number, cell in ((0, "7,6"), (2, "8,6"), (3, "8,7"), (1, "7,7"), (1, "7,7")):
        beside.nth(number).tap()       # left, down, right, up, and up where no cell is
        assert page.evaluate("state.selected") == cell
    page.evaluate("show({ selected: '7,0' })")
    beside.first.tap()
    assert page.evaluate("state.selected") == "7,0", "nothing is left of it"
    page.evaluate("show({ selected: '7,7' })")
    page.tap("#cut")
    high = page.locator("#bars").bounding_box()
    low = page.locator("#cell").bounding_box()
    assert high["y"] + high["height"] - low["y"] < 500, "cut and bars share a screen"
    context.close()
