"""tools/colab_check.py, part by part; `make colab-check` is the whole."""

import ast
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

import cells
import colab_check
import devices
from made_up import BOOTSTRAP, NAME, REPO, code, good_notebook, make_course


def git(folder, *arguments, **options):
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def site(tmp_path):
    """A site-packages folder with torch and numpy."""
    for name in ("torch-2.13.0", "numpy-2.1.3"):
        record = tmp_path / "site" / f"{name}.dist-info" / "RECORD"
        record.parent.mkdir(parents=True)
        record.touch()
    return tmp_path / "site"


def test_every_change_of_a_package_is_seen(site):
    before = colab_check.installed(site)
    assert {name for name, _ in before} == {"numpy-2.1.3", "torch-2.13.0"}
    assert colab_check.installed(site) == before
    os.utime(site / "torch-2.13.0.dist-info/RECORD", (9, 9))  # the same version again
    (site / "numpy-2.1.3.dist-info").rename(site / "numpy-2.4.6.dist-info")
    changed = {name for name, _ in before ^ colab_check.installed(site)}
    assert changed == {"torch-2.13.0", "numpy-2.1.3", "numpy-2.4.6"}


@pytest.fixture
def checkout(tmp_path):
    """A made-up course under git, with changes that are not committed."""
    (tmp_path / "checkout").mkdir()
    root = make_course(tmp_path / "checkout")
    (root / "gone.py").write_text("old")
    (root / ".gitignore").write_text("secret.txt\n")
    git(root, "init", "-q", check=True)
    git(root, "add", "-A", check=True)
    (root / "gone.py").unlink()
    (root / "new.py").write_text("new")
    (root / "secret.txt").write_text("mine")
    return root


def test_the_public_address_serves_the_working_tree(checkout, tmp_path):
    published = colab_check.publish(checkout, tmp_path / "published")
    env = colab_check.environment(tmp_path, published, REPO)
    url = f"https://github.com/{REPO}"
    git(tmp_path, "clone", "-q", "--depth", "1", url, "course", env=env, check=True)
    assert (tmp_path / "course" / "new.py").read_text() == "new"
    assert not (tmp_path / "course" / "gone.py").exists()
    assert not (tmp_path / "course" / "secret.txt").exists()
    other = git(tmp_path, "clone", "https://github.com/some/other", "other", env=env)
    assert other.returncode and "not allowed" in other.stderr


def test_a_new_runtime_has_none_of_our_settings(tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "ATTNRES_CACHE_DIR", "XDG_CACHE_HOME", "JUPYTER_PATH"):
        monkeypatch.setenv(name, "mine")
    env = colab_check.environment(tmp_path, tmp_path, REPO)
    assert "mine" not in env.values()
    assert env["HOME"] == str(tmp_path) and env["ATTNRES_PRESET"] == "ci"


def test_the_package_imports_what_colab_has():
    """On import; what an optional peer needs is imported where it is used."""
    known = {name.lower() for name in devices.colab_versions()}
    assert "transformers" in known                 # from a comment
    known |= devices.own_packages(cells.ROOT) | set(sys.stdlib_module_names)
    known |= {"pil"}                               # Pillow: matplotlib does not go without
    places = ("attnres_ref", "kernels", "tiny_data", "notebooks/exercises")
    files = [path for place in places for path in (cells.ROOT / place).rglob("*.py")]
    assert len(files) > 20
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            lacking = [n for n in devices.imported(node) if n.lower() not in known]
            assert not lacking, f"{path.name} imports {lacking}"


def course_of(root, *sources):
    """One notebook: the bootstrap cell, then `sources`."""
    (root / "notebooks" / "01_next.ipynb").unlink()
    notebook = v4.new_notebook(cells=[code(BOOTSTRAP, "bootstrap"), *map(code, sources)])
    notebook.metadata = good_notebook().metadata
    nbformat.write(notebook, root / "notebooks" / NAME)


@pytest.fixture
def colab(monkeypatch, site):
    """Pretend that the packages are those of `site`."""
    installed = colab_check.installed
    monkeypatch.setattr(colab_check, "installed", lambda: installed(site))
    monkeypatch.setattr(colab_check.sys, "prefix", str(site))
    (site / ".installed").touch()
    return site


def test_the_course_is_fetched_and_found(checkout, colab, capfd):
    course_of(
        checkout,
        "import attnres_ref.sums as sums, os\nassert sums.add(1, 2) == 3\n"
        "assert os.path.abspath('..') + '/attnres_ref/sums.py' == sums.__file__\n"
        "assert os.path.basename(os.path.dirname(os.getcwd())) == 'course'",
    )
    assert colab_check.main([], checkout) == 0
    out = capfd.readouterr().out
    assert "runs, no package changed" in out and "1 passed, 0 failed" in out
    assert (colab / ".installed").exists()


def test_a_failing_cell_and_a_changed_package_are_reported(checkout, colab, capfd):
    record = colab / "torch-2.13.0.dist-info" / "RECORD"
    course_of(checkout, f"import os\nos.utime({str(record)!r}, (9, 9))", "1 / 0")
    assert colab_check.main([], checkout) == 1
    out = capfd.readouterr().out
    assert "cell 2:" in out and "ZeroDivisionError" in out
    assert "changed the package torch-2.13.0" in out and f"1 failed {NAME}" in out
    assert not (colab / ".installed").exists(), "the environment is to be built anew"


def test_an_environment_with_the_course_is_refused(checkout, colab, capsys):
    (colab / "attnres_from_scratch-0.1.0.dist-info").mkdir()
    (colab / "attnres_from_scratch-0.1.0.dist-info" / "RECORD").touch()
    with pytest.raises(SystemExit):
        colab_check.main([], checkout)
    assert "the course is installed here" in capsys.readouterr().err
