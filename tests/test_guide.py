"""The instructor guide says what the notebooks say: headings, numbers, messages."""

import ast
import re
from pathlib import Path

import pytest

import cells

GUIDE = cells.ROOT / "notebooks" / "guide"
NOTEBOOKS = {path.name[:2]: path for path in cells.notebooks()}
PAGES = [GUIDE / f"{number}.md" for number in NOTEBOOKS]
SECTIONS = [
    "What it is for", "45 minutes", "90 minutes", "Questions to ask", "Misconceptions",
    "Exercises",
]
# 02, *The init oracle*: the place that a page names in another notebook.
OF_ANOTHER = r"\b(\d\d), ((?:\*[A-Z][^*]+\*(?:; | and )?)+)"


def one_line(text: str) -> str:
    return " ".join(text.split())


def headings(number: str) -> list[str]:
    notebook = cells.read(NOTEBOOKS[number])
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return ["opening", *re.findall(r"^##+ (.+)$", prose, re.MULTILINE)]


def whole_text(number: str) -> str:
    """Sources and printed outputs of a notebook, on one line."""
    parts = []
    for cell in cells.read(NOTEBOOKS[number]).cells:
        parts.append(cell.source)
        parts += [output.get("text", "") for output in cell.get("outputs", [])]
    return one_line("\n".join(parts))


def section(page: Path, title: str) -> str:
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} lacks ## {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The tables' rows without the two lines of their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def stale_numbers(text: str, known: str) -> list[str]:
    """Code spans with a digit that `known` does not have."""
    spans = [one_line(span) for span in re.findall(r"`([^`]+)`", text, re.DOTALL)]
    return [span for span in spans if re.search(r"\d", span) and span not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_notebook_has_a_page_of_one_form(page):
    text = page.read_text(encoding="utf-8")
    title = cells.read(NOTEBOOKS[page.stem]).cells[0].source.splitlines()[0]
    assert text.splitlines()[0] == f"{title}, for the teacher"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert f"](../{NOTEBOOKS[page.stem].name})" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.parametrize("minutes", [45, 90])
def test_a_plan_fills_its_time_with_headings_of_the_notebook(page, minutes):
    known, clock = headings(page.stem), 0
    for when, places, _ in rows(section(page, f"{minutes} minutes")):
        start, end = map(int, when.split("-"))
        assert start == clock < end, f"{when} does not follow minute {clock}"
        clock = end
        for place in places.split("; "):
            name = place.strip("*")
            there = name in known or any(h.startswith(f"{name} · ") for h in known)
            assert there, f"{place!r} is no heading of notebook {page.stem}"
    assert clock == minutes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_numbers_are_printed_in_the_notebook(page):
    stale = stale_numbers(page.read_text(encoding="utf-8"), whole_text(page.stem))
    assert not stale, f"not in the sources or stored outputs of {page.stem}: {stale}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_headings_named_in_prose_exist(page):
    """An italic phrase that begins with a capital is a heading of the notebook."""
    text = re.sub(OF_ANOTHER, "", one_line(page.read_text(encoding="utf-8")))
    named = re.findall(r"(?<![*\w])\*([A-Z][^*]+)\*(?!\*)", text)
    known = headings(page.stem)
    for name in named:
        there = name in known or any(h.startswith(f"{name} · ") for h in known)
        assert there, f"{name!r} is no heading of notebook {page.stem}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
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


def test_no_page_without_a_notebook_but_the_one_to_come():
    pages = {page.stem for page in GUIDE.glob("[0-9][0-9].md")}
    assert set(NOTEBOOKS) <= pages <= {*NOTEBOOKS, "11"}


@pytest.mark.parametrize("name", ["README.md", "seminar.md", "course.md"])
def test_the_other_pages_quote_the_notebooks_too(name):
    text = (GUIDE / name).read_text(encoding="utf-8")
    known = " ".join(map(whole_text, NOTEBOOKS))
    assert not stale_numbers(text, known)


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_headings_of_another_notebook_exist_there(page):
    text = one_line(page.read_text(encoding="utf-8"))
    found = re.findall(OF_ANOTHER, text)
    assert found or page.stem not in ("README", "seminar")
    for number, places in found:
        for place in re.findall(r"\*([^*]+)\*", places):
            known = headings(number)
            there = place in known or any(h.startswith(f"{place} · ") for h in known)
            assert there, f"{place!r} is no heading of notebook {number}"


def test_the_seminar_fills_two_hours():
    text, clock = (GUIDE / "seminar.md").read_text(encoding="utf-8"), 0
    for when, *_ in rows(text):
        start, end = map(int, when.split("-"))
        assert start == clock < end
        clock = end
    assert clock == 120


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere_and_lines_are_short(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ") and len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        to_come = target.startswith("../11_") and "11" not in NOTEBOOKS
        assert "://" in target or to_come or (page.parent / target).exists(), target
    for line in text.splitlines():
        assert line.startswith("|") or len(line) <= 92, line


def test_a_changed_number_is_found():
    assert stale_numbers("reads `0.25` and `h + f(h)`", "prints 0.25") == []
    assert stale_numbers("reads `0.26`", "prints 0.25") == ["0.26"]
