"""attnres_ref.notebook: the banner, recorded runs and the folder for checkpoints."""

import ast
import json

import pytest
import torch

import cells
import devices
import lint
from attnres_ref import notebook
from attnres_ref.training import TrainConfig, Trainer, presets
from tiny_data import Corpus


def test_start_prints_one_line_and_returns_the_preset(monkeypatch, capsys):
    monkeypatch.setenv("ATTNRES_PRESET", "ci ")  # as `set ATTNRES_PRESET=ci && ...` does
    assert notebook.start({"ci": 0.5, "cpu": 8}) is presets.PRESETS["ci"]
    line, = capsys.readouterr().out.splitlines()
    for part in ("torch 2.", "preset ci", "about 0.5 min", "float"):
        assert part in line
    assert "/" not in line


@pytest.fixture
def t4(monkeypatch):
    """What torch says on a free Colab GPU."""
    monkeypatch.delenv("ATTNRES_PRESET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")


@pytest.mark.parametrize("path", cells.notebooks(), ids=lambda path: path.name)
def test_the_banner_of_each_notebook_on_a_t4(t4, path, capsys):
    (_, call), = devices.calls(lint.Page(path), "start")
    minutes = ast.literal_eval(call.args[0])
    assert notebook.start(minutes) is presets.PRESETS["t4"]
    banner = capsys.readouterr().out
    assert banner.startswith("Tesla T4 | torch 2.") and "| float16 | preset t4 |" in banner
    assert banner.endswith(f"| about {minutes['t4']:g} min\n")


def test_the_rules_know_the_presets():
    assert set(presets.PRESETS) == devices.PRESETS


@pytest.mark.parametrize("folder", ["recorded", "notebooks/recorded"])
def test_recorded_reads_near_the_current_folder(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "run.json").write_text(json.dumps({"loss": 1.5}))
    monkeypatch.chdir(tmp_path)
    assert notebook.recorded("run") == {"loss": 1.5}


def test_recorded_reads_in_the_checkout_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    (tmp_path / "notebooks/recorded").mkdir(parents=True)
    (tmp_path / "notebooks/recorded/run.json").write_text("{}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert notebook.recorded("run") == {}


def test_recorded_lists_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recorded").mkdir()
    (tmp_path / "recorded" / "sweep.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no recorded run 'swep'.*: sweep"):
        notebook.recorded("swep")


def test_trained_leaves_a_run_that_later_notebooks_load(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNRES_CACHE_DIR", str(tmp_path))
    text = torch.randint(256, (500,), generator=torch.Generator().manual_seed(0))
    corpus = Corpus("random bytes", text.to(torch.uint8))
    recipe = TrainConfig(steps=2, batch_size=2, eval_windows=2)
    size = presets.Preset("tiny", dict(d_model=8, n_layers=2, n_heads=2, context=8), recipe)
    first = notebook.trained(size, "block", corpus, block_size=1)
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    again = notebook.trained(size, "block", corpus, block_size=1)
    assert again.metrics == first.metrics
    for ours, theirs in zip(again.model.parameters(), first.model.parameters()):
        assert torch.equal(ours, theirs)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        notebook.trained(size, "block", corpus, block_size=2)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        notebook.trained(size, "block", Corpus("others", 255 - corpus.tokens), block_size=1)
    monkeypatch.setattr(notebook, "TRAINED_CODE", ("model.py",))       # as if edited
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        notebook.trained(size, "block", corpus, block_size=1)
