"""Exercise 05.5 ends in a call that "Run all" does not make: it trains what it is given."""

import re
from dataclasses import replace

import cells
from attnres_ref.streams import STREAMS
from attnres_ref.training.presets import PRESETS
from tiny_data import python_sources


def test_the_readers_stream_is_trained_beside_its_two_parents(monkeypatch, capsys):
    notebook = cells.read(next(p for p in cells.notebooks() if p.name.startswith("05")))
    (exercise,) = (e for e in cells.exercises(notebook) if e.name == "05.5")
    (source,) = (c.source for c in notebook.cells if "def train_both" in c.source)
    short = replace(PRESETS["ci"].train, steps=6, warmup_steps=1, eval_every=3)
    preset = replace(PRESETS["ci"], train=short)
    monkeypatch.chdir(cells.ROOT / "notebooks")
    namespace = {"preset": preset, "corpus": python_sources()}
    exec("\n".join([exercise.imports, source, exercise.solution]), namespace)
    try:
        namespace["train_both"](namespace["LoudFull"], -0.04, seeds=(0, 1))
        made = STREAMS["both"](preset.lm("both"), None)
    finally:
        STREAMS.pop("both", None)
    assert type(made) is namespace["LoudFull"] and made.queries.shape == (9, 32)
    gaps = dict(re.findall(r"^both - (\w+): ([-+.\d ]+)$", capsys.readouterr().out, re.M))
    found = {name: [float(x) for x in text.split()] for name, text in gaps.items()}
    assert {name: len(pair) for name, pair in found.items()} == {"full": 2, "loud": 2}
    assert all(abs(x) < 0.5 for pair in found.values() for x in pair) and any(found["full"])
