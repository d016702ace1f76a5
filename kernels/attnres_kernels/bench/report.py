"""What a record of attnres_kernels.bench says: a table of ratios, a roofline plot."""

from attnres_ref import plots


def floor(part: str, n: int) -> int:
    """Passes over [T, d] that a read of n sources cannot do without."""
    return {"forward": n + 1, "backward": 2 * n + 1}[part]


def gb_per_s(part, n, T, d, ms, n_bytes=2) -> float:
    """The floor's bytes over the time: no contender can exceed the copy bandwidth."""
    return floor(part, n) * T * d * n_bytes / (ms * 1e6)


def joined(records: list[dict]) -> dict:
    """The records of several T as one."""
    rows = [row for record in records for row in record["rows"]]
    missing = {name: why for record in records for name, why in record["missing"].items()}
    return records[0] | dict(rows=rows, missing=missing)


def table(record: dict) -> str:
    """Ours against the best other contender, cell by cell."""
    lines = [
        f"{record['device']}, copy {record['copy_gb_per_s']:.0f} GB/s",
        "part        n     T     d   ours ms  of copy  best other",
    ]
    cells = {}
    for row in record["rows"]:
        key = row["part"], row["n"], row["T"], row["d"]
        cells.setdefault(key, {})[row["contender"]] = row
    for (part, n, T, d), others in sorted(cells.items(), reverse=True):
        if "ours" not in others:
            continue                       # it is among the missing, with its reason
        mine = others.pop("ours")
        line = (f"{part:9s}{n:4d}{T:6d}{d:6d}{mine['ms'][1]:10.4f}"
                f"{mine['gb_per_s'] / record['copy_gb_per_s']:9.0%}")
        if others:
            best = min(others, key=lambda name: others[name]["ms"][1])
            line += f"  {others[best]['ms'][1] / mine['ms'][1]:.2f}x our time, {best}"
        lines.append(line)
    lines += [f"whole model, {name}: {ratio:.3f}x PreNorm"
              for name, ratio in record.get("model", {}).items()]
    lines += [f"not measured: {name}: {why}" for name, why in record["missing"].items()]
    return "\n".join(lines)


def roofline(record: dict):
    """Bytes of the floor per second, by bytes of the floor; the line is a plain copy."""
    figure, axes = plots.axes(f"One read on {record['device']}", "bytes it must move (MB)",
                              "those bytes / time (GB/s)", width=8)
    names = list(dict.fromkeys(row["contender"] for row in record["rows"]))
    for name, marker in zip(names, "osv^D<>Phx*"):
        for part, filled in (("forward", True), ("backward", False)):
            rows = [row for row in record["rows"]
                    if (row["contender"], row["part"]) == (name, part)]
            moved = [floor(part, r["n"]) * r["T"] * r["d"] * 2 / 1e6 for r in rows]
            colour = "#D55E00" if name == "ours" else plots.GREY
            axes.scatter(moved, [r["gb_per_s"] for r in rows], s=22, marker=marker,
                         edgecolors=colour, facecolors=colour if filled else "none",
                         label=f"{name}, {part}" if rows else None)
    axes.axhline(record["copy_gb_per_s"], color="black", linewidth=1, label="copy")
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
