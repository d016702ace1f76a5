"""The house: a core that can be read in one sitting, and rooms that use it. Arrows are
imports, read from the source; they only go down."""

import ast
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from attnres_ref import notebook

ROOT = Path(__file__).resolve().parents[1]
CORE = ("depth.py", "streams.py", "model.py", "training/recipe.py", "training/trainer.py")
# Each room may use those before it.
ROOMS = (
    "fields", "depth", "streams", "model", "training", "views", "variants", "adapter",
    "inference", "chained", "pipeline", "study", "hybrid", "plots", "bench", "notebook",
    "__init__",
)


def imported(file: Path) -> set[tuple[str, str]]:
    """The imports of a file, wherever in it: (module, name taken from it, or "")."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports in full"
            found |= {(node.module, alias.name) for alias in node.names}
    return found


def imports(package: Path) -> dict[str, set[str]]:
    """For each file of the package, the files of the package that it imports."""
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}

    def file_of(module: str, name: str) -> str | None:
        """`name` may be a module itself, or be defined in `module`."""
        inside = module.removeprefix(package.name).strip(".").replace(".", "/")
        places = (f"{inside}/{name}", f"{inside}/{name}/__init__", inside,
                  f"{inside}/__init__")
        return next((f for p in places if (f := f"{p.strip('/')}.py") in files), None)

    def ours(file: str) -> set[str]:
        pairs = imported(package / file)
        found = {file_of(m, n) for m, n in pairs if m.partition(".")[0] == package.name}
        return found - {None, file}

    return {file: ours(file) for file in files}


def room(file: str) -> int:
    return ROOMS.index(file.partition("/")[0].removesuffix(".py"))


def circle(graph) -> list[str]:
    """Files that import each other in a circle, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def upward(graph) -> list[str]:
    return [f"{a} -> {b}" for a, bs in graph.items() for b in bs if room(b) > room(a)]


def reached(graph, start) -> set[str]:
    """The files that are imported, directly or not."""
    seen, todo = set(), list(start)
    while todo:
        if (file := todo.pop()) not in seen:
            seen.add(file)
            todo += graph[file]
    return seen


def annexes(graph) -> set[str]:
    """What the core reaches beyond itself, the checks of given numbers, and what keeps a
    training run safe."""
    mine = {name for name in graph if name.startswith("training/")}
    return reached(graph, CORE) - {*CORE, *mine, "fields.py"}


GRAPH = imports(ROOT / "attnres_ref")


@pytest.mark.parametrize("rule", [circle, upward, annexes])
def test_the_package_keeps_each_rule(rule):
    assert not rule(GRAPH)


def lines(files) -> int:
    texts = [(ROOT / "attnres_ref" / file).read_text(encoding="utf-8") for file in files]
    return sum(text.count("\n") for text in texts)


def test_the_core_is_read_in_one_sitting():
    # README.md and notebooks/code.md give the first of these numbers.
    assert lines(CORE) <= 900
    pictures = [file for file in GRAPH if file.startswith("plots/")]
    assert lines(GRAPH.keys() - pictures) <= 7_800
    assert lines(pictures) <= 3_200


def test_the_package_knows_neither_the_kernels_nor_a_corpus():
    """All but the command line, which loads a corpus by name."""
    for file in GRAPH.keys() - {"training/__main__.py"}:
        modules = {module for module, _ in imported(ROOT / "attnres_ref" / file)}
        others = {module.partition(".")[0] for module in modules}
        assert not others & {"attnres_kernels", "tiny_data"}, file


def test_nothing_is_imported_for_show_on_demand_or_to_be_patched():
    folders = ("attnres_ref", "kernels", "tiny_data", "notebooks")
    for path in [path for folder in folders for path in (ROOT / folder).rglob("*.py")]:
        pairs = imported(path)
        assert ("typing", "TYPE_CHECKING") not in pairs, path
        assert not any(module.startswith("unittest") for module, _ in pairs), path
        names = [getattr(x, "name", "") for x in ast.parse(path.read_text()).body]
        assert "__getattr__" not in names, path


def test_a_trained_models_cache_key_covers_all_that_it_is_made_by():
    made_by = reached(GRAPH, ["training/__init__.py", "variants.py", "hybrid/__init__.py"])
    patterns = notebook.TRAINED_CODE
    assert [f for f in made_by if not any(fnmatch(f, p) for p in patterns)] == []


MADE_UP = {
    "depth.py": "", "streams.py": "import attnres_ref.depth",
    "model.py": "from attnres_ref.streams import PreNorm",
    "training/__init__.py": "", "training/recipe.py": "",
    "training/trainer.py": "from attnres_ref.training import recipe",
    "study/probes.py": "from attnres_ref.model import LM",
}


@pytest.mark.parametrize("rule, file, line", [
    (circle, "training/recipe.py", "from attnres_ref.training.trainer import train"),
    (upward, "training/recipe.py", "from attnres_ref.study import probes"),
    (upward, "depth.py", "def f():\n    import attnres_ref.model"),
    (annexes, "training/trainer.py", "import attnres_ref.study.probes as p"),
])
def test_each_rule_sees_a_breach(tmp_path, rule, file, line):
    package = tmp_path / "attnres_ref"
    for name, text in MADE_UP.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert not rule(imports(package))
    with (package / file).open("a") as source:
        source.write(f"\n{line}\n")
    assert rule(imports(package))
