"""The table of set-ups in notebooks/README.md says what the records and presets say."""

import json
import re
from dataclasses import asdict, replace
from functools import cache

import pytest
import torch

import cells
import plan
from attnres_ref import LM, LMConfig
from attnres_ref.training.presets import PRESETS

FOLDER = cells.ROOT / "notebooks"
TEXTS = {
    "Python sources": "python_sources", "TinyShakespeare": "tinyshakespeare",
    "pointers": "pointer_chasing", "sums": "chained_addition",
}
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PART = re.search(r"^## Set-ups\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PART.splitlines() if line.startswith("|")
][2:]
NAMES = [re.sub(r"[*`]", "", row[0]) for row in ROWS]


def named(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@cache
def trained(name: str) -> dict[str, list[dict]]:
    """A record's runs by their text; none for what is no record of training."""
    content = json.loads((FOLDER / "recorded" / f"{name}.json").read_text(encoding="utf-8"))
    runs = {text: content[text] for text in TEXTS.values() if text in content}
    if name.startswith("horizon"):                   # its runs are still coming
        runs = {plan.CORPUS: runs[plan.CORPUS] + planned(name)}
    return {text: found for text, found in runs.items() if found}


def planned(name: str) -> list[dict]:
    """Which rate is the best of a length is not planned, so all of them are here."""
    trials = plan.horizon_rates()
    if name == "horizon":
        windows = plan.JUDGING_WINDOWS
        trials = [
            replace(t, train=replace(t.train, seed=seed, eval_windows=windows))
            for t in trials for seed in plan.HORIZON_SEEDS
        ]
    return [dict(model=asdict(t.model), train=asdict(t.train)) for t in trials]


def of_preset(name: str) -> list[dict]:
    preset = PRESETS[name]
    return [dict(model=asdict(preset.lm("prenorm")), train=asdict(preset.train))]


def parameters(run: dict) -> int:
    """As recorded; of a run that is planned, or a record without, counted."""
    return run.get("parameters") or counted(LMConfig(**run["model"]))


@cache
def counted(config: LMConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LM(config).parameters())


def runs_of(row: list[str]) -> list[dict]:
    """Those of the presets and records that it names, on the texts that it names."""
    texts = [TEXTS[text] for text in row[2].split(", ")]
    runs = [run for name in named(row[0]) for run in of_preset(name)]
    for name in named(row[1]):
        runs += [run for text in texts for run in trained(name).get(text, [])]
    return runs


def span(values, one=lambda value: f"{value:,}") -> str:
    few = sorted(set(values))
    if len(few) < 3:
        return " or ".join(map(one, few))
    return f"{one(few[0])} to {one(few[-1])}"


def seeds(runs: list[dict]) -> set[int]:
    """The seeds that all of the three residuals, or those of them that ran, have."""
    of = {}
    for run in runs:
        seed = run.get("seed", run["train"]["seed"])
        of.setdefault(run["model"]["residual"], set()).add(seed)
    return set.intersection(*of.values())


def told(runs: list[dict]) -> list[str]:
    """The cells from the model to the windows."""
    def values(part: str, key: str) -> list:
        return [run[part][key] for run in runs]

    sizes = sorted(map(parameters, runs))
    sizes = dict.fromkeys(f"{size / 1e6:.2f}" for size in (sizes[0], sizes[-1]))
    start = span(values("model", "scaled_init"), lambda scaled: ("plain", "scaled")[scaled])
    return [
        f"{span(values('model', 'd_model'))}; {span(values('model', 'n_layers'))}; "
        f"{span(values('model', 'n_heads'))}; {' to '.join(sizes)} M",
        f"{span(values('train', 'steps'))} of {span(values('train', 'batch_size'))} × "
        f"{span(values('model', 'context'))}",
        f"{span(values('train', 'lr'))}, {start}, {span(values('train', 'warmup_steps'))}",
        str(len(seeds(runs))),
        span(run.get("windows", run["train"]["eval_windows"]) for run in runs),
    ]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_says_what_its_runs_were(row):
    assert row[3:8] == told(runs_of(row))


def test_every_record_of_training_and_every_preset_has_its_row():
    paths = sorted((FOLDER / "recorded").glob("*.json"))
    there = [(p.stem, text) for p in paths for text in trained(p.stem)]
    listed = [(name, TEXTS[text]) for row in ROWS for name in named(row[1])
              for text in row[2].split(", ") if TEXTS[text] in trained(name)]
    assert sorted(listed) == sorted(there)
    assert sorted(n for row in ROWS for n in named(row[0])) == sorted(PRESETS)


def test_a_row_lists_the_notebooks_that_read_its_records():
    code = {
        path.name[:2]: "".join(
            c.source for c in cells.read(path).cells
            if c.cell_type == "code" and "recorded(" in c.source
        )
        for path in cells.notebooks()
    }
    for row in ROWS:
        if names := named(row[1]):
            quoted = re.compile(rf"""["']({"|".join(names)})["']""")
            readers = [number for number, text in code.items() if quoted.search(text)]
            assert row[8] == (", ".join(readers) or "none"), row[0]
