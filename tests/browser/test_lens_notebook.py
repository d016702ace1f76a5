"""The depth lens of a notebook in a browser: each character has the model's own numbers."""

import re

import pytest
import torch
from looking import inaccessible

from attnres_ref import LM, LMConfig, plots
from attnres_ref.plots import depth_lens

TEXT = "if a:\n    b\n"
PAGE = """<!doctype html><html lang="en"><title>A notebook</title>
<meta name="viewport" content="width=device-width"><main>{}</main></html>"""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = LM(LMConfig(d_model=16, n_layers=6, n_heads=2, context=16, residual="full"))
    torch.nn.init.normal_(made.stream.queries, std=4)      # some weights round to nothing
    return made


@pytest.fixture(scope="module")
def html(model):
    found = []
    patch = pytest.MonkeyPatch()
    patch.setattr("IPython.display.display", lambda data, **_: found.append(data))
    plots.lens(model, TEXT)
    patch.undo()
    return PAGE.format(found[0]["text/html"])


@pytest.fixture
def page(browser, html):
    """At a telephone's width; what the page asks for or complains about is an error."""
    page = browser.new_page(viewport={"width": 350, "height": 700})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda r: r.url.startswith("http") and complaints.append(r.url))
    page.set_content(html)
    page.wait_for_selector("svg")
    yield page
    assert complaints == []
    page.close()


def assert_shows(page, model, t):
    """The triangle, in the words of its cells, and the bars are those of byte t."""
    known = depth_lens.look(model, TEXT)
    cells = page.locator("svg rect[data-read]")
    titles = cells.locator("title").all_text_contents()
    weights = [float(re.search(r" by ([\d.]+)", words)[1]) for words in titles]
    expected = [weight / 1000 for row in known["weights"][t] for weight in row]
    assert 0 in expected and max(expected) == 1
    assert weights == pytest.approx(expected, abs=0.0051)
    names = page.locator(".next b").all_text_contents()
    shares = page.locator(".next b + span").all_text_contents()
    wanted = [
        (name, f"{chance / 10:.1f} %" + " ← in the text" * came)
        for name, chance, came in known["next"][t]
    ]
    assert [*zip(names, shares)] == wanted
    seen = page.locator(".text button").evaluate_all(
        "buttons => buttons.map(button => button.classList.contains('seen'))")
    assert [i for i, is_seen in enumerate(seen) if is_seen] == [t]


def test_pointing_at_a_character_shows_its_weights_and_leaving_goes_back(page, model):
    start = len(TEXT) - 2
    assert_shows(page, model, start)
    buttons = page.locator(".text button")
    for t in (0, 3):
        buttons.nth(t).hover()
        assert_shows(page, model, t)
    page.mouse.move(5, 690)
    assert_shows(page, model, start)
    buttons.nth(3).click()
    page.mouse.move(5, 690)
    assert_shows(page, model, 3)
    assert buttons.nth(3).get_attribute("aria-pressed") == "true"


def test_the_keyboard_reaches_every_character_by_one_stop(page, model):
    outside = []
    page.expose_function("outside", lambda key: outside.append(key))
    page.evaluate("() => { document.onkeydown = event => outside(event.key) }")
    page.keyboard.press("Tab")
    assert_shows(page, model, len(TEXT) - 2)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert_shows(page, model, len(TEXT) - 5)
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert_shows(page, model, len(TEXT) - 1)             # the last one has no next
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === document.body")
    assert outside == ["Tab", "Tab"]           # at an arrow, a deck would turn its page


def test_the_weight_of_a_cell_is_written_out(page, model):
    weight = depth_lens.look(model, TEXT)["weights"][-2][3][1] / 1000
    page.locator("svg rect[data-read='3'][data-source='1']").hover()
    note = page.locator(".note").inner_text()
    assert note.startswith("MLP 3 reads attention 0 by ")
    assert float(re.search(r" by ([\d.]+)", note)[1]) == pytest.approx(weight, abs=0.0051)


def test_it_fits_a_telephone_and_can_be_read_by_all(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 350
    spoken = page.locator(".text button").evaluate_all(
        "buttons => buttons.map(button => button.ariaLabel || button.textContent)")
    assert spoken[2:6] == ["space", "a", ":", "newline"]
    assert page.locator("svg").bounding_box()["width"] > 300        # words of 10 pixels
    assert inaccessible(page) == []
    greys = page.locator("button.white:not(.seen)").evaluate_all(
        "buttons => buttons.map(b => parseInt(getComputedStyle(b).color.slice(4)))")
    assert greys and max(greys) <= 118       # 4.5 to 1 on white: axe skips single letters


def test_styles_of_the_page_do_not_reach_in(page):
    page.add_style_tag(content="button { display: none } p { font-size: 90px }")
    assert page.locator(".text button").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 350


def test_without_scripts_the_still_is_there(browser, html):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(html)
    assert page.locator("img").is_visible()
    alt = page.get_attribute("img", "alt")
    assert alt.startswith("The depth lens on a text of 12 bytes")
    assert page.locator("main").inner_text().strip() == ""          # no code lies open
    context.close()
