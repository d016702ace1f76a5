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


def points_and_numbers(page):
    source = unquote(page.get_attribute("img", "src"))
    assert source.startswith("data:image/svg+xml,")
    numbers = re.findall(r": ([\d.]+)</text>", source)
    return source.count("<circle"), [float(number) for number in numbers]


def test_a_turned_dial_redraws_the_picture(browser, html):
    known = json.loads(re.search(r'application/json">(.+?)</script>', html)[1])
    page = browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_content(html)
    page.wait_for_function("document.images[0].src.startsWith('data:image/svg')")
    for at, n_points in (
        ((1, 1, 1, 1, 3), 3), ((2, 2, 1, 0, 4), 2), ((0, 0, 2, 2, 1), 3)
    ):
        for dial, position in zip(page.locator("input").all(), at):
            dial.fill(str(position))
        lines = known["steps"][at[0]][at[1]][at[2]][at[3]]
        numbers = [line[at[4]] for line in lines]
        assert sum(number <= known["scale"][-1] for number in numbers) == n_points
        assert points_and_numbers(page) == (n_points, [round(n, 2) for n in numbers])
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
