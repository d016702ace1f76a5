"""Links: found where they are links, moved where a page moves, dead ones named."""

import base64
import math
import re

import pytest
from PIL import Image

import cells
import claims_primary
import front
import headlines
import links
import pages
import site_source
from made_up import REPO, code, make_course, picture, stdout

TEXTS = [
    *cells.ROOT.glob("*.md"),
    *(path for path in (cells.ROOT / "notebooks").rglob("*.md")
      if ".ipynb_checkpoints" not in path.parts),
]


@pytest.fixture(params=[REPO, "your-name/some-course"], ids=["known", "not known"])
def address(request, monkeypatch):
    """The setting, once and before it is known."""
    monkeypatch.setattr(links, "setting", lambda root=None: request.param)
    assert links.known() == (request.param == REPO)
    return request.param


def test_targets_of_links_images_and_badges_but_not_of_code():
    text = (
        "[a](x.md) ![b](y.png) [![c](https://d/e.svg)](https://f) `[g](h)`\n"
        "```\n[i](j)\n```\n"
    )
    assert pages.targets(text) == ["x.md", "y.png", "https://d/e.svg", "https://f"]
    page = cells.ROOT / "notebooks" / "x.md"
    moved = pages.moved(text, page, lambda path: f"there/{path.name}")
    assert moved == text.replace("(x.md)", "(there/x.md)").replace("(y.", "(there/y.")


def test_what_does_not_move_along_is_on_github_once_there_is_an_address(address):
    page = cells.ROOT / "notebooks" / "x.md"
    text = pages.moved("[a](../tests#b) [`c`](../LICENSE)", page, lambda path: None)
    public = f"https://github.com/{address}"
    linked = f"[a]({public}/tree/main/tests#b) [`c`]({public}/blob/main/LICENSE)"
    assert text == (linked if address == REPO else "a `c`")


def test_the_site_is_published_where_github_puts_it():
    """Hosts have no capitals, folders keep theirs."""
    assert links.published("Some-One/The-Course") == "https://some-one.github.io/The-Course/"


@pytest.mark.parametrize(("heading", "anchor"), [
    ("The ledger", "the-ledger"),
    ("`train` in *full*: a [link](x.md)", "train-in-full-a-link"),
    ("Exercise 02.1 · Mix (easy, 5 min)", "exercise-021--mix-easy-5-min"),
    ("snake_case", "snake_case"),
])
def test_anchors_are_githubs(heading, anchor):
    text = f'# A\n\n## {heading}\n```\n# no heading\n```\n<a id="by-hand"></a>\n'
    assert pages.anchors(text) == {"a", anchor, "by-hand"}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_the_repository_has_no_dead_link(page):
    assert list(pages.dead_links(page)) == []


@pytest.mark.parametrize(("link", "fault"), [
    ("notebooks/README.md#the-course", None),
    ("missing.md", "does not exist"),
    ("notebooks/README.md#nowhere", "no heading"),
    ("#nowhere", "no heading"),
    ("../outside.md", "out of the repository"),
    ("pyproject.toml#repo", "no heading"),
])
def test_a_dead_link_is_named(tmp_path, link, fault):
    root = make_course(tmp_path)
    (root / "notebooks" / "README.md").write_text("# The course\n")
    (root / "README.md").write_text(f"[new]({link}) [elsewhere](https://a/b#c)\n")
    faults = list(pages.dead_links(root / "README.md", root))
    assert len(faults) == bool(fault)
    assert all(link in line and fault in line for line in faults)


# --- the sources of the site ----------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site") / "source"
    site_source.write(target)
    return target


def test_pages_link_to_each_other(site):
    index = (site / "index.md").read_text(encoding="utf-8")
    assert "](notebooks/README.md#the-ledger)" in index
    page = cells.ROOT / "notebooks" / "glossary.md"
    assert site_source.relinked("[up](../README.md#x)", page) == "[up](../README.md#x)"


def test_nothing_leads_to_an_address_that_is_not_known(address):
    page = cells.ROOT / "notebooks" / "glossary.md"
    code, room = "[`depth`](../attnres_ref/depth.py)", "[a room](../attnres_ref/pipeline)"
    found = [site_source.relinked(text, page) for text in (code, room)]
    public = f"https://github.com/{address}"
    on_github = [
        f"[`depth`]({public}/blob/main/attnres_ref/depth.py)",
        f"[a room]({public}/tree/main/attnres_ref/pipeline)",
    ]
    here = ["[`depth`](../api/attnres_ref.depth.md)",
            "[a room](../api/attnres_ref.pipeline.md)"]
    assert found == (on_github if address == REPO else here)
    text = site_source.relinked(f"2 min · {links.badge(address, 'x.ipynb')} |", page)
    colab = f" · [Open in Colab]({links.colab(address, 'x.ipynb')})"
    assert text == f"2 min{colab if address == REPO else ''} |"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a set address makes of the site's source."""
    target = tmp_path_factory.mktemp("made") / "source"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "setting", lambda root=None: REPO)
        site_source.write(target)
    return target


def everything(folder):
    """The links of each page of a site's source."""
    return {path.relative_to(folder).as_posix(): pages.targets(pages.prose(path))
            for pattern in ("*.md", "*.ipynb") for path in folder.rglob(pattern)}


def test_a_set_address_gives_colab_and_github_and_else_neither_is_there(site, made):
    owners = "|".join(repo.partition("/")[0] for repo in (REPO, links.setting()))
    ours = re.compile(rf"github(?:\.com)?/(?:{owners})/")
    for name, targets in everything(made).items():
        if re.match(r"notebooks/\d\d_|README|index", name):
            assert any(map(ours.search, targets)), name
    front_page = (made / "index.md").read_text(encoding="utf-8")
    assert f'href="{links.colab(REPO, "00_start_here.ipynb")}"' in front_page
    found = [to for targets in everything(site).values() for to in targets]
    assert any(map(ours.search, found)) == links.known()


def test_a_heading_has_one_id_on_the_site_though_another_is_set_for_jupyterlab(site):
    by_hand = '<a id="set-ups"></a>\n\n## Set-ups'
    assert by_hand in (cells.ROOT / "notebooks/README.md").read_text(encoding="utf-8")
    text = (site / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert "## Set-ups" in text and by_hand not in text


def test_every_page_is_in_the_contents(site):
    index = (site / "index.md").read_text(encoding="utf-8")
    contents = index.partition("```{toctree}")[2]
    contents = contents.replace("The repository <README>", "README")
    patterns = re.findall(r"^[\w\[][\w/\[\]*-]*$", contents, re.M)
    assert len(patterns) == 11
    pages = [path for path in site.rglob("*.*") if path.suffix not in (".png", ".gif")]
    for path in (path.relative_to(site) for path in pages):
        name, own = path.with_suffix(""), path.parts[0] == "api" or path.name == "index.md"
        assert own or any(name.match(pattern) for pattern in patterns), path


def test_pictures_have_their_alt_text_and_none_comes_from_another_server(site):
    for path in cells.notebooks():
        notebook = cells.read(site / path.relative_to(cells.ROOT))
        opening = notebook.cells[0].source
        assert "colab-badge.svg" not in opening
        assert ("[Open in Colab](https://" in opening) == links.known()
        assert f'<a href="../slides/{path.stem}.html">' in opening
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output.metadata["image/png"]["alt"]
                    assert alt in cell.metadata["mystnb"]["image"]["alt"]


PICTURE, WORDS = picture(alt="A line"), stdout("3")


@pytest.mark.parametrize(("source", "outputs", "folds"), [
    ("plots.show(figure)", [PICTURE], True),
    ("ax.plot(x)\nplots.show(figure)", [PICTURE, PICTURE], True),
    ("print(3)\nplots.show(figure)", [WORDS, PICTURE], False),
    ("def f():\n    pass\nplots.show(f())", [PICTURE], False),
    ("x = torch.ones(3)\nplots.show(x)", [PICTURE], False),
    ("my_guess = None   # for example 3\nplots.show(x)", [PICTURE], False),
    ("plots.show(figure)", [], False),
])
def test_only_the_code_of_a_figure_is_folded(source, outputs, folds):
    assert site_source.only_draws(code(source, outputs=outputs)) == folds


def test_lessons_stay_open_and_many_figures_are_folded(site):
    for path in cells.notebooks():
        notebook = cells.read(site / path.relative_to(cells.ROOT))
        folded = cells.tagged(notebook, "hide-input")
        assert len(folded) > 2
        assert not any({"inline", "exercise"} & {*cells.tags(cell)} for cell in folded)
        assert {cell.metadata["mystnb"]["code_prompt_show"] for cell in folded} == {
            "Code of the figure", "Code that finds the course"}


# --- the front page -------------------------------------------------------------------


def test_the_front_page_says_what_the_records_say(site):
    text = (site / "index.md").read_text(encoding="utf-8")
    gap = claims_primary.whodunnit()[0].gap
    assert f"**{-gap.mean:.3f} ± {gap.half_width:.3f} nats per byte**" in text
    assert f"{100 * (math.exp(-gap.mean) - 1):.0f}&nbsp;% more probability" in text
    assert f"Block AttnRes against PreNorm, the usual sum: validation loss, 95&nbsp;% "\
           f"interval, {gap.n} paired seeds" in text
    measured = text.partition("## What we measured")[2]
    assert headlines.told(gap).replace("+/-", "±") in measured
    assert "cannot be told from zero" in measured
    assert gap.mean + gap.half_width < 0


def test_the_front_page_has_a_card_for_every_notebook_and_its_buttons(site, address):
    text = (site / "index.md").read_text(encoding="utf-8")
    cards = text.split('<div class="notebook">')[1:]
    assert len(cards) == len(cells.notebooks())
    for path, card in zip(cells.notebooks(), cards):
        assert card.count(f"]({path.relative_to(cells.ROOT).as_posix()})") == 2
        assert f"notebooks/figures/gallery/{path.name[:2]}.png" in card
    leads = [re.search('href="(.+?)"', call)[1] for call in front.calls()]
    colab = [links.colab(address, "00_start_here.ipynb")] * (address == REPO)
    assert leads == ["notebooks/00_start_here.html", *colab, "slides/index.html",
                     "lens/index.html"]


def test_the_lens_on_the_front_page_is_as_notebook_02_stores_it(site):
    text = (site / "index.md").read_text(encoding="utf-8")
    tag = r'src="_static/lens.png" (alt="The depth lens .+?") width="(\d+)"'
    shown = re.search(tag, text)
    stored = (site / "notebooks" / "02_full_attnres.ipynb").read_text(encoding="utf-8")
    assert shown[1].replace('"', r'\"') in stored
    still = site / "_static" / "lens.png"
    assert base64.b64encode(still.read_bytes()).decode() in stored
    with Image.open(still) as picture:
        assert picture.width == int(shown[2])


def test_a_shared_page_shows_a_card_and_less_motion_a_still(site):
    with Image.open(site / "_static" / "card.png") as card:
        assert card.size == (1200, 630)
    still = Image.open(site / "_static" / "still.png")
    with Image.open(front.FILM) as film:
        film.seek(film.n_frames - 1)
        assert still.tobytes() == film.convert("RGB").tobytes()
