"""The instructor guide says what the notebooks say: headings, numbers, messages."""

import ast
import re
from functools import cache

import pytest

import cells

GUIDE = cells.ROOT / "notebooks" / "guide"
NOTEBOOKS = {path.name[:2]: path for path in cells.notebooks()}
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(GUIDE.glob("*.md"))}
# 02, *The init oracle*: the place that a page names in another notebook.
OF_ANOTHER = re.compile(r"\b(\d\d), ((?:\*[A-Z][^*]+\*(?:; | and )?)+)")
of_a_notebook = pytest.mark.parametrize("number", NOTEBOOKS)


def one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def headings(number: str) -> list[str]:
    """Titled "1.2 · Title", they may be called by the number alone."""
    notebook = cells.read(NOTEBOOKS[number])
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    titles = re.findall(r"^##+ (.+)$", prose, re.MULTILINE)
    return ["opening", *titles, *(title.split(" · ")[0] for title in titles)]


@cache
def whole_text(number: str) -> str:
    """Sources and printed outputs of a notebook, on one line."""
    parts = []
    for cell in cells.read(NOTEBOOKS[number]).cells:
        parts.append(cell.source)
        parts += [output.get("text", "") for output in cell.get("outputs", [])]
    return one_line("\n".join(parts))


def section(page: str, title: str) -> str:
    pattern = rf"^## {title}\n(.*?)(?=^## |\Z)"
    return re.search(pattern, PAGES[page], re.MULTILINE | re.DOTALL)[1]


def rows(text: str) -> list[list[str]]:
    """The tables' rows without the two lines of their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def stale_numbers(text: str, known: str) -> list[str]:
    """Code spans with a digit that `known` does not have."""
    spans = [one_line(span) for span in re.findall(r"`([^`]+)`", text, re.DOTALL)]
    return [span for span in spans if re.search(r"\d", span) and span not in known]


def assert_fills(minutes: int, plan: list[list[str]]) -> None:
    clock = 0
    for when, *_ in plan:
        start, end = map(int, when.split("-"))
        assert start == clock < end, f"{when} does not follow minute {clock}"
        clock = end
    assert clock == minutes


@of_a_notebook
@pytest.mark.parametrize("minutes", [45, 90])
def test_a_plan_fills_its_time_with_headings_of_the_notebook(number, minutes):
    plan = rows(section(f"{number}.md", f"{minutes} minutes"))
    assert_fills(minutes, plan)
    places = {place.strip("*") for _, row, _ in plan for place in row.split("; ")}
    assert places <= set(headings(number))


def test_the_seminar_fills_two_hours():
    assert_fills(120, rows(PAGES["seminar.md"]))


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_printed_in_the_pages_notebook_or_in_any(page):
    numbers = [page[:2]] if page[:2] in NOTEBOOKS else NOTEBOOKS
    assert stale_numbers(PAGES[page], " ".join(map(whole_text, numbers))) == []


def test_a_changed_number_is_found():
    assert stale_numbers("reads `0.25` and `h + f(h)`", "prints 0.25") == []
    assert stale_numbers("reads `0.26`", "prints 0.25") == ["0.26"]


@of_a_notebook
def test_misconceptions_lead_to_the_three_questions(number):
    assert "*Three questions*" in one_line(section(f"{number}.md", "Misconceptions"))


@of_a_notebook
def test_headings_named_in_prose_exist(number):
    """An italic phrase that begins with a capital is a heading of the notebook."""
    text = OF_ANOTHER.sub("", one_line(PAGES[f"{number}.md"]))
    named = re.findall(r"(?<![*\w])\*([A-Z][^*]+)\*(?!\*)", text)
    assert set(named) <= set(headings(number))


@pytest.mark.parametrize("page", PAGES)
def test_headings_of_another_notebook_exist_there(page):
    named = OF_ANOTHER.findall(one_line(PAGES[page]))
    assert named or page not in ("README.md", "seminar.md")
    for number, places in named:
        assert set(re.findall(r"\*([^*]+)\*", places)) <= set(headings(number))


@of_a_notebook
def test_every_exercise_has_a_row_and_messages_are_the_checks_own(number):
    folder = cells.ROOT / "notebooks" / "exercises"
    files = [folder / f"{name}.py" for name in (f"nb{number}", "arena", "mutants")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    said = [one_line(str(node.value)) for node in nodes if isinstance(node, ast.Constant)]
    table = rows(section(f"{number}.md", "Exercises"))
    names = [e.name for e in cells.exercises(cells.read(NOTEBOOKS[number]))]
    assert sorted({row[0] for row in table}) == names
    for _, where, wrong, message in table:
        assert where in ("class", "home") and wrong and message
        assert any(message.strip('"') in text for text in said), message
