"""tools/lint.py accepts a good notebook and refuses each violation of its rules."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

import cells
import lint
import made_up
from made_up import NAME, REPO, code, good_notebook, make_course, picture, stdout, text
from made_up import START as START_CALL


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path)


def faults(root, notebook):
    path = root / "notebooks" / NAME
    path.write_text(nbformat.writes(notebook))
    return lint.faults(path)


OPEN, BOOT, START, TEXT, INLINE, DRAW, CAPTION, HEADING, STUB, HINT, SOLUTION = range(11)
TAKEAWAYS, QUIZ = -3, -2


def change(cell, old, new):
    """A mutation that replaces text in the source of one cell."""

    def mutate(notebook):
        assert old in notebook.cells[cell].source
        notebook.cells[cell].source = notebook.cells[cell].source.replace(old, new)

    return mutate


def store(cell, output):
    return lambda notebook: notebook.cells[cell].outputs.append(output)


def add_markdown(source):
    return lambda notebook: notebook.cells.insert(3, text(source))


def add_code(*sources):
    """Insert code cells after the first text, and number all cells anew."""

    def mutate(notebook):
        notebook.cells[TEXT:TEXT] = [code(source) for source in sources]
        number(notebook)

    return mutate


def number(notebook):
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, 1):
        cell.execution_count = count


def drop_cell(index):
    return lambda notebook: notebook.cells.pop(index) and number(notebook)


def tag(cell, *names):
    return lambda notebook: notebook.cells[cell].metadata.update(tags=list(names))


def slide(cell, kind):
    return lambda nb: nb.cells[cell].metadata.slideshow.update(slide_type=kind)


def always_a(notebook):
    """The right choice of every question is A."""
    source = notebook.cells[QUIZ].source.replace("**Right.**", "**Wrong.**")
    notebook.cells[QUIZ].source = re.sub(r"(A\. .+\n\n)\*\*Wrong", r"\1**Right", source)


VIOLATIONS = [
    # form
    (lambda nb: nb.cells[TEXT].update(surprise=3), "is not valid nbformat"),
    (lambda nb: nb.metadata.kernelspec.update(display_name="Python 3"), "(ipyk"),
    (lambda nb: nb.metadata.update(accelerator="TPU"), '"accelerator": "GPU"'),
    # opening and closing
    (change(OPEN, "# 00", "00"), "starts with a title"),
    (change(OPEN, REPO, "other/place"), "lacks the Colab badge"),
    (change(OPEN, "(01_next", "(02_next"), "lacks the link to its neighbour 01_next"),
    (change(-1, "01_next", "09_gone"), "links to 09_gone.ipynb, which does not exist"),
    (change(-1, "01_next.ipynb", "#gone"), "links to #gone, and no heading has"),
    (change(-1, "01_next.ipynb", "../attnres_ref"), "a folder, which JupyterLab does not"),
    (change(OPEN, "**Objectives**", "Objectives"), "lack **Objectives**"),
    (change(OPEN, "- halve\n", ""), "**Objectives** lists 2 items"),
    (change(OPEN, "**Minutes**", ""), "lack **Minutes**"),
    (change(OPEN, "**Prerequisites**", ""), "lack **Prerequisites**"),
    (change(TAKEAWAYS, "## Takeaways", ""), "closing heading ## Takeaways"),
    (change(-1, "## References", ""), "closing heading ## References"),
    # bootstrap and banner
    (change(BOOT, "course", "lesson"), "the bootstrap cell differs from that of 01_next"),
    (tag(BOOT), "must carry the tag bootstrap"),
    (tag(START, "imports", "bootstrap"), "and no other, must carry the tag bootstrap"),
    (change(START, "start({", "print({"), "no cell calls attnres_ref.notebook.start"),
    # any device
    (change(OPEN, "| gpu |", "|"), "the table of **Minutes** lacks gpu"),
    (change(OPEN, "| preset | ci", "preset, ci"), "lacks ci, cpu, gpu, t4"),
    (change(START, ', "t4": 1', ""), "start({...}) lacks t4"),
    (change(START, START_CALL, "start()"), "start({...}) lacks ci, cpu, gpu, t4"),
    (add_code("import pandas.io"), "imports pandas, not in colab-runtime.txt"),
    (add_code("def f():\n    from sklearn import svm"), "imports sklearn, not in"),
    # size
    (lambda nb: [add_markdown("x")(nb) for _ in range(90)], "cells, more than 90"),
    (drop_cell(TEXT), "three code cells in a row"),
    (add_code("x = 1\n" * 41), "has 41 lines, more than 40"),
    (add_code("x = 1\n" + "y" * 81), "more than 80 columns"),
    (lambda nb: [add_code("x = 1\n" * 9)(nb) for _ in range(9)], "median code cell has 9"),
    # plain Python
    (add_code("%matplotlib inline"), "is not plain Python"),
    (add_code("x?"), "is not plain Python"),
    (add_code("import subprocess"), "uses subprocess"),
    # slides
    (lambda nb: nb.cells[TEXT].metadata.pop("slideshow"), "lacks a slide type"),
    (slide(TEXT, "page"), "lacks a slide type"),
    (slide(SOLUTION, "-"), "is no slide, by its tag"),
    # exercises
    (tag(STUB), "calls check(...) without the tag exercise"),
    (lambda nb: [drop_cell(HEADING)(nb) for _ in range(4)], "has 2 exercises"),
    (change(HEADING + 8, "Spot the bug", "Subtract"), 'no exercise has "spot the bug"'),
    (change(HEADING, "(easy, 5 min)", "(easy)"), "comes markdown with a heading like"),
    (change(HEADING, "00.1", "00.2"), "heading like ### Exercise 00.1"),
    (change(STUB, "\n\ncheck", "\n\nprint"), "the last line of a stub is check"),
    (change(STUB, ", sum1)", ", sum1)\nx = 1"), "the last line of a stub is check"),
    (change(HINT, "Hint", "Help"), "<details><summary>Hint</summary>"),
    (change(SOLUTION, "Solution", "Answer"), "<details><summary>Solution</summary>"),
    (change(SOLUTION, "Solution</summary>\n", "Solution</summary>"), "after a hint comes"),
    (tag(SOLUTION), "has the tag solution"),
    (change(SOLUTION, "```python", "```"), "one ```python block, not 0"),
    (lambda nb: (change(HEADING, "00.1", "01.1")(nb), change(STUB, "00.1", "01.1")(nb)),
     "are to be named 00.1, 00.2, 00.3"),
    # the three questions
    (change(QUIZ, "## Three", "## Some"), "has 0 cells that begin with ## Three"),
    (add_markdown("## Three questions\n"), "has 2 cells that begin with ## Three"),
    (change(QUIZ, "**3.** ", ""), "does not ask **1.**, **2.** and **3.**"),
    (change(QUIZ, "---\n", ""), "with a line --- between them"),
    (change(QUIZ, "</summary>\n\n", "</summary>\n"), "is not written as"),
    (change(QUIZ, "C. Three", "D. Three"), "has the choices ABD, not A, B, C"),
    (change(QUIZ, made_up.CHOICE.format(letter="C", text="Three", verdict="Wrong"), ""),
     "question 1 has the choices AB, not"),
    (change(QUIZ, "**Right.**", "**Wrong.**"), "question 3 needs one right choice"),
    (change(QUIZ, "**Wrong.**", "**Right.**"), "question 1 needs one right choice"),
    (change(QUIZ, "Two and two are four, as one can", "Four, as you"), "say in a sentence"),
    (change(QUIZ, "fingers.", "fingers"), "question 2, B: say in a sentence why"),
    (change(QUIZ, "A. Five", "A. $5$"), "question 1, A: no Markdown in a summary"),
    (always_a, "have the same letter"),
    # inline cells
    (change(INLINE, "a + b", "b + a"), "add differs from the package's"),
    (change(INLINE, "def add", "def plus"), "the package has no plus"),
    (change(INLINE, "def add(a, b):\n    return a + b", "x = 1"), "defines nothing"),
    # stored outputs
    (lambda nb: nb.cells[DRAW].update(execution_count=9), "not 1 to 7: record it"),
    (lambda nb: nb.cells[DRAW].metadata.update(execution={}), "execution timings"),
    (lambda nb: nb.cells[START].update(outputs=[]), "stores no banner"),
    (store(DRAW, v4.new_output("error", ename="E", evalue="", traceback=[])), "error"),
    (store(DRAW, v4.new_output("stream", name="stderr", text="hm")), "stores stderr"),
    (store(DRAW, stdout("\r 40%|##  | 4/10 [00:01]\n")), "stores a progress bar"),
    (store(DRAW, stdout("saved to /ho" "me/me/x.pt")), "holds an absolute path"),
    (store(DRAW, stdout("'/tm" "p/x'")), "holds an absolute path"),
    (store(DRAW, stdout("C:" "\\Users\\me")), "holds an absolute path"),
    (store(DRAW, picture("image/svg+xml", alt="x")), "not a PNG output"),
    (store(DRAW, v4.new_output("display_data", {"text/html": "<img>"})), "not a PNG"),
    (store(DRAW, picture()), "lacks alt text"),
    (change(CAPTION, "*Figure:", "*"), "lacks its caption"),
    (store(DRAW, stdout("x" * 1_500_000)), "bytes, more than 1500000"),
]


@pytest.mark.parametrize("mutate, message", VIOLATIONS, ids=[m for _, m in VIOLATIONS])
def test_lint_refuses(root, mutate, message):
    notebook = good_notebook()
    mutate(notebook)
    found = faults(root, notebook)
    assert any(message in fault for fault in found), found


def test_every_rule_has_a_violation(root):
    """Switch a rule off and some violation must go unseen."""
    caught = set()
    for mutate, message in VIOLATIONS:
        notebook = good_notebook()
        mutate(notebook)
        (root / "notebooks" / NAME).write_text(nbformat.writes(notebook))
        page = lint.Page(root / "notebooks" / NAME)
        caught |= {r for r in lint.RULES if any(message in fault for fault in r(page))}
    assert caught == set(lint.RULES)


def test_an_inline_cell_may_show_what_the_exercises_have(root):
    notebook = good_notebook()
    change(INLINE, "def add", "def plus")(notebook)
    folder = root / "notebooks" / "exercises"
    folder.mkdir()
    (folder / "sums.py").write_text("def plus(a, b):\n    return a + b")
    assert faults(root, notebook) == []


def test_a_good_notebook_has_no_faults_and_fractions_are_no_paths(root):
    notebook = good_notebook()
    text = "3 it/s, and/or, home/away, 1/tmp, </root>, https://x.org/home/y"
    notebook.cells[START].outputs.append(stdout(text))
    assert faults(root, notebook) == []


def test_ruff_leaves_half_precision_to_the_device(root):
    notebook = good_notebook()
    add_code("import torch\n\nx = torch.bfloat16\ny = torch.autocast('cuda')")(notebook)
    (root / "notebooks" / NAME).write_text(nbformat.writes(notebook))
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    ruff += ["--config", cells.ROOT / "pyproject.toml", root / "notebooks" / NAME]
    assert subprocess.run(ruff, capture_output=True, text=True).stdout.count("TID251") == 2
