"""The ledger is fresh, and its verdicts follow the intervals."""

import inspect
import re

import pytest

import cells
import claims
import headlines
import judging
import ledger
from attnres_ref.study import compare, paper


def test_the_ledger_is_fresh():
    text = ledger.README.read_text(encoding="utf-8")
    fresh = ledger.rewritten(text, ledger.table())
    assert fresh == text, "stale: run python notebooks/recording/ledger.py"


def test_what_the_readme_says_we_measured_is_what_the_records_say():
    text = (cells.ROOT / "README.md").read_text(encoding="utf-8")
    told = " ".join(text.partition("## What we measured")[2].partition("\n## ")[0].split())
    for line in [*headlines.lines(), *headlines.NOT_RECORDED]:
        assert line in told, "see recording/headlines.py"
        told = told.replace(line, "")
    assert not re.findall(r".{,30}\d\.\d.{,9}", told), "numbers that no record is asked for"


@pytest.mark.parametrize("path", cells.notebooks(), ids=lambda path: path.name[:2])
def test_losses_in_prose_are_printed_or_the_papers(path):
    notebook = cells.read(path)
    printed = "".join(str(cell.get("outputs")) for cell in notebook.cells)
    page = cells.ROOT / "notebooks" / "guide" / f"{path.name[:2]}.md"
    told = cells.prose(notebook) + page.read_text(encoding="utf-8")
    losses = re.findall(r"(?<![\d.])\d\.\d{3}(?!\d)", told)
    known = inspect.getsource(paper) + inspect.getsource(compare)
    rate = "0.001"                                         # in notebook 04
    assert not [loss for loss in losses if loss not in printed + known + rate]


@pytest.mark.parametrize("low, high, below, expected", [
    (-0.2, -0.1, True, judging.HOLDS),
    (-0.2, -0.1, False, judging.FAILS),
    (0.1, 0.2, True, judging.FAILS),
    (0.1, 0.2, False, judging.HOLDS),
    (-0.1, 0.2, True, judging.OPEN),
    (-0.1, 0.0, True, judging.OPEN),
])
def test_a_verdict_needs_the_whole_interval(low, high, below, expected):
    assert judging.verdict(low, high, below) == expected


def test_a_row_shows_mean_and_spread():
    row = judging.judged("growth", "ratio", [1.5, 1.6, 1.7], below=False, limit=1.0)
    assert row == ("growth", "ratio 1.600", "+/- 0.248 (3 seeds)", judging.HOLDS)


def test_only_the_part_between_the_markers_changes():
    text = f"before\n{ledger.BEGIN}\nold\n{ledger.END}\nafter\n"
    once = ledger.rewritten(text, "| new |")
    assert once == f"before\n{ledger.BEGIN}\n\n| new |\n\n{ledger.END}\nafter\n"
    assert ledger.rewritten(once, "| new |") == once


@pytest.mark.parametrize("text", ["nothing", f"{ledger.BEGIN} no end"])
def test_a_lost_marker_is_an_error(text):
    with pytest.raises(ValueError):
        ledger.rewritten(text, "| new |")


def test_runs_are_paired_by_seed():
    def runs(*seeds):
        return [dict(train=dict(seed=seed), val_loss=2.0 + seed) for seed in seeds]

    assert judging.between(claims.loss, runs(0, 1), runs(0, 1)) == [0.0, 0.0]
    with pytest.raises(ValueError, match="no pairs"):
        judging.between(claims.loss, runs(0, 1), runs(0, 2))
