"""Which launch options the sweep found best, for each width and part of the read."""

import statistics
from collections.abc import Sequence

from attnres_kernels.bench.gate import LIMIT


def choose(rows: Sequence[dict], now: dict) -> list[dict]:
    """The sweep's rows -> one row for each width and part, where some options have a time
    at every depth at which others have one:

        d, part, warps, stages   with the least time, in the geometric mean over the depths
        today, today_ratio       [warps, stages] of today and their time by the best's, the
                                 ratio None if they have no time at some depth
        ring                     None, or warps of the one-read backward and its time by the
                                 best's, {warps, ratio}, at the depths where it ran

    now: today's options by part, as a list of [widest d, [warps, stages]]. A ring whose
    gradients are wrong is not looked at.
    """
    chosen = []
    for d, part in sorted({(row["d"], row["part"]) for row in rows}):
        here = [row for row in rows if (row["d"], row["part"]) == (d, part) and "ms" in row]
        rings = times(row for row in here if is_ring(row) and is_right(row))
        loops = times(row for row in here if not is_ring(row))
        depths = set().union(*loops.values())
        means = {options: statistics.geometric_mean(ms.values())
                 for options, ms in loops.items() if ms.keys() == depths}
        if means:
            best = min(means, key=means.get)
            today = next((tuple(o) for width, o in now.get(part, []) if d <= width), None)
            ratio = means[today] / means[best] if today in means else None
            chosen.append(dict(
                d=d, part=part, warps=best[0], stages=best[1], today=today,
                today_ratio=ratio, ring=fastest_ring(rings, loops[best]),
            ))
    return chosen


def times(rows) -> dict[tuple, dict[int, float]]:
    """Median milliseconds by (warps, stages), of a ring (warps, None), and by depth."""
    found = {}
    for row in rows:
        found.setdefault((row["warps"], row.get("stages")), {})[row["n"]] = row["ms"][1]
    return found


def is_ring(row: dict) -> bool:
    return row.get("kind") == "ring"


def is_right(row: dict) -> bool:
    return all(error <= LIMIT for error in row.get("gate", {}).values())     # nor NaN


def fastest_ring(rings: dict, best: dict[int, float]) -> dict | None:
    """Of the rings' times, and those of the best other options by depth."""
    ratios = {
        warps: statistics.geometric_mean(ms[n] / best[n] for n in ms)
        for (warps, _), ms in rings.items() if ms.keys() <= best.keys()
    }
    if not ratios:
        return None
    warps = min(ratios, key=ratios.get)
    return dict(warps=warps, ratio=ratios[warps])
