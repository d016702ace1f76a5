"""Notebook 09's record of the read by warps agrees with the table of the kernels."""

import json

import cells


def rows(name):
    path = cells.ROOT / "notebooks" / "recorded" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_what_both_records_hold_is_equal():
    table = {("addresses" if row["kernel"] == "forward" else row["kernel"], row["n"],
              row["d"], row["warps"]): row for row in rows("ahead") if row["target"] == "sm_90"}
    both = 0
    for row in rows("warps"):
        key = row["kernel"], row["n"], row["d"], row["warps"]
        if key in table:
            both += 1
            assert table[key] | dict(kernel=row["kernel"]) == row
    assert both == 8                       # forward and backward, two depths and widths
