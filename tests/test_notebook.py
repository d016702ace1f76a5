"""attnres_ref.notebook: the banner, recorded runs and the folder for checkpoints."""

import ast

import pytest
import torch

import cells
import devices
import lint
import small
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
    assert minutes.keys() == presets.PRESETS.keys()
    assert notebook.start(minutes) is presets.PRESETS["t4"]
    banner = capsys.readouterr().out
    assert banner.startswith("Tesla T4 | torch 2.") and "| float16 | preset t4 |" in banner
    assert banner.endswith(f"| about {minutes['t4']:g} min\n")


@pytest.mark.parametrize("folder", ["here", "here/notebooks", "checkout/notebooks"])
def test_recorded_reads_here_and_in_the_checkout(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(notebook, "ROOT", tmp_path / "checkout")
    (tmp_path / folder / "recorded").mkdir(parents=True)
    (tmp_path / folder / "recorded" / "sweep.json").write_text('{"loss": 1.5}')
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    assert notebook.recorded("sweep") == {"loss": 1.5}
    with pytest.raises(FileNotFoundError, match="no recorded run 'swep'.*: sweep"):
        notebook.recorded("swep")


def test_trained_leaves_a_run_that_later_notebooks_load(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNRES_CACHE_DIR", str(tmp_path))
    corpus = small.corpus()
    others = Corpus("others", 255 - corpus.tokens)
    recipe = TrainConfig(steps=2, batch_size=2, eval_windows=2)
    size = presets.Preset("tiny", dict(d_model=8, n_layers=2, n_heads=2, context=8), recipe)
    first = notebook.trained(size, "block", corpus, block_size=1)
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    again = notebook.trained(size, "block", corpus, block_size=1)
    assert again.metrics == first.metrics
    assert small.same_weights(again.model, first.model)
    for text, block_size in (corpus, 2), (others, 1):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            notebook.trained(size, "block", text, block_size=block_size)
    monkeypatch.setattr(notebook, "TRAINED_CODE", ("model.py",))       # as if edited
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        notebook.trained(size, "block", corpus, block_size=1)
