"""Every row of the ledger, computed again from the records by code that shares nothing
with the code that wrote it: the tables as text, the JSON, numpy (recomputed.py), no more.

A recomputation is registered by what its rows say: the subject above the table, and a
pattern of the claim. A row without one fails, unless NOT_FROM_RECORDS gives the reason.
"""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import recomputed as again
import recomputed_costs
import recomputed_hybrid
import recomputed_insides
import recomputed_losses
from recomputed import HOLDS, OPEN, UNDUE, UNTESTED
from recomputed_rows import TEXT, Row, faults, numbers, rows, shows

ROWS = [
    *recomputed_losses.ROWS, *recomputed_insides.ROWS, *recomputed_costs.ROWS,
    *recomputed_hybrid.ROWS,
]
# Rows that do not rest on recorded runs, or on none yet.
NOT_FROM_RECORDS = {
    "nobody ran it": (
        r"Block's output magnitude repeats .*", r"Multihead on Block, 16 heads .*",
        r"Queries must start at zero .*", r"Some layers act as sinks .*",
        r"mHC moves 8m \+ 2 vectors .*", r"\d+ of 15 downstream scores .*",
        r".* at size \(Table 2\)",
    ),
    "counted or simulated by the package, not recorded; its own tests hold it": (
        r"(PreNorm|Block AttnRes|Full AttnRes) moves .* vectors per layer \(Table 1\)",
        r"Zero queries: AttnRes starts as PreNorm's .*", r"Block with S = 1 is Full .*",
        r"A cache takes the peak of .*", r"Algorithm 1 is exact .*", r"8 devices keep .*",
        r"and in chunks of 16K, .*", r"Eq\. [78] counts .*", r"Cached pipelines cost .*",
    ),
}
# Rows that ran otherwise than the paper has it: their numbers count, no verdict is due.
SET_OTHERWISE = r"(multihead|input-dependent query|mHC) - .*|window of 4, a quarter .*"


def recomputed(row: Row) -> dict | None:
    """What the one registered function that fits says of it; None if there is none."""
    found = [
        function(*match.groups()) for subject, pattern, function in ROWS
        if row.subject.startswith(subject) and (match := re.fullmatch(pattern, row.claim))
    ]
    assert len(found) < 2, f"{row.claim} is recomputed {len(found)} times"
    return found[0] if found else None


def excused(row: Row) -> str | None:
    """The reason why no record can say it again."""
    for reason, patterns in NOT_FROM_RECORDS.items():
        if any(re.fullmatch(pattern, row.claim) for pattern in patterns):
            return reason
    return None


LEDGER = rows(TEXT)


@pytest.mark.parametrize("row", LEDGER, ids=lambda row: row.claim)
def test_the_records_say_it_again(row):
    expected, reason = recomputed(row), excused(row)
    assert (expected is None) == (reason is not None), "recompute it, or say why not"
    if reason == "nobody ran it":
        expected = {"verdict": UNTESTED}
    if re.fullmatch(SET_OTHERWISE, row.claim):
        expected["verdict"] = UNDUE
    assert not faults(row, expected or {})


def test_what_is_registered_is_in_the_ledger():
    for subject, pattern, _ in ROWS:
        there = [row for row in LEDGER if row.subject.startswith(subject)]
        planned = subject.startswith("Side")           # as soon as there are runs
        assert planned or any(re.fullmatch(pattern, row.claim) for row in there), pattern
    excuses = [pattern for patterns in NOT_FROM_RECORDS.values() for pattern in patterns]
    for pattern in [*excuses, SET_OTHERWISE]:
        assert any(re.fullmatch(pattern, row.claim) for row in LEDGER), pattern


def test_no_primary_test_is_left_out():
    planned = recomputed_losses.WHODUNNIT + recomputed_losses.LASTING
    assert sum(row.subject.startswith("Primary") for row in LEDGER) == len(planned)


def test_every_verdict_is_one_that_is_explained():
    legend = re.findall(r"^\| (\W+ [\w ]+) \| ", TEXT.partition("<!-- ledger")[0], re.M)
    assert {row.cells["verdict"].partition(":")[0] for row in LEDGER} <= {*legend}


@pytest.mark.parametrize("column, digit", [
    ("here", r"\d$"), ("95 %", r"\d(?= seeds)"), ("95 %", r"\d(?= \()"),
    ("the paper", r"\d(?=,)"), ("the paper", "in|out"), ("verdict", "holds"),
])
def test_another_number_in_the_table_is_seen(column, digit):
    """In a row of Table 4: the difference, seeds, spread, the paper's value, words."""
    row = next(row for row in LEDGER if row.claim == "DenseFormer - Full AttnRes (Table 4)")
    assert not faults(row, recomputed(row))

    def other(match):
        return str(int(match[0]) ^ 1) if match[0].isdigit() else "no"

    changed, count = re.subn(digit, other, row.cells[column], count=1)
    wrong = row._replace(cells=row.cells | {column: changed})
    assert count == 1 and faults(wrong, recomputed(row))


@pytest.mark.parametrize("sweep, arms, subjects", [
    ("whodunnit", "prenorm block", ("Primary", "Side", "Dynamics")),
    ("residuals", "prenorm block", ("Tables",)), ("mixing", "prenorm mhc", ("Depth",)),
    ("scaling", "prenorm block", ("Scaling",)), ("puzzles", "prenorm full", ("The h",)),
    ("hybrid", "prenorm block", ("The hybrid",)), ("frozen", "block full", ("Side",)),
])
def test_swapped_labels_are_seen(sweep, arms, subjects, monkeypatch):
    """Two arms exchange what their records say they are."""
    said, (one, other) = again.records, arms.split()
    swapped = {one: other, other: one}
    if not said(sweep, "pointer_chasing" if sweep == "puzzles" else again.PYTHON):
        pytest.skip(f"{sweep} has not been recorded")

    def relabelled(run):
        residual = run["model"]["residual"]
        return run | {"model": run["model"] | {"residual": swapped.get(residual, residual)}}

    def records(name, *corpus):
        runs = said(name, *corpus)
        return [relabelled(run) for run in runs] if name == sweep else runs

    right = [row for row in LEDGER if not faults(row, recomputed(row) or {})]
    monkeypatch.setattr(again, "records", records)
    monkeypatch.setattr(again, "study", again.Study)               # without its cache
    wrong = [row.subject for row in right if faults(row, recomputed(row) or {})]
    for subject in subjects:
        assert any(other.startswith(subject) for other in wrong), subject


def test_records_are_named_for_what_they_hold():
    for sweep in ("whodunnit", "frozen", "horizon", "ablations", "rates", "start",
                  "residuals"):
        for run in again.records(sweep):
            assert run["name"].startswith(run["model"]["residual"] + "-"), run["name"]


def test_the_judged_runs_are_apart_from_those_that_tuned_them():
    """Fresh seeds, the other half, and one recipe an arm: the one of lowest mean loss among
    those that were tried on the most seeds."""
    tried = again.records("tuning") + again.records("finalists")
    judged, by_recipe = again.records("whodunnit"), {}

    def recipe(run):
        train = run["train"]
        return train["lr"], run["model"]["scaled_init"], train["warmup_steps"]

    for run in tried:
        arm = by_recipe.setdefault(run["model"]["residual"], {})
        arm.setdefault(recipe(run), []).append(again.loss(run))
    best = {
        arm: min(tried, key=lambda of: (-len(tried[of]), np.mean(tried[of])))
        for arm, tried in by_recipe.items()
    }
    assert all(recipe(run) == best[run["model"]["residual"]] for run in judged)
    assert {run["data"]["validation"] for run in tried} <= {"tuning"}
    assert {run["data"]["validation"] for run in judged} <= {"judging"}
    seeds = ({run["train"]["seed"] for run in runs} for runs in (tried, judged))
    assert not set.intersection(*seeds)


def test_frozen_weights_are_those_of_judged_models():
    judged = {run["name"]: run for run in again.records("whodunnit")}
    for run in again.records("frozen"):
        assert all(run[key] == judged[run["name"]][key] for key in ("model", "train"))


@pytest.mark.parametrize("df, t", [
    (1, 12.706), (2, 4.303), (4, 2.776), (8, 2.306), (26, 2.056), (60, 2.000),
])
def test_quantiles_are_those_of_printed_tables(df, t):
    assert again.quantile(0.95, df) == pytest.approx(t, abs=5e-4)
    assert again.Gap(t, 1.0, 1, df).p == pytest.approx(0.05, abs=5e-5)


@pytest.mark.parametrize("trained, untrained, change, verdict", [
    (HOLDS, OPEN, HOLDS, HOLDS), (HOLDS, HOLDS, OPEN, UNDUE), (HOLDS, OPEN, OPEN, OPEN),
])
def test_it_holds_only_by_training(trained, untrained, change, verdict):
    assert recomputed_insides.by_training(trained, untrained, change) == verdict


def test_nothing_here_calls_what_wrote_the_ledger():
    files = [Path(__file__), *Path(__file__).parent.glob("recomputed*.py")]
    trees = [ast.parse(file.read_text("utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = [name.name for node in nodes if isinstance(node, ast.Import)
               for name in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    own = {name for name in modules if name.startswith("recomputed")}
    others = {name.partition(".")[0] for name in modules} - own - sys.stdlib_module_names
    assert others == {"numpy", "pytest"} and len(own) == len(files) - 1


# ---- What is said around the tables ------------------------------------------------------


def test_the_shared_sd_is_the_studys():
    told = re.search(
        r"(\d+) arms at d=64 and 400 steps share an SD of ([\d.]+) for a pair \((\d+) "
        r"degrees of freedom\)\. (.*) scatter more", TEXT,
    )
    arms = again.study()
    assert all(map(shows, told.groups(), [arms.n_arms, arms.sd, arms.df]))
    assert told[4].count("`") == 2 * len(arms.apart)


def test_as_many_runs_are_there_as_it_says():
    for question, sweep, planned in ((1, "whodunnit", 27 * 6), (2, "horizon", 4 * 5 * 3)):
        said = f"Question {question}: .*{len(again.records(sweep))} of {planned} runs "
        assert re.search(said, TEXT)


def test_our_rows_beside_the_replications():
    told = re.findall(r"^\| this course, (.*) \|$", TEXT, re.M)
    for cells in (line.split(" | ") for line in told):
        steps = re.search(r"(\d+) steps", cells[0])
        fields = dict(steps=int(steps[1])) if steps else {}
        sweep, arms = ("horizon", again.SIX[:3]) if steps else ("whodunnit", again.SIX)
        runs = again.whole(sweep, arms, **fields)
        gaps = [again.student(again.paired(again.loss, runs[arm], runs["prenorm"]))
                for arm in ("block", "full")]
        expected = [number for gap in gaps for number in (gap.mean, gap.half)]
        assert all(map(shows, numbers(cells[-1]), expected)) and len(expected) == 4
        assert cells[3] == f"{gaps[0].n}, paired"
