"""The ledger's tables, read as text, and what its rows are compared with. See
test_ledger_recomputed.py."""

import re
from typing import NamedTuple

from recomputed import MARGIN, NOTEBOOKS, UNTESTED, Gap, verdict

TEXT = (NOTEBOOKS / "README.md").read_text("utf-8")
ARMS = {
    "PreNorm": "prenorm", "Block AttnRes": "block", "Full AttnRes": "full",
    "ReZero": "rezero", "PreNorm, loud embedding": "loud", "mHC": "mhc",
    "input-independent mixing": "static", "DenseFormer": "denseformer",
    "input-dependent query": "input_query", "sigmoid": "sigmoid",
    "keys without RMSNorm": "raw_keys", "multihead": "multihead",
    "Block, keys without RMSNorm": "block_raw_keys", "sliding window": "window",
    "LayerScale": "layerscale", "Highway": "highway", "Full": "full", "Block": "block",
}
# The paper's losses, from its Tables 2 (largest models) and 4.
TABLE_2 = dict(prenorm=1.719, block=1.693, full=1.692, mhc=1.694)
TABLE_4 = dict(
    prenorm=1.766, denseformer=1.767, mhc=1.747, full=1.737, input_query=1.731,
    static=1.749, sigmoid=1.741, raw_keys=1.743, window=1.764, block=1.746,
    multihead=1.752, block_raw_keys=1.750,
)


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
    """What the row says otherwise. expected: by column a text, or a list of all numbers in
    it, and of some words."""
    found = []
    for column, value in expected.items():
        cell = row.cells[column]
        if column == "verdict":
            cell = re.sub(r"^\W+", "", cell).partition(":")[0]      # no mark, no reason
        if isinstance(value, str):
            same = cell == value
        else:
            words = [part for part in value if isinstance(part, str)]
            value = [part for part in value if part not in words]
            printed = numbers(cell)
            same = len(printed) == len(value) and all(map(shows, printed, value))
            same &= all(word in cell for word in words)
            value = [*words, *(f"{part:.5g}" for part in value)]
        if not same:
            found.append(f"{row.subject}: {row.claim}: {column} is {cell!r}, not {value}")
    return found


# ---- Their recomputations --------------------------------------------------------------


def registering(rows: list):
    """A decorator that adds (subject, pattern, function) to `rows`: the function recomputes
    the rows under that subject whose claim is the whole pattern, from the pattern's groups.
    It returns what the cells say, by column: a text, or the numbers in it, in order."""
    def row(subject: str, pattern: str):
        def register(function):
            rows.append((subject, pattern, function))
            return function

        return register

    return row


def the_papers(value: float | None, gap: Gap) -> str:
    """Its value, and whether our interval holds it."""
    if value is None:
        return ""
    low, high = gap.ends
    return f"{value:+.3f}, {'in' if low <= value <= high else 'out'}side"


def table_4(ours: str, baseline: str) -> float | None:
    named = {ours, baseline} <= TABLE_4.keys()
    return round(TABLE_4[ours] - TABLE_4[baseline], 3) if named else None


def table_2(ours: str, baseline: str) -> float:
    return round(TABLE_2[ours] - TABLE_2[baseline], 3)


def interval(gap, verdict: str, *before, paper=None) -> dict:
    """A row that says its mean last, and its spread as "+/- half (n seeds)"."""
    return {
        "the paper": the_papers(paper, gap), "here": [*before, gap.mean],
        "95 %": [gap.half, gap.n], "verdict": verdict,
    }


def of_losses(gap, side: int = -1, paper=None, *before) -> dict:
    return interval(gap, verdict(gap, side, 0, MARGIN), *before, paper=paper)


def nothing() -> dict:
    return {"here": [], "95 %": [], "verdict": UNTESTED}


NAME = "(" + "|".join(map(re.escape, sorted(ARMS, key=len, reverse=True))) + ")"
PAIR = f"{NAME} - {NAME}"
