"""tools/handout.py: what a class gets of each notebook, and what it does not get."""

import json
import os
import re
import subprocess
import sys
import zipfile

import nbformat
import pytest

import cells
import handout

OURS = cells.notebooks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The handout of the course, in a folder of its own."""
    target = tmp_path_factory.mktemp("class") / "handout"
    handout.Handout(cells.ROOT).write(target)
    return target


@pytest.fixture(scope="module", params=OURS, ids=lambda path: path.name)
def pair(request, folder):
    """A notebook and what is handed out of it."""
    return cells.read(request.param), cells.read(folder / request.param.name)


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_no_solution_is_left(pair):
    whole, handed = pair
    text = "\n".join([prose(handed), *code(handed)])
    assert not re.search(r"<summary>\W*solution", text, re.IGNORECASE)
    before = "\n".join([cells.SOLUTION.sub("", prose(whole)), *code(whole)])
    for exercise in cells.exercises(whole):
        lines = {line for line in exercise.solution.splitlines() if line.strip()}
        given = {line for line in lines if line in before}  # in the stub, say
        assert {line for line in lines if line in text} <= given, exercise.name
        assert exercise.solution not in text, exercise.name


def test_stubs_checks_hints_and_code_stay(pair):
    whole, handed = pair
    assert code(handed) == code(whole)
    assert [c.metadata for c in handed.cells] == [c.metadata for c in whole.cells]
    assert cells.HINT.findall(prose(handed)) == cells.HINT.findall(prose(whole))
    assert cells.HEADING.findall(prose(handed)) == cells.HEADING.findall(prose(whole))
    kept = cells.HEADING.sub("", prose(handed)).count("\n## ")
    assert kept == prose(whole).count("\n## "), "a solution took a section with it"


def test_no_output_and_no_badge_is_left(pair):
    _, handed = pair
    nbformat.validate(handed)
    for cell in handed.cells:
        assert not cell.get("outputs") and not cell.get("execution_count")
    assert "colab.research" not in prose(handed)


def test_links_lead_to_what_is_there_or_is_public(folder):
    pages = {p.name: prose(cells.read(p)) for p in folder.glob("*.ipynb")}
    pages["README.md"] = (folder / "README.md").read_text(encoding="utf-8")
    assert len(pages) == len(OURS) + 1
    inside = [
        (name, target)
        for name, text in pages.items()
        for target in re.findall(r"\]\(([^)\s]+)", text)
        if "://" not in target
    ]
    assert len(inside) > 5 * len(OURS)
    for name, target in inside:
        path, _, anchor = target.partition("#")
        assert (folder / path).exists(), f"{name} links to {target}"
        if path == "README.md" and anchor:
            headings = re.findall(r"^## (.+)$", pages[path], re.MULTILINE)
            assert anchor in [h.lower().replace(" ", "-") for h in headings], target


def test_authors_advice_and_tests_are_not_handed_out(folder):
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert handout.FOR_AUTHORS not in readme and "## Notation" in readme
    names = {path.name for path in folder.rglob("*")}
    assert not names & {"tools", "tests", "__pycache__", "wrong_answers.py"}
    with zipfile.ZipFile(folder.with_suffix(".zip")) as packed:
        listed = {name for name in packed.namelist() if not name.endswith("/")}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert listed == {f"handout/{path.relative_to(folder).as_posix()}" for path in files}


RUN = """
import json, sys
for source in json.load(sys.stdin):
    exec(source, globals())
import attnres_ref
print(attnres_ref.__file__)
"""


def test_the_folder_runs_by_itself(folder):
    """Bootstrap, imports and stubs, in the folder, without a checkout or a network."""
    notebook = cells.read(folder / OURS[0].name)
    wanted = {"bootstrap", "imports", "exercise"}
    sources = [c.source for c in notebook.cells if wanted & set(cells.tags(c))]
    lonely = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    lonely["GIT_ALLOW_PROTOCOL"] = ""
    ran = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(sources),
        cwd=folder, env=lonely, capture_output=True, text=True,
    )
    assert ran.returncode == 0, ran.stderr
    *verdicts, file = ran.stdout.splitlines()
    assert len(verdicts) == len(cells.exercises(cells.read(OURS[0])))
    assert all("not solved yet" in verdict for verdict in verdicts)
    assert file.startswith(str(folder / "course"))


def test_a_malformed_exercise_is_refused():
    notebook = cells.read(OURS[0])
    for cell in notebook.cells:
        cell.source = cell.source.replace("<summary>Solution", "<summary>Answer")
    with pytest.raises(ValueError, match="needs <details><summary>Hint"):
        handout.Handout(cells.ROOT).notebook(notebook)
