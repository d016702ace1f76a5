"""A small made-up course, on which the notebook tools are tested."""

import nbformat
from nbformat import v4

import cells
import links
import lint

REPO = "someone/some-course"
FIRST, = cells.tagged(cells.read(cells.notebooks()[0]), "bootstrap")
BOOTSTRAP = FIRST.source.replace(links.setting(), REPO)
PNG = "iVBORw0KGgo="
NAME = "00_start.ipynb"
START = 'start({"ci": 1, "cpu": 1, "t4": 1, "gpu": 1})'

OPENING = f"""\
# 00 · Start

{links.badge(REPO, NAME)} · [next](01_next.ipynb)

By the end you can add two numbers.

**Objectives**
- add
- take away
- halve

**Minutes**

| preset | ci | cpu | t4 | gpu |
|---|---|---|---|---|
| Run all | 1 | 1 | 1 | 1 |

**Prerequisites** None.
"""
TAKEAWAYS = "## Takeaways\nSums."
REFERENCES = "## References\nEq. 1.\n\nNext: [01](01_next.ipynb)"
CHOICE = """\
<details><summary>{letter}. {text}</summary>

**{verdict}.** Two and two are four, as one can count on the fingers.

</details>"""
HINT = "<details><summary>Hint</summary>\n\nUse an operator.\n\n</details>"
SOLUTION = """\
<details><summary>Solution</summary>

```python
def {name}(a, b):
    return a + b
```

</details>"""


def code(source, *tags, outputs=(), slide="-"):
    metadata = {"tags": list(tags), "slideshow": {"slide_type": slide}}
    return v4.new_code_cell(source, metadata=metadata, outputs=list(outputs))


def text(source, *tags, slide="-"):
    metadata = {"tags": list(tags), "slideshow": {"slide_type": slide}}
    return v4.new_markdown_cell(source, metadata=metadata)


def stdout(text):
    return v4.new_output("stream", name="stdout", text=text)


def picture(mime="image/png", **metadata):
    return v4.new_output("display_data", {mime: PNG}, metadata={mime: metadata})


def quiz():
    """Three questions, whose right choices are A, B and C."""
    questions = []
    for number, right in enumerate("ABC", 1):
        parts = [f"**{number}.** What are two and two?"]
        for letter, text in zip("ABC", ("Five", "Four", "Three"), strict=True):
            verdict = "Right" if letter == right else "Wrong"
            parts.append(CHOICE.format(letter=letter, text=text, verdict=verdict))
        questions.append("\n\n".join(parts))
    return "## Three questions\n\n" + "\n\n---\n\n".join(questions)


def good_notebook():
    """A notebook without faults, as small as the rules allow."""
    cells = [
        text(OPENING, slide="slide"),
        code(BOOTSTRAP, "bootstrap", slide="skip"),
        code(START, "imports", outputs=[stdout("CPU | preset ci\n")], slide="skip"),
        text("A sum:", slide="slide"),
        code("def add(a, b):\n    return a + b", "inline"),
        code("draw()", outputs=[picture(alt="A line that rises")]),
        text("*Figure: the line rises.*"),
    ]
    for number, title in enumerate(["Add", "Add again", "Spot the bug"], 1):
        name = f"00.{number}"
        stub = f'def sum{number}(a, b):\n    ...\n\ncheck("{name}", sum{number})'
        cells += [
            text(f"### Exercise {name} · {title} (easy, 5 min)", slide="subslide"),
            code(stub, "exercise", outputs=[stdout(f"{name} not solved yet\n")]),
            text(HINT, slide="skip"),
            text(SOLUTION.format(name=f"sum{number}"), "solution", slide="skip"),
        ]
    cells += [text(part, slide="slide") for part in (TAKEAWAYS, quiz(), REFERENCES)]
    for count, cell in enumerate([c for c in cells if c.cell_type == "code"], 1):
        cell.execution_count = count
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": lint.KERNEL, "accelerator": "GPU"}
    )


def make_course(root):
    """A checkout with a setting, a package of one function and two notebooks."""
    (root / "pyproject.toml").write_text(f'[tool.attnres]\nrepo = "{REPO}"\n')
    (root / "README.md").write_text(links.badge(REPO, NAME))
    (root / "attnres_ref").mkdir()
    (root / "attnres_ref" / "sums.py").write_text(
        'def add(a, b):\n    """The sum."""\n    return a + b\n'
    )
    (root / "tiny_data").mkdir()
    (root / "tiny_data" / "__init__.py").touch()
    (root / "notebooks").mkdir()
    nbformat.write(good_notebook(), root / "notebooks" / NAME)
    neighbour = v4.new_notebook(cells=[code(BOOTSTRAP, "bootstrap")])
    nbformat.write(neighbour, root / "notebooks" / "01_next.ipynb")
    return root
