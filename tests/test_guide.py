"""The instructor guide says what the notebooks say: headings, numbers, messages."""

import ast
import re
from pathlib import Path

import pytest

import cells

GUIDE = cells.ROOT / "notebooks" / "guide"
NOTEBOOKS = {path.name[:2]: path for path in cells.notebooks()}
EACH_PAGE = pytest.mark.parametrize(
    "page", [GUIDE / f"{number}.md" for number in NOTEBOOKS], ids=lambda page: page.stem
)
SECTIONS = [
    "What it is for", "45 minutes", "90 minutes", "Questions to ask", "Misconceptions",
    "Exercises",
]
# 02, *The init oracle*: the place that a page names in another notebook.
OF_ANOTHER = r"\b(\d\d), ((?:\*[A-Z][^*]+\*(?:; | and )?)+)"


def one_line(text: str) -> str:
    return " ".join(text.split())


def is_heading(place: str, number: str) -> bool:
    """Whether a notebook has this heading, or one that begins so: Exercise 02.1"""
    prose = cells.prose(cells.read(NOTEBOOKS[number]))
    known = ["opening", *re.findall(r"^##+ (.+)$", prose, re.MULTILINE)]
    return any(heading == place or heading.startswith(f"{place} · ") for heading in known)


def whole_text(number: str) -> str:
    """Sources and printed outputs of a notebook, on one line."""
    notebook = cells.read(NOTEBOOKS[number])
    printed = [out.get("text", "") for c in notebook.cells for out in c.get("outputs", [])]
    return one_line("\n".join([*(cell.source for cell in notebook.cells), *printed]))


def section(page: Path, title: str) -> str:
    text = page.read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def rows(text: str) -> list[list[str]]:
    """The tables' rows without the two lines of their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def filled(plan: list[list[str]]) -> int:
    """The last minute of a plan whose rows begin where the one before ends."""
    clock = 0
    for when, *_ in plan:
        start, end = map(int, when.split("-"))
        assert start == clock < end, f"{when} does not follow minute {clock}"
        clock = end
    return clock


def stale_numbers(text: str, known: str) -> list[str]:
    """Code spans with a digit that `known` does not have."""
    spans = [one_line(span) for span in re.findall(r"`([^`]+)`", text, re.DOTALL)]
    return [span for span in spans if re.search(r"\d", span) and span not in known]


@EACH_PAGE
def test_each_notebook_has_a_page_of_one_form(page):
    text = page.read_text(encoding="utf-8")
    title = cells.read(NOTEBOOKS[page.stem]).cells[0].source.splitlines()[0]
    assert text.splitlines()[0] == f"{title}, for the teacher"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert f"](../{NOTEBOOKS[page.stem].name})" in text


@EACH_PAGE
@pytest.mark.parametrize("minutes", [45, 90])
def test_a_plan_fills_its_time_with_headings_of_the_notebook(page, minutes):
    plan = rows(section(page, f"{minutes} minutes"))
    assert filled(plan) == minutes
    for place in (place for _, places, _ in plan for place in places.split("; ")):
        assert is_heading(place.strip("*"), page.stem), place


@EACH_PAGE
def test_numbers_are_printed_in_the_notebook(page):
    stale = stale_numbers(page.read_text(encoding="utf-8"), whole_text(page.stem))
    assert not stale, f"not in the sources or stored outputs of {page.stem}: {stale}"


@EACH_PAGE
def test_headings_named_in_prose_exist(page):
    """An italic phrase that begins with a capital is a heading of the notebook."""
    text = re.sub(OF_ANOTHER, "", one_line(page.read_text(encoding="utf-8")))
    for name in re.findall(r"(?<![*\w])\*([A-Z][^*]+)\*(?!\*)", text):
        assert is_heading(name, page.stem), name


@EACH_PAGE
def test_every_exercise_has_a_row_and_messages_are_the_checks_own(page):
    checks = cells.ROOT / "notebooks" / "exercises" / f"nb{page.stem}.py"
    tree = ast.parse(checks.read_text(encoding="utf-8"))
    said = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    said = [one_line(text) for text in said if isinstance(text, str)]
    table = rows(section(page, "Exercises"))
    names = [e.name for e in cells.exercises(cells.read(NOTEBOOKS[page.stem]))]
    assert sorted({row[0] for row in table}) == names
    for _, where, wrong, message in table:
        assert where in ("class", "home") and wrong and message
        assert any(message.strip('"') in text for text in said), message


def test_every_notebook_has_a_page():
    assert {page.stem for page in GUIDE.glob("[0-9][0-9].md")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", ["README.md", "seminar.md", "course.md"])
def test_the_other_pages_quote_the_notebooks_too(name):
    text = (GUIDE / name).read_text(encoding="utf-8")
    known = " ".join(map(whole_text, NOTEBOOKS))
    assert not stale_numbers(text, known)


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_headings_of_another_notebook_exist_there(page):
    named = re.findall(OF_ANOTHER, one_line(page.read_text(encoding="utf-8")))
    assert named or page.stem not in ("README", "seminar")
    for number, places in named:
        for place in re.findall(r"\*([^*]+)\*", places):
            assert is_heading(place, number), place


def test_the_seminar_fills_two_hours():
    assert filled(rows((GUIDE / "seminar.md").read_text(encoding="utf-8"))) == 120


def test_a_changed_number_is_found():
    assert stale_numbers("reads `0.25` and `h + f(h)`", "prints 0.25") == []
    assert stale_numbers("reads `0.26`", "prints 0.25") == ["0.26"]
