"""Every row of the ledger, computed again from the records by code that shares nothing
with the code that wrote it: the tables as text, the JSON, numpy (recomputed.py), no more.

A recomputation is registered by what its rows say: the subject above the table, and a
pattern of the claim. A row without one fails, unless NOT_FROM_RECORDS gives the reason.
"""

import re
from typing import NamedTuple

import pytest

import recomputed_losses
import recomputed_others
from recomputed import NOTEBOOKS, UNDUE, UNTESTED

ROWS = recomputed_losses.ROWS + recomputed_others.ROWS
TEXT = (NOTEBOOKS / "README.md").read_text("utf-8")
# Rows that do not rest on recorded runs, or on none yet.
NOT_FROM_RECORDS = {
    "nobody ran it": (
        r"Block's output magnitude repeats .*", r"Multihead on Block, 16 heads .*",
        r"Queries must start at zero .*", r"Some layers act as sinks .*",
        r"mHC moves 8m \+ 2 vectors .*", r"\d+ of 15 downstream scores .*",
        r".* at size \(Table 2\)",
        r"AttnRes gains at every shape of 230M .*", r"The best share of heads, .*",
    ),
    "counted or simulated by the package, not recorded; its own tests hold it": (
        r"(PreNorm|Block AttnRes|Full AttnRes) moves .* vectors per layer \(Table 1\)",
        r"Algorithm 1 is exact .*", r"8 devices keep .*", r"and in chunks of 16K, .*",
        r"Eq\. [78] counts .*", r"Cached pipelines cost .*",
    ),
}
# Rows that ran otherwise than the paper has it: their numbers count, no verdict is due.
SET_OTHERWISE = r"(multihead|input-dependent query|mHC) - .*|window of 4, a quarter .*"


# ---- The tables, read as text ------------------------------------------------------------


class Row(NamedTuple):
    subject: str                   # the heading above its table
    claim: str
    cells: dict[str, str]          # by column, without the claim


def rows(text: str) -> list[Row]:
    """Of all tables between the markers."""
    found, subject, columns = [], "", None
    begin, end = "<!-- ledger: written by recording/ledger.py -->", "<!-- end of the ledger"
    for line in text.partition(begin)[2].partition(end)[0].splitlines():
        if not line.startswith("| "):
            subject = line.lstrip("# ") if line.startswith("#") else subject
            columns = None
            continue
        claim, *cells = (cell.strip() for cell in line[1:-1].split(" | "))
        if columns is None:
            columns = cells
        elif set(claim) != {"-"}:
            if claim.startswith("and gains"):          # it goes on with the row above
                claim = f"{found[-1].claim.partition(' is ')[0]} {claim}"
            found.append(Row(subject, claim, dict(zip(columns, cells, strict=True))))
    return found


def numbers(cell: str) -> list[str]:
    return re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d+)?", cell)


def shows(printed: str, number: float) -> bool:
    """Is this the number, rounded to as many decimals as are printed?"""
    if isinstance(number, int):
        return printed == str(number)
    decimals = len(printed.partition(".")[2])
    return abs(float(printed) - number) <= 0.5 * 10**-decimals * (1 + 1e-9)


def faults(row: Row, expected: dict) -> list[str]:
    """What the row says otherwise. expected: by column a text, or the numbers in it."""
    found = []
    for column, value in expected.items():
        cell = row.cells[column]
        if column == "verdict":
            cell = re.sub(r"^\W+", "", cell).partition(":")[0]      # no mark, no reason
        if isinstance(value, str):
            same = cell == value
        else:
            printed = numbers(cell)
            same = len(printed) == len(value) and all(map(shows, printed, value))
        if not same:
            found.append(f"{row.subject}: {row.claim}: {column} is {cell!r}, not {value}")
    return found


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
