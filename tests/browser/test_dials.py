"""Notebook 10's dials in a browser: the script draws what the page knows."""

import json
import re
from urllib.parse import unquote

import pytest

from attnres_ref.plots import dials


@pytest.fixture(scope="module")
def html():
    found = []
    patch = pytest.MonkeyPatch()
    patch.setattr("IPython.display.display", lambda data, **_: found.append(data))
    dials.dials("a step under five dials")
    patch.undo()
    return found[0]["text/html"]


def numbers_drawn(page):
    source = unquote(page.get_attribute("img", "src"))
    assert source.startswith("data:image/svg+xml,")
    return [float(n) for n in re.findall(r": ([\d.]+)</text>", source)]


def test_a_turned_dial_redraws_the_picture(browser, html):
    known = json.loads(re.search(r'application/json">(.+?)</script>', html)[1])
    page = browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_content(html)
    page.wait_for_function("document.images[0].src.startsWith('data:image/svg')")
    for at in ((1, 1, 1, 1, 3), (2, 2, 0, 1, 4), (0, 0, 2, 2, 1)):
        for dial, position in zip(page.locator("input").all(), at):
            dial.fill(str(position))
        lines = known["steps"][at[0]][at[1]][at[2]][at[3]]
        assert numbers_drawn(page) == [round(line[at[4]], 2) for line in lines]
        set_to = page.locator("output").all_inner_texts()
        assert set_to == [str(d[i]) for d, i in zip(known["dials"], at)]
    assert complaints == []
    page.close()


def test_without_scripts_the_still_is_there(browser, html):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(html)
    assert page.get_attribute("img", "src").startswith("data:image/png;base64,")
    assert page.get_attribute("img", "alt") == "a step under five dials"
    context.close()
