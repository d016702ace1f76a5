"""The depth lens in Chromium: odd links, any text, files that are missing or late."""

import pytest
from looking import answered

import lens_page


def test_a_link_that_makes_no_sense_says_so(look):
    page, complaints = look(residual="mhc", step="700", cell="99,1")
    assert "left out: residual, cell" in page.inner_text("#notice")
    assert page.evaluate("[state.residual, state.step]") == ["full", 700]
    assert complaints == []


def test_a_missing_file_is_named(visit, tmp_path):
    lens_page.copy_to(tmp_path / "lens")
    (tmp_path / "lens" / "weights" / "block_700.js").unlink()
    page, _ = visit((tmp_path / "lens" / "index.html").as_uri() + "#step=700", 1024)
    page.wait_for_selector(".triangle")
    page.get_by_label("Block AttnRes").check()
    page.wait_for_selector("#notice:visible")
    assert "weights/block_700.js is missing" in page.inner_text("#notice")
    page.get_by_label("PreNorm").check()
    answered(page)
    assert not page.is_visible("#notice")


def test_a_long_text_and_none(look):
    page, _ = look()
    page.fill("#text", "x = 1\n" * 30)
    page.wait_for_function("bytes.length === 128")
    assert "the first 52 are left out" in page.inner_text("#text-note")
    page.fill("#text", "")
    assert "at least one byte" in page.inner_text("#text-note")
    page.fill("#text", "a")
    page.wait_for_function("bytes.length === 1")
    assert page.inner_text("#text-note") == ""
    assert "the likeliest next byte" in page.inner_text("#change")


HOSTILE = "\"'><img src=x onerror='window.hit=1'><script>window.hit=1</script>&lt;b&gt;"


def test_what_others_wrote_stays_text(look):
    names = ("text", "residual", "step", "at", "edits", "cell", HOSTILE)
    page, complaints = look(**dict.fromkeys(names, HOSTILE))
    page.fill("#text", HOSTILE * 2)
    page.wait_for_function("bytes.length === 128")
    for t in range(0, 128, 8):
        page.evaluate("(at) => show({ at })", t)
    assert page.locator("main :is(img, script, b), #notice *").count() == 0
    assert page.evaluate("window.hit") is None
    shown = page.locator("[role=option]").all_text_contents()
    assert "".join(shown) == (HOSTILE * 2)[-128:].replace(" ", "·")
    labels = "Array.from($('characters').querySelectorAll('[data-t]'), (e) => e.ariaLabel)"
    assert {f"“{c}”" for c in "\"'<>&"} <= {*page.evaluate(labels)}
    assert complaints == []


@pytest.mark.parametrize("text", ["🙂注意力", "a\r\nb\tc\x00", "x" * 10_000, "注" * 10_000])
def test_any_text_comes_back_by_its_link(look, text):
    page, complaints = look()
    page.fill("#text", text)
    page.wait_for_function("state.text.length > 100 || state.text !== START.text")
    page.click("#copy")
    assert len(page.url) < 4000
    chances = page.evaluate("[...bytes, ...answer.chances]")
    page.reload()
    page.wait_for_selector(".triangle")
    assert page.evaluate("[...bytes, ...answer.chances]") == chances
    assert complaints == []


def test_another_link_pasted_over_this_one_is_read(look):
    page, complaints = look(edits="9,1=0", cell="9,1")
    page.evaluate("location.hash = '#residual=block&text=abc&edits=3,1=0&cell=01,1'")
    page.wait_for_function("bytes.length === 3")
    assert page.evaluate("[model.blockSize, [...state.edits.keys()]]") == [4, ["3,1"]]
    page.wait_for_selector("#notice:visible")
    assert "left out: cell" in page.inner_text("#notice")
    assert complaints == []


def test_the_last_of_many_wishes_is_answered(look):
    page, complaints = look(edits="9,1=0", cell="9,1")
    page.evaluate("""() => {
        for (let i = 0; i < 16; i++) {
            const residual = ["block", "prenorm", "full"][i % 3];
            document.querySelector(`[value=${residual}]`).click();
            $("step").value = (i * 5) % 6;
            $("step").oninput();
            edit("5,0", (i % 10) / 10);
            press(document.querySelector(`.triangle [data-read="${i % 17}"]`));
        }
    }""")
    answered(page)
    page.wait_for_function("!document.body.classList.contains('waiting')")
    assert page.evaluate("[state.residual, state.step]") == ["block", 200]
    assert page.locator(".triangle [data-read]").count() == page.evaluate(
        "answer.weights.reduce((sum, w) => sum + w.length / bytes.length, 0)")
    assert complaints == []


def test_what_is_not_answered_yet_is_pale(visit, lens_folder):
    page, _ = visit((lens_folder / "index.html").as_uri(), 1024)
    page.wait_for_selector(".triangle")
    page.set_default_timeout(20_000)
    page.evaluate("""fetches.set('block_2000', fetchFile('block_2000').then(
        () => new Promise((done) => { window.arrive = done; })))""")
    page.get_by_label("Block AttnRes").check()
    pale = "getComputedStyle($('triangle')).opacity === '0.35'"
    page.wait_for_function(pale)
    page.get_by_label("Full AttnRes").check()
    page.wait_for_function(f"!({pale})")
    page.evaluate("arrive()")
    page.wait_for_function("models.has('block_2000')")
    assert page.evaluate("model === models.get('full_2000')"), "what came late is not drawn"


def test_without_scripts_it_says_so(browser, lens_address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(lens_address)
    assert "switched off" in page.inner_text("noscript")
    context.close()
