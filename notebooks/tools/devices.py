"""Rules for notebooks that run on any device: minutes, half precision, packages."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PRESETS = {"ci", "cpu", "t4", "gpu"}  # training.presets, without importing torch
RUNTIME = Path(__file__).with_name("colab-runtime.txt")


def colab_versions() -> dict[str, str]:
    """{"torch": "2.11.0+cu128", ...} from the lines of colab-runtime.txt, comments too."""
    text = RUNTIME.read_text(encoding="utf-8")
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


def leaves_half_precision_to_the_device(page) -> Iterator[str]:
    """A T4 computes in fp16, with a scaler; train(...) and Trainer know that."""
    for index, node in nodes(page):
        match node:
            case ast.Attribute(ast.Name("torch"), "bfloat16" | "autocast" as name):
                yield (
                    f"cell {index}: uses torch.{name}; a T4 has no bfloat16, so take "
                    "half_precision(device) of attnres_ref.training"
                )


def imports_what_colab_has(page) -> Iterator[str]:
    known = set(sys.stdlib_module_names) | own_packages(page.root)
    known |= {name.lower() for name in colab_versions()}
    for index, node in nodes(page):
        for name in imported(node):
            if name.lower() not in known:
                yield f"cell {index}: imports {name}, not in colab-runtime.txt"


def own_packages(root: Path) -> set[str]:
    """Packages of the course, which the bootstrap cell puts on the path."""
    found = [p for place in ("", "kernels", "notebooks") for p in (root / place).glob("*/")]
    return {path.name for path in found}


def imported(node: ast.AST) -> list[str]:
    """The top-level packages that an import statement names; none for other nodes."""
    match node:
        case ast.Import():
            return [alias.name.partition(".")[0] for alias in node.names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module.partition(".")[0]]
    return []


def nodes(page) -> Iterator[tuple[int, ast.AST]]:
    """Every node of the code cells that parse, with the index of its cell."""
    for index, cell in page.code:
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:  # another rule says so
            continue
        yield from ((index, node) for node in ast.walk(tree))


def calls(page, name: str) -> Iterator[tuple[int, ast.Call]]:
    for index, node in nodes(page):
        match node:
            case ast.Call(ast.Name(id)) if id == name:
                yield index, node


RULES = [
    tells_minutes_for_each_preset,
    leaves_half_precision_to_the_device,
    imports_what_colab_has,
]
