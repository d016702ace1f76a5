"""The address, the bootstrap cell and the headless runner, on a made-up course."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat import v4

import cells
import course
import links
import lint
import outputs
from attnres_ref.training import provenance
from attnres_ref.training.progress import progress_bar
from made_up import BOOTSTRAP, NAME, REPO, code, good_notebook, make_course


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path)


def test_links_writes_every_place_and_no_other(root):
    (root / "CITATION.cff").write_text(
        "repository-code: https://github.com/old/name\nurl: https://github.com/a/b\n"
    )
    (root / "README.md").write_text(
        f"{links.badge('old/name', NAME)}\n\n"
        "    git clone https://github.com/old/name\n\n"
        "See https://github.com/torch/torch.\n"
    )
    stale = {path.name for path in links.restamped_files(REPO, root)}
    assert stale == {"README.md", "CITATION.cff"}
    links.main("new-owner/new.name", root)
    assert links.setting(root) == "new-owner/new.name"
    assert (root / "CITATION.cff").read_text().count("new-owner/new.name") == 1
    readme = (root / "README.md").read_text()
    assert "old/name" not in readme and readme.count("new-owner/new.name") == 2
    assert "https://github.com/torch/torch." in readme
    notebook = (root / "notebooks" / NAME).read_text()
    assert REPO not in notebook and 'repo = \\"new-owner/new.name\\"' in notebook
    assert lint.faults(root / "notebooks" / NAME) == []
    assert links.restamped_files("new-owner/new.name", root) == {}


@pytest.mark.parametrize(
    "address", ["https://github.com/a/b", "", "a/b; rm x", "../..", "a/b c/d"]
)
def test_links_refuses_what_is_no_address(root, address):
    with pytest.raises(SystemExit, match="make links REPO=owner/name"):
        links.main(address, root)
    assert links.setting(root) == REPO


def run_bootstrap(monkeypatch, folder):
    """Run the cell in `folder`; the commands it gave. A clone makes the two folders."""
    commands = []

    def run(command):
        commands.append(command)
        (folder / "course" / "tiny_data").mkdir(parents=True)
        (folder / "course" / "notebooks").mkdir()
        return 0, ""

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(subprocess, "getstatusoutput", run)
    exec(BOOTSTRAP, {})
    return commands


@pytest.mark.parametrize("start", ["notebooks", "."])
def test_bootstrap_fetches_nothing_in_a_checkout(root, monkeypatch, start):
    assert run_bootstrap(monkeypatch, root / start) == []
    assert sys.path[:3] == [str(root / place) for place in ("notebooks", ".", "kernels")]


def test_bootstrap_fetches_the_course_once(tmp_path, monkeypatch):
    clone, = run_bootstrap(monkeypatch, tmp_path)
    assert clone == f"git clone -q --depth 1 https://github.com/{REPO} course"
    course = tmp_path / "course"
    assert sys.path[:3] == [str(course / place) for place in ("notebooks", ".", "kernels")]
    assert run_bootstrap(monkeypatch, tmp_path) == []  # after a restart of the kernel
    assert sys.path[0] == str(tmp_path / "course" / "notebooks")


@pytest.mark.parametrize("repo, variable, left, words", [
    ("your-name/course", "", "", "no address to fetch it from: .* make links"),
    (REPO, "", "course/attnres_ref", "rename it.* 'course' already exists"),
    (REPO, "GIT_ALLOW_PROTOCOL", "", "cannot fetch .* 'https' not allowed"),
    (REPO, "PATH", "", "cannot fetch .* not found"),
])
def test_bootstrap_says_what_lacks(tmp_path, monkeypatch, repo, variable, left, words):
    monkeypatch.setenv(variable or "UNUSED", "none")
    monkeypatch.chdir(tmp_path)
    Path(left).mkdir(parents=True, exist_ok=True)
    with pytest.raises(OSError, match=words):
        exec(BOOTSTRAP.replace(REPO, repo), {})


def tiny_course(root, *sources):
    """Overwrite the notebooks by 00, 01, ... of one code cell each."""
    for path in (root / "notebooks").glob("*.ipynb"):
        path.unlink()
    metadata = good_notebook().metadata
    for number, source in enumerate(sources):
        notebook = v4.new_notebook(cells=[code(source)], metadata=metadata)
        nbformat.write(notebook, root / "notebooks" / f"0{number}_x.ipynb")


DRAW_AND_WARN = """\
import os, sys
from IPython.display import Image, display
print(os.path.basename(os.getcwd()))
print("40%|####  | 4/10 [00:01<00:01, 5.0it/s]", file=sys.stderr)
display(Image(b"\\x89PNG\\r\\n"), metadata={"image/png": {"alt": "A <line>"}})
"""


def test_course_runs_in_order_and_stops_at_a_failure(root, capfd):
    tiny_course(root, DRAW_AND_WARN, "x = 1\nraise KeyError('lost')", "print(3)")
    before = (root / "notebooks" / "00_x.ipynb").read_text()
    with pytest.raises(SystemExit, match="01_x.ipynb, cell 0(.|\n)*KeyError(.|\n)*lost"):
        course.main([], root)
    out, _ = capfd.readouterr()
    assert "[1/3] 00_x.ipynb" in out and "[2/3] 01_x.ipynb" in out
    assert "[3/3]" not in out

    build = root / "build" / "course"
    assert 'alt="A &lt;line&gt;"' in (build / "00_x.html").read_text()
    stored = cells.read(build / "00_x.ipynb").cells[0]
    assert stored.outputs[0].text == "notebooks\n"
    assert [out.output_type for out in stored.outputs] == ["stream", "display_data"]
    assert not (build / "02_x.ipynb").exists()
    assert (root / "notebooks" / "00_x.ipynb").read_text() == before


def test_course_records_one_notebook_in_place_unless_it_fails(root):
    tiny_course(root, "print('no')", "print('yes')", "1 / 0")
    course.main(["--in-place", "01"], root)
    with pytest.raises(SystemExit):
        course.main(["--in-place", "02"], root)
    first, second, failed = (cells.read(path).cells[0] for path in cells.notebooks(root))
    for left in first, failed:
        assert left.execution_count is None and left.outputs == []
    assert second.execution_count == 1 and second.outputs[0].text == "yes\n"
    assert "execution" not in second.metadata
    assert not (root / "build").exists()


@pytest.mark.parametrize("command", [
    "lint 99", "lint 02 two", "course 02 99", "slides 99", "colab_check 99", "handout 99",
    "site_source 99", "ledger 99", "figures 99", "gallery 99", "record rate",
    *(f"{recorder} --part={part}" for recorder in ("record rates", "mixing")
      for part in ("2/2", "0/0", "-1/2", "a/b", "1")),
])
def test_every_tool_refuses_what_it_does_not_know(command, monkeypatch, capsys):
    tool, *words = command.split()
    monkeypatch.setattr(provenance, "uncommitted", lambda: ["stopped too late"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(tool).main(words)
    said = f"{stop.value.code} {capsys.readouterr().err}"
    assert stop.value.code not in (None, 0) and words[-1].removeprefix("--part=") in said


@pytest.mark.parametrize("text, kept", [
    ("\rtrain:  50%|##  | 5/10 [00:01, 4.1it/s]\rtrain: 100%|####| 10/10\n", ""),
    ("1\n\r100%|####| 10/10 [00:01]\nUserWarning: look\n", "1\nUserWarning: look\n"),
    ("4.1 MB/s, 100% |x|\n", "4.1 MB/s, 100% |x|\n"),
])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_only_progress_bars_are_dropped(name, text, kept):
    cell = code("pass", outputs=[v4.new_output("stream", name=name, text=text)])
    outputs.clean(SimpleNamespace(cells=[cell], metadata={}))
    assert "".join(output.text for output in cell.outputs) == kept
    assert len(cell.outputs) == bool(kept)


def test_a_bar_in_a_notebook_is_not_drawn_as_an_error(capfd):
    list(progress_bar(range(3)))
    assert "100%|" in capfd.readouterr().err
    show = "from attnres_ref.training.progress import progress_bar as bar\n"
    notebook = v4.new_notebook(cells=[code(show + "for _ in bar('ab'): 0")])
    assert course.run(notebook, cells.ROOT) is None
    assert {out.name for out in notebook.cells[0].outputs} == {"stdout"}
