"""The ledger is fresh and whole, with all runs of the plan or with none."""

import inspect
import re
from functools import cache

import pytest

import cells
import claims
import claims_ablations
import claims_primary
import figures
import headlines
import judging
import ledger
import plan
import replications
from attnres_ref.study import compare, intervals, paper
from judging import NONE, UNTESTED


def test_the_ledger_is_fresh():
    text = ledger.README.read_text(encoding="utf-8")
    assert ledger.fresh(text) == text, "stale: run python notebooks/recording/ledger.py"


def numbers_beside(told, lines):
    """Numbers with decimals that a text has beside these lines, all of which it has."""
    told = " ".join(told.split())
    for line in lines:
        assert line in told, "see recording/headlines.py"
        told = told.replace(line, "")
    return re.findall(r".{,30}\d\.\d.{,9}", told)


def test_the_page_of_results_says_what_the_records_say():
    told = (cells.ROOT / "notebooks" / "results.md").read_text(encoding="utf-8")
    assert numbers_beside(told, [*headlines.lines(), *headlines.NOT_RECORDED]) == []


def test_the_readme_has_three_results_with_the_records_numbers():
    text = (cells.ROOT / "README.md").read_text(encoding="utf-8")
    told = text.partition("## What we measured")[2].partition("\n## ")[0]
    assert len(re.findall("^- ", told, re.MULTILINE)) == 3
    assert numbers_beside(told, headlines.front()) == []


@pytest.mark.parametrize("path", cells.notebooks(), ids=lambda path: path.name[:2])
def test_losses_in_prose_are_printed_or_the_papers(path):
    notebook = cells.read(path)
    printed = "".join(str(cell.get("outputs")) for cell in notebook.cells)
    page = cells.ROOT / "notebooks" / "guide" / f"{path.name[:2]}.md"
    told = cells.prose(notebook) + page.read_text(encoding="utf-8")
    losses = re.findall(r"(?<![\d.])\d\.\d{3}(?!\d)", told)
    known = "".join(map(inspect.getsource, (paper, compare, intervals)))
    rate = "0.001"                                         # in notebook 04
    assert not [loss for loss in losses if loss not in printed + known + rate]


@cache
def all_rows():
    return [row for parts in ledger.SUBJECTS.values() for row in ledger.rows(parts)]


def test_every_row_fits_the_table_and_its_verdict_is_a_word_with_a_mark():
    for row in all_rows():
        assert not any("|" in cell or "\n" in cell for cell in row), row
        word, _, why = row.verdict.partition(": ")
        assert word in judging.MARKS and bool(why) == (word == NONE), row
        assert row.spread or word == UNTESTED, row
    assert judging.marked(f"{NONE}: it diverges") == f"🟪 {NONE}: it diverges"
    assert len({*judging.MARKS.values()}) == len(judging.MARKS)
    with pytest.raises(KeyError):
        judging.marked("maybe")


@pytest.mark.parametrize("seeds, tested", [(0, 0), (1, 0), (4, 5)])
def test_with_some_runs_or_none_the_ledger_says_how_many_and_how_it_goes_on(
    seeds, tested, monkeypatch
):
    runs = recorded_form(seeds)
    monkeypatch.setattr(plan, "runs", lambda sweep: runs if sweep == "whodunnit" else [])
    text, record = ledger.primary_tests(), "python notebooks/recording/record.py"
    assert f"{len(runs)} of 162 runs are there; `{record} tuning` then" in text
    assert "not tested yet: 0 of 60 runs are there" in text
    assert f"`{record} horizon_rates` then `{record} horizon` goes on" in text
    assert text.count(judging.marked(UNTESTED)) == 7 - tested
    remarks = [*claims_primary.side_gaps()]
    assert len(remarks) == (len(claims_primary.SIDE) if tested else 0)
    assert {row.verdict for row in claims_primary.horizon_changes([])} == {UNTESTED}
    others = [*replications.replications()][len(replications.PUBLISHED):]
    assert len(others) == (1 if tested else 0)


def recorded_form(seeds):
    """Made-up runs of all arms at the size that plan.py has."""
    return [
        dict(
            name=f"{arm}-seed{seed}", parameters=4e5, val_loss=1.8 + 0.01 * seed * i,
            model=dict(residual=arm, context=128),
            train=dict(seed=seed, steps=400, batch_size=8),
        )
        for i, arm in enumerate(plan.ARMS) for seed in range(seeds)
    ]


def test_the_ledgers_rows_of_the_study_share_one_sd():
    pool = claims_ablations.pool()
    rows = [*claims_ablations.table_4(), *claims_ablations.recipe()]
    shared = [row for row in rows if row.gap.df == pool.df]
    assert {row.gap.sd for row in shared} == {pool.sd}
    others = [row.claim for row in rows if row not in shared]
    known = ("window", "input-dependent query", "d=128")
    assert others and all(any(word in claim for word in known) for claim in others)
    for arm in pool.apart:
        assert f"`{arm}`" in claims_ablations.spreads()


def test_the_readmes_figure_has_the_five_tests_alone():
    rows = figures.front()
    assert [(row.label, row.gap) for row in rows] == [
        (test.name, test.gap) for test in claims_primary.whodunnit()
    ]
    assert [row.style for row in rows] == ["block", "full", "full", "full", "full"]
    assert not any(row.paper for row in rows)


def test_the_figure_has_every_difference_of_the_ledger_and_primary_tests_first():
    rows = figures.differences()
    assert rows[0].gap is None and rows[0].label.startswith("Primary tests. Question 1")
    drawn = {row.label: f"{row.gap.mean:+.3f}" for row in rows if row.gap}
    gaps = [*claims_primary.side_gaps(), *claims_ablations.table_2(),
            *claims_ablations.table_4(), *claims_ablations.recipe()]
    assert {gap.claim: gap.row().ours for gap in gaps}.items() <= drawn.items()
    told = {row.claim: row.ours for row in all_rows()}
    assert {gap.claim: gap.row().ours for gap in gaps}.items() <= told.items()


def test_the_page_explains_every_verdict():
    text = ledger.README.read_text(encoding="utf-8").partition(ledger.LEDGER[0])[0]
    explained = re.findall(r"^\| (\S+) ([a-z ]+) \|", text, re.MULTILINE)
    assert {word: mark for mark, word in explained if mark in judging.MARKS.values()} == (
        judging.MARKS
    )
    told = " ".join(text.split())
    assert f"margin of ±{plan.MARGIN:g} nats" in told
    assert f"those below {plan.ALPHA:g} are called" in told


def test_only_the_part_between_the_markers_changes():
    begin, end = ledger.LEDGER
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    once = ledger.rewritten(text, "| new |")
    assert once == f"before\n{begin}\n\n| new |\n\n{end}\nafter\n"
    assert ledger.rewritten(once, "| new |") == once


@pytest.mark.parametrize("text", ["nothing", f"{ledger.LEDGER[0]} no end"])
def test_a_lost_marker_is_an_error(text):
    with pytest.raises(ValueError):
        ledger.rewritten(text, "| new |")


def test_runs_are_paired_by_seed():
    def runs(*seeds):
        return [dict(train=dict(seed=seed), val_loss=2.0 + seed) for seed in seeds]

    assert judging.between(claims.loss, runs(0, 1), runs(0, 1)) == [0.0, 0.0]
    with pytest.raises(ValueError, match="no pairs"):
        judging.between(claims.loss, runs(0, 1), runs(0, 2))
