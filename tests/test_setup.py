"""The set-up files agree: one list of packages, one range of Pythons, one address."""

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

import links

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
SET_UP = ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile", ".ci/run"]
TARGETS = ["lab", "test", "lint", "course", "handout", "bench", "bench-gpu"]

DIRECT = [
    Requirement(line)
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_conda_takes_the_same_python_and_no_list_of_its_own():
    python, pip, through_pip = CONDA["dependencies"]
    name, _, versions = python.partition(" ")
    assert name == "python"
    assert SpecifierSet(versions) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert through_pip == {"pip": ["-c constraints.txt", "-e .[test]"]}


def test_no_dependency_is_listed_twice():
    found = [canonicalize_name(requirement.name) for requirement in DIRECT]
    assert len(set(found)) == len(found)


def test_constraints_pin_one_version_each():
    assert len({canonicalize_name(pin.name) for pin in PINS}) == len(PINS)
    for pin in PINS:
        assert re.fullmatch(r"==[\d.]+", str(pin.specifier)), pin
        assert not pin.marker and not pin.extras, pin


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda r: r.name)
def test_constraints_cover_what_is_asked_for(requirement):
    pins = {canonicalize_name(pin.name): pin for pin in PINS}
    pin = pins[canonicalize_name(requirement.name)]
    version = str(pin.specifier).removeprefix("==")
    assert requirement.specifier.contains(version)
    assert requirement.specifier, "pyproject.toml states ranges"


@pytest.mark.parametrize("name", SET_UP)
def test_set_up_names_no_server(name):
    text = (ROOT / name).read_text()
    for forbidden in ("://", "index-url", "find-links", "trusted-host"):
        assert forbidden not in text


def test_no_file_names_a_machine_or_a_registry():
    folder = r"(?<![\w.])/(home|root|work|Users)/\w"
    machine = re.compile(folder + r"|pypi\.org|python[h]osted")
    folders = ["attnres_ref", "kernels", "tiny_data", "tests", "notebooks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    text = {".py", ".md", ".json", ".ipynb"}
    files = [ROOT / name for name in SET_UP] + [f for f in files if f.suffix in text]
    for path in files:
        found = machine.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_one_public_address_everywhere():
    stale = links.restamped_files(links.setting(ROOT), ROOT)
    assert not stale, "run python notebooks/tools/links.py"


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_ci_runs_the_tests():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    text = (ROOT / ".ci/run").read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "\nmake test\n" in text


# --- make ---------------------------------------------------------------------------

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make here")


@pytest.fixture
def clone(tmp_path):
    """What make looks at, as in a fresh clone."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def plan(folder, *arguments):
    """The commands that make would run, in order."""
    # A make above this one must not add its own options.
    above = ("MAKE", "MFLAGS")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(above)}
    run = subprocess.run(
        ["make", "-n", *arguments],
        cwd=folder, env=clean, capture_output=True, text=True, check=True,
    )
    return run.stdout


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_a_fresh_clone_is_set_up_first(clone, target):
    commands = plan(clone, target)
    steps = ["-m venv .venv", '-m pip install -c constraints.txt -e ".[test]"', "touch"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)
    assert commands.count(".venv/bin/python") > 1, "the target itself uses .venv"


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_set_up_happens_once_and_after_a_change_of_the_pins(clone, target):
    (clone / ".venv").mkdir()
    (clone / ".venv/.installed").touch()
    assert "pip install" not in plan(clone, target)
    later = (clone / ".venv/.installed").stat().st_mtime + 5
    os.utime(clone / "constraints.txt", (later, later))
    assert "pip install" in plan(clone, target)
    assert "-m venv" not in plan(clone, target)


@needs_make
def test_lint_comes_before_the_tests(clone):
    commands = plan(clone, "test")
    steps = ["ruff check", "notebooks/tools/lint.py", "-m pytest"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)


@needs_make
def test_colab_check_has_an_environment_of_its_own(clone):
    (clone / "notebooks/tools").mkdir(parents=True)
    shutil.copy(ROOT / "notebooks/tools/colab-runtime.txt", clone / "notebooks/tools")
    commands = plan(clone, "colab-check", "PYTHON=python3.13")
    steps = ["python3.13 -m venv --clear build/colab/python3.13", "pip install", "touch"]
    steps += ["build/colab/python3.13/bin/python notebooks/tools/colab_check.py"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places) and ".venv" not in commands
    torch = next(str(pin.specifier) for pin in PINS if pin.name == "torch")
    assert f"torch{torch}\n" in commands, "the torch that is tested, not Colab's"
    assert "torch==2.11.0\n" in plan(clone, "colab-check", "TORCH=2.11.0")


@needs_make
def test_links_and_clean_need_no_set_up(clone):
    assert 'links.py "owner/name"' in plan(clone, "links", "REPO=owner/name")
    assert "pip" not in plan(clone, "links", "REPO=owner/name") + plan(clone, "clean")


@needs_make
def test_help_names_every_target(clone):
    run = subprocess.run(["make"], cwd=clone, capture_output=True, text=True)
    for target in [*TARGETS, "colab-check", "links", "clean", "help"]:
        assert f"make {target} " in run.stdout


@needs_make
def test_a_python_of_another_version_is_refused(clone):
    old = clone / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(
        ["make", "bench", f"PYTHON={old}"], cwd=clone, capture_output=True, text=True
    )
    assert run.returncode != 0 and "Python 3.11 to 3.13 is needed" in run.stdout
    assert not (clone / ".venv").exists()


# --- citation and changelog ---------------------------------------------------------


def test_the_citation_is_of_this_version_and_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= cited.keys()
    assert str(cited["version"]) == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    paper, = cited["references"]
    assert paper["title"] == "Attention Residuals" and paper["url"].endswith("2603.15031")


def test_the_changelog_begins_with_what_is_to_come_and_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", text, re.MULTILINE)
    assert entries[0] == ("Unreleased", "")
    versions = [version for version, _ in entries[1:]]
    assert versions[0] == PROJECT["version"]
    for _, date in entries[1:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
