"""What check() shows: a coloured box in a notebook, the same words as text elsewhere."""

from html import escape
from traceback import FrameSummary
from typing import Literal, NamedTuple

from IPython import get_ipython
from IPython.display import display

Status = Literal["passed", "unsolved", "failed"]

WORDS = {
    "passed": ("✓", "passed"),
    "failed": ("✗", "not yet right"),
    "unsolved": ("○", "not solved yet"),
}
# Edge, ground and verdict. As the box brings its ground, it is read on light and on dark
# pages alike.
COLOURS = {
    "passed": ("#1a7f37", "#e3f4e7", "#0f5c27"),
    "failed": ("#b07400", "#fff3d1", "#744900"),
    "unsolved": ("#6e7781", "#eceef1", "#424a53"),
}
INK = "#1f2328"
# Each style says all that a page could set otherwise for a div or for code.
BOX = (
    "border-left: 5px solid {edge}; background: {ground}; color: {ink}; "
    "padding: 8px 12px; margin: 4px 0; max-width: 720px; border-radius: 3px; "
    "line-height: 1.5; overflow-wrap: anywhere"
)
CODE = (
    "display: block; background: #ffffff; color: {ink}; padding: 4px 8px; border: none; "
    "white-space: pre-wrap"
)
SCORE = "margin-top: 4px; font-size: 90%"


class Outcome(NamedTuple):
    status: Status
    message: str = ""                      # what to look at
    line: FrameSummary | None = None       # of the reader's code, where it failed


def show(name: str, outcome: Outcome, score: str) -> None:
    """Display what came of exercise `name`; without IPython, print it."""
    text = f"{as_text(name, outcome)}\n{score}"
    if get_ipython() is None:
        print(text)
    else:
        html = as_html(name, outcome, score)
        display({"text/html": html, "text/plain": text}, raw=True)


def as_text(name: str, outcome: Outcome) -> str:
    """One line: "02.1 not yet right: what to look at (your line 3, in read: ...)"."""
    text = f"{name} {WORDS[outcome.status][1]}"
    if outcome.message:
        text += f": {outcome.message}"
    if outcome.line:
        source = f": {outcome.line.line}" if outcome.line.line else ""
        text += f" ({_place(outcome.line)}{source})"
    return text


def as_html(name: str, outcome: Outcome, score: str) -> str:
    """The box. It needs no style sheet and no script, and says in words what it colours."""
    edge, ground, verdict = COLOURS[outcome.status]
    sign, words = WORDS[outcome.status]
    rows = [f'<b style="color: {verdict}">{sign} {name} {words}</b>']
    if outcome.message:
        rows.append(escape(outcome.message))
    if outcome.line:
        rows.append(escape(_place(outcome.line)))
        if source := outcome.line.line:
            rows[-1] += f':<code style="{CODE.format(ink=INK)}">{escape(source)}</code>'
    inside = "".join(f"<div>{row}</div>\n" for row in rows)
    inside += f'<div style="{SCORE}">{escape(score)}</div>\n'
    style = BOX.format(edge=edge, ground=ground, ink=INK)
    return f'<div style="{style}">\n{inside}</div>'


def _place(line: FrameSummary) -> str:
    return f"your line {line.lineno}, in {line.name}"
