"""The course's docstrings are plain text; this makes reStructuredText of them.

A line `name: text` in a function's docstring is a parameter, an indented paragraph is
kept as it stands, `code` in single backticks is code. All else is prose, word by word:
no `*` or `_` of a shape or formula means anything.
"""

import inspect
import re

PARAMETER = re.compile(r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*):\s+(?P<text>\S.*)")


def restructured(lines: list[str], parameters: set[str]) -> list[str]:
    """Docstring `lines` as reStructuredText; `parameters` are the names of arguments."""
    found: list[str] = []
    for paragraph in paragraphs(lines):
        if all(line.startswith("    ") for line in paragraph):
            found += ["::", "", *paragraph, ""]
            continue
        inside = False  # a parameter's text goes on where a line is indented
        for line in paragraph:
            match = PARAMETER.match(line)
            if match and set(re.findall(r"\w+", match["names"])) <= parameters:
                found += [] if inside or not found or not found[-1] else [""]
                found.append(f":param {match['names']}: {marked_up(match['text'])}")
                inside = True
            elif inside and line.startswith(" "):
                found.append("    " + marked_up(line.strip()))
            else:
                found += [""] if inside else []
                found.append(marked_up(line.strip()))
                inside = False
        found.append("")
    return found


def paragraphs(lines: list[str]) -> list[list[str]]:
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    return [part.splitlines() for part in re.split(r"\n\n+", text) if part]


def marked_up(line: str) -> str:
    """Escape what reStructuredText would read as markup, and mark `code`."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no markup
        return escaped(line)
    return "".join(
        f"\\ ``{part}``\\ " if place % 2 else escaped(part)
        for place, part in enumerate(parts)
    )


def escaped(text: str) -> str:
    return re.sub(r"([\\*_|`:])", r"\\\1", text)


def process(app, what, name, thing, options, lines: list[str]) -> None:
    try:
        parameters = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        parameters = set()
    lines[:] = restructured(lines, parameters)


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
