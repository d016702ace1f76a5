"""The set-up files agree: one list of packages, one range of Pythons, one address."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tiny_data.sources import PACKED

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SET_UP = ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile", ".ci/run"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["test"]]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PINNED = {canonicalize_name(pin.name): pin for pin in PINS}


def test_conda_takes_the_same_python_and_no_list_of_its_own():
    python, *others = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    versions = python.removeprefix("python ")
    assert SpecifierSet(versions) == SpecifierSet(PROJECT["requires-python"])
    assert others == ["pip", {"pip": ["-c constraints.txt", "-e .[test]"]}]


def test_constraints_pin_one_version_each():
    assert len(PINNED) == len(PINS)
    for pin in PINS:
        assert re.fullmatch(r"[\w-]+==[\d.]+", str(pin)), pin


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_constraints_cover_what_is_asked_for(requirement):
    pin = PINNED[canonicalize_name(requirement.name)]
    assert requirement.specifier, "pyproject.toml states ranges"
    assert requirement.specifier.contains(str(pin.specifier).removeprefix("=="))


@pytest.mark.parametrize("name", SET_UP)
def test_set_up_names_no_server(name):
    server = "://|index-url|find-links|trusted-host"
    assert not re.search(server, (ROOT / name).read_text())


def test_no_file_names_a_machine_or_a_registry():
    machine = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w|pypi\.org|python[h]osted")
    folders = ["attnres_ref", "kernels", "tiny_data", "tests", "notebooks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    text = {".py", ".md", ".json", ".ipynb"}
    files = [ROOT / name for name in SET_UP] + [f for f in files if f.suffix in text]
    for path in files:
        named = machine.search(path.read_text(encoding="utf-8"))
        assert not named, f"{path.relative_to(ROOT)}: {named[0]}"


def test_text_is_read_and_written_as_utf_8_on_windows_too():
    folders = ["attnres_ref", "kernels", "tiny_data", "notebooks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    nodes = [n for f in files for n in ast.walk(ast.parse(f.read_text(encoding="utf-8")))]
    for call in [node for node in nodes if isinstance(node, ast.Call)]:
        words = ast.unparse(call.func).rpartition(".")
        binary = {"rb", "wb", "ab", "xb"} & {getattr(a, "value", a) for a in call.args}
        of_text = words[2] in ("read_text", "write_text", "open")
        if of_text and words[0] not in ("os", "tarfile", "Image"):
            names = [keyword.arg for keyword in call.keywords]
            assert binary or "encoding" in names, ast.unparse(call)


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == PROJECT["version"]


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make here")


def make(clone, *arguments):
    """What make returns and prints in a fresh clone: only what it looks at is there."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone)
    # A make above this one must not add its own options.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make", *arguments], cwd=clone, env=clean, stdout=subprocess.PIPE)
    return run.returncode, run.stdout.decode()


@needs_make
@pytest.mark.parametrize("target", ["lab", "test", "lint", "course", "handout", "bench"])
def test_every_target_sets_up_first_and_then_only_after_a_change(target, tmp_path):
    commands = make(tmp_path, "-n", target)[1]
    steps = ["-m venv .venv", '-m pip install -c constraints.txt -e ".[test]"', "touch"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places) and ".venv/bin/python" in commands[places[-1] :]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    os.utime(tmp_path / ".venv/.installed", (2**31, 2**31))      # later than the pins
    assert "pip install" not in make(tmp_path, "-n", target)[1]
    os.utime(tmp_path / ".venv/.installed", (1, 1))
    assert "pip install" in make(tmp_path, "-n", target)[1]


@needs_make
def test_the_page_on_setting_up_has_by_hand_what_make_does(tmp_path):
    page = (ROOT / "notebooks" / "setup.md").read_text(encoding="utf-8")
    block = re.search(r"## Without make\n.*?```bash\n(.*?)```", page, re.DOTALL)[1]
    commands = re.findall("^python (.+)$", block, re.MULTILINE)
    said = make(tmp_path, "-n", "lab", "test")[1]
    made = re.findall(r"^\.venv/bin/python (.+)$", said, re.MULTILINE)
    assert commands == ["-m venv .venv", *made]


@needs_make
@pytest.mark.parametrize("page", ["README.md", "notebooks/setup.md"])
def test_every_make_command_of_a_page_is_there(page, tmp_path):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    there = {line.split()[1] for line in make(tmp_path)[1].splitlines()}
    assert named and named - {"help"} <= there


@needs_make
def test_a_python_of_another_version_is_refused(tmp_path):
    code, said = make(tmp_path, "bench", "PYTHON=false")
    assert code != 0 and "Python 3.11 to 3.13 is needed" in said
    assert ".venv" not in os.listdir(tmp_path)


@needs_make
def test_lint_comes_before_the_tests_and_help_names_the_targets(tmp_path):
    assert "make colab-check " in make(tmp_path)[1]
    commands = make(tmp_path, "-n", "test")[1]
    steps = ["ruff check", "tools/lint.py", "-m pytest"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)
    assert "pip" not in make(tmp_path, "-n", "clean")[1]


@needs_make
def test_an_address_is_no_command(tmp_path):
    address = 'a/b"; touch made; echo "`touch made`'
    assert address in make(tmp_path, "links", "PYTHON=echo", f"REPO={address}")[1]
    assert "made" not in os.listdir(tmp_path)


@needs_make
def test_clean_leaves_the_unfinished_recordings(tmp_path):
    for name in ("site", "site-source", "jupyter_execute", "colab", "recorded"):
        (tmp_path / "build" / name).mkdir(parents=True)
    assert make(tmp_path, "clean")[0] == 0
    assert os.listdir(tmp_path / "build") == ["recorded"]


def test_the_text_and_its_licence_are_installed_with_tiny_data(monkeypatch):
    """As a wheel's build collects them."""
    pytest.importorskip("setuptools", minversion="77", reason="reads pyproject.toml")
    from setuptools.dist import Distribution

    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files()
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}                  # what git knows is not asked for
    found = build.find_data_files("tiny_data", "tiny_data")
    assert {*map(os.path.basename, found)} == {"PYTHON_LICENSE.txt", PACKED.name}
