"""Notebook 09's record of the read by warps agrees with the table of the kernels."""

import json

import cells


def by_cell(name):
    path = cells.ROOT / "notebooks" / "recorded" / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["target"] == "sm_90"]
    return {(row.pop("kernel"), row["n"], row["d"], row["warps"]): row for row in rows}


def test_what_both_records_hold_is_equal():
    """Forward and backward, as they are launched, at two depths and widths."""
    table, by_warps = by_cell("ahead"), by_cell("warps")
    for kernel, there in (("addresses", "forward"), ("backward", "backward")):
        shared = {cell for cell in by_warps if (there, *cell[1:]) in table}
        shared = {cell for cell in shared if cell[0] == kernel}
        assert len(shared) == 4
        for cell in shared:
            assert by_warps[cell] == table[there, *cell[1:]]
