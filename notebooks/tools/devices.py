"""Rules for notebooks that run on any device: minutes for each, packages that Colab has."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PRESETS = {"ci", "cpu", "t4", "gpu"}  # training.presets, without importing torch


def colab_versions() -> dict[str, str]:
    """{"torch": "2.11.0+cu128", ...} from the lines of colab-runtime.txt, comments too."""
    text = Path(__file__).with_name("colab-runtime.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^(?:# )?([\w.-]+)==([\w.+]+)", text, re.MULTILINE))


def tells_minutes_for_each_preset(page) -> Iterator[str]:
    table = re.search(r"\*\*Minutes\*\*\s+\|(.+)\|$", page.prose, re.MULTILINE)
    told = {word.strip() for word in table[1].split("|")} if table else set()
    if lacking := PRESETS - told:
        yield f"the table of **Minutes** lacks {', '.join(sorted(lacking))}"
    for index, call in calls(page, "start"):
        try:
            minutes = ast.literal_eval(call.args[0])
        except (IndexError, ValueError):
            minutes = {}
        if lacking := {name for name in PRESETS if not minutes.get(name)}:
            yield f"cell {index}: start({{...}}) lacks {', '.join(sorted(lacking))}"


def imports_what_colab_has(page) -> Iterator[str]:
    known = set(sys.stdlib_module_names) | own_packages(page.root)
    known |= {name.lower() for name in colab_versions()}
    for index, tree in page.trees:
        for name in sorted(name for node in ast.walk(tree) for name in imported(node)):
            if name.lower() not in known:
                yield f"cell {index}: imports {name}, not in colab-runtime.txt"


def own_packages(root: Path) -> set[str]:
    """Packages of the course, which the bootstrap cell puts on the path."""
    places = ("", "kernels", "notebooks")
    return {path.name for place in places for path in (root / place).glob("*/")}


def imported(node: ast.AST) -> list[str]:
    """The top-level packages that an import statement names; none for other nodes."""
    match node:
        case ast.Import():
            return [alias.name.partition(".")[0] for alias in node.names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module.partition(".")[0]]
    return []


def calls(page, name: str) -> Iterator[tuple[int, ast.Call]]:
    """The calls of a function in the code cells, with the index of the cell."""
    for index, tree in page.trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield index, node


RULES = [tells_minutes_for_each_preset, imports_what_colab_has]
