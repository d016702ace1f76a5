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
import links
import pages

OURS = cells.notebooks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The handout of the course, in a folder of its own."""
    target = tmp_path_factory.mktemp("class") / "handout"
    handout.write(target)
    return target


@pytest.fixture(scope="module", params=OURS, ids=lambda path: path.name)
def pair(request, folder):
    """A notebook and what is handed out of it."""
    return cells.read(request.param), cells.read(folder / request.param.name)


LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]+\)")


def test_solutions_outputs_and_badge_are_gone_and_all_else_stays(pair):
    whole, handed = pair
    nbformat.validate(handed)
    for exercise in cells.exercises(whole):
        assert exercise.solution not in cells.prose(handed), exercise.name
    assert not re.search(r"<summary>\W*solution|colab\.research", cells.prose(handed), re.I)

    left = [cell for cell in whole.cells if "solution" not in cells.tags(cell)]
    assert len(left) == len(whole.cells) - len(cells.exercises(whole))
    assert [c.metadata for c in handed.cells] == [c.metadata for c in left]
    for cell, before in list(zip(handed.cells, left, strict=True))[1:]:
        if cell.cell_type == "code":
            assert cell.source == before.source
            assert cell.outputs == [] and cell.execution_count is None
        else:
            words = [LINK.sub(r"\1", c.source) for c in (cell, before)]
            assert words[0] == words[1]


def test_links_lead_to_what_is_there_or_is_public(folder):
    for path in [*folder.glob("*.ipynb"), folder / "README.md"]:
        inside = [link for link in pages.targets(pages.prose(path)) if "://" not in link]
        assert inside and list(pages.dead_links(path, folder)) == [], path.name
    text = pages.prose(folder / OURS[3].name)            # links to a test and to our code
    public = f"https://github.com/{links.setting()}/blob/main/tests/"
    assert (public in text) == links.known()
    assert "](course/" in pages.prose(folder / OURS[2].name)


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
    verdicts = verdicts[::2]                   # a score follows each
    assert len(verdicts) == len(cells.exercises(cells.read(OURS[0])))
    assert all("not solved yet" in verdict for verdict in verdicts)
    assert file.startswith(str(folder / "course"))


def test_a_malformed_exercise_is_refused():
    notebook = cells.read(OURS[0])
    for cell in notebook.cells:
        if "solution" in cells.tags(cell):
            cell.metadata.tags = []
    with pytest.raises(ValueError, match="has the tag solution"):
        handout.without_solutions(notebook)
