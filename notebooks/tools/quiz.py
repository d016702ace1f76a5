"""The three questions near the end of a notebook: their parts, and the rules for them.

    ## Three questions

    **1.** What becomes of the sum if ...?

    <details><summary>A. It grows</summary>

    **Right.** No vector points against it.

    </details>

    ---

    **2.** ...

A choice is the line of a `<details>`, so that it unfolds wherever Markdown is shown, with
neither a script nor a kernel. notebooks/README.md says what makes a good one.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

from nbformat import NotebookNode

HEADING = "## Three questions\n"
BETWEEN = "\n\n---\n\n"
CHOICE = re.compile(
    r"^<details><summary>(?P<letter>[A-Z])\. (?P<text>.+)</summary>\n\n"
    r"\*\*(?P<verdict>Right|Wrong)\.\*\* (?P<reason>[^\n]+)\n\n</details>$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Choice:
    letter: str   # "A"
    text: str     # what is chosen, one line
    is_right: bool
    reason: str   # why it is right or wrong, one paragraph


def is_quiz(cell: NotebookNode) -> bool:
    return cell.cell_type == "markdown" and cell.source.startswith(HEADING)


def questions(source: str) -> list[list[Choice]]:
    """The choices of each question in the source of a cell."""
    return [
        [Choice(m["letter"], m["text"], m["verdict"] == "Right", m["reason"])
         for m in CHOICE.finditer(part)]
        for part in source.split(BETWEEN)
    ]


def slides(cell: NotebookNode) -> list[NotebookNode]:
    """What a deck shows of a cell: of the three questions a slide for each."""
    if not is_quiz(cell):
        return [cell]
    parts = []
    for number, text in enumerate(cell.source.split(BETWEEN), 1):
        part = deepcopy(cell)
        part.id, part.source = f"question-{number}", text
        if number > 1:
            part.metadata["slideshow"]["slide_type"] = "subslide"
        parts.append(part)
    return parts


def asks_three_questions(page) -> Iterator[str]:
    cells = [cell for cell in page.cells if is_quiz(cell)]
    if len(cells) != 1:
        yield f"has {len(cells)} cells that begin with {HEADING.strip()}, not one"
        return
    source, asked = cells[0].source, questions(cells[0].source)
    if re.findall(r"^(?:\*\*(\d)\.\*\* |---$)", source, re.M) != ["1", "", "2", "", "3"]:
        yield "does not ask **1.**, **2.** and **3.** with a line --- between them"
    if source.count("<details>") != sum(map(len, asked)):
        yield "has a choice that is not written as notebooks/README.md shows"
    for number, choices in enumerate(asked, 1):
        letters = "".join(choice.letter for choice in choices)
        if len(letters) < 3 or not "ABCDEF".startswith(letters):
            yield f"question {number} has the choices {letters}, not A, B, C"
        if sum(choice.is_right for choice in choices) != 1:
            yield f"question {number} needs one right choice, **Right.**, and no more"
        for choice in choices:
            if len(choice.reason.split()) < 8 or not choice.reason.endswith((".", ".)")):
                yield f"question {number}, {choice.letter}: say in a sentence why"
            if re.search(r"[$`*\[]", choice.text):
                yield f"question {number}, {choice.letter}: no Markdown in a summary"
    if len({c.letter for choices in asked for c in choices if c.is_right}) == 1:
        yield "the right choices of all three questions have the same letter"


RULES = [asks_three_questions]
