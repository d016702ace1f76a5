"""The course's docstrings are plain text; this makes reStructuredText of them.

A line `name: text` in a function's docstring is a parameter, an indented paragraph is
kept as it stands, `code` in single backticks is code. All else is prose, word by word:
no `*` or `_` of a shape or formula means anything.
"""

import inspect
import re

PARAMETER = re.compile(r"(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*):\s+(?P<text>\S.*)")


def restructured(doc: str, parameters: set[str]) -> list[str]:
    """A docstring as lines of reStructuredText; `parameters` are names of arguments."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", doc.strip("\n")):
        if re.fullmatch(r"(    .*\n?)+", paragraph):
            lines += ["::", "", *paragraph.splitlines(), ""]
            continue
        was_field = False
        for line in re.sub(r"\n +", " ", paragraph).splitlines():
            match = PARAMETER.match(line)
            is_field = bool(match) and {*re.findall(r"\w+", match["names"])} <= parameters
            lines += [""] if is_field != was_field else []
            text = marked_up(match["text"] if is_field else line)
            lines.append(f":param {match['names']}: {text}" if is_field else text)
            was_field = is_field
        lines.append("")
    return lines


def marked_up(line: str) -> str:
    """Escape what reStructuredText would read as markup, and mark `code`."""
    new = lambda m: f"\\ ``{m[1]}``\\ " if m[1] else "\\" + m[2]
    return re.sub(r"`([^`]+)`|([\\*_|`:])", new, line.strip())


def process(app, what, name, thing, options, lines: list[str]) -> None:
    try:
        parameters = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        parameters = set()
    lines[:] = restructured("\n".join(lines), parameters)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", process)
