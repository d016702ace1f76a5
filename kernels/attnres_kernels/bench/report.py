"""What the stages' records say together: one record, a table of ratios, a roofline plot."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attnres_kernels.bench.gate import LIMIT
from attnres_kernels.bench.report_training import agreement, notebooks, training

SAME = ("device", "dry", "python", "torch", "triton", "commit")


def floor(part: str, n: int) -> int:
    """Passes over [T, d] that a read of n sources cannot do without."""
    return {"forward": n + 1, "backward": 2 * n + 1}[part]


def bytes_per_s(passes: int, T: int, d: int, ms: float, n_bytes: int = 2) -> float:
    """GB/s of so many passes over [T, d] in ms milliseconds."""
    return passes * T * d * n_bytes / (ms * 1e6)


def gb_per_s(part, n, T, d, ms, n_bytes=2) -> float:
    """The floor's bytes over the time, to be compared with the bandwidth of a copy."""
    return bytes_per_s(floor(part, n), T, d, ms, n_bytes)


def read(out: Path) -> list[dict]:
    """The stages' records in a folder, in the order of their names. Raises ValueError for
    a folder without any."""
    records = [json.loads(path.read_text(encoding="utf-8"))
               for path in sorted(Path(out).glob("*.json"))]
    records = [record for record in records if "stage" in record]
    if not records:
        raise ValueError(f"{out} holds no record of a stage: run the benchmark with --out")
    return records


def joined(records: list[dict]) -> dict:
    """One record: what all have in common, and the rest by stage. A stage of code that was
    not committed makes it dirty. Raises ValueError for records of several machines or
    versions of the code, which must not be compared."""
    for key in SAME:
        if len(values := {record[key] for record in records}) > 1:
            raise ValueError(
                f"the records differ in {key}: {sorted(map(str, values))}; run the "
                "benchmark with another --out"
            )
    common = {key: records[0][key] for key in SAME}
    edited = [record["dirty"] for record in records]         # None without a checkout
    common["dirty"] = any(edited) or edited[0]
    stages = {
        record["stage"]: {k: v for k, v in record.items() if k not in (*common, "stage")}
        for record in records
    }
    copies = [row["copy_gb_per_s"] for row in rows_of(dict(stages=stages), "environment")
              if "copy_gb_per_s" in row]
    copies += [stage["copy_gb_per_s"] for stage in stages.values()
               if "copy_gb_per_s" in stage]
    copy = statistics.median(copies) if copies else None
    return dict(**common, copy_gb_per_s=copy, copies=sorted(copies), stages=stages)


def rows_of(record: dict, *stages: str) -> list[dict]:
    """The rows of these stages, as far as they were run."""
    return [row for stage in stages
            for row in record["stages"].get(stage, dict(rows=[]))["rows"]]


def reads(record: dict) -> list[dict]:
    """Rows of a timed read. Its stages are kept apart: they ran at different times."""
    return [row | dict(stage=stage) for stage in ("cells", "beside_peers")
            for row in rows_of(record, stage) if "ms" in row]


def table(record: dict) -> str:
    """All that was measured, in ratios, and what was not."""
    head, copies = record["device"], record["copies"]
    if copies:
        head += (f", copy {record['copy_gb_per_s']:.0f} GB/s, of "
                 f"{len(copies)} from {copies[0]:.0f} to {copies[-1]:.0f}")
    parts = (tests, table_of_reads, best_options, phases, models, decoding, training,
             agreement, notebooks, not_measured)
    return "\n".join([head, *(line for part in parts for line in part(record))])


def tests(record: dict) -> Iterator[str]:
    """How many tests of the kernels passed, and which did not."""
    rows = [row for row in rows_of(record, "gpu_tests") if "test" in row]
    if rows:
        counts = Counter(row["outcome"] for row in rows)
        yield "tests: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    for row in rows:
        if row["outcome"] == "failed":
            yield f"test failed: {row['test']}: {row['why']}"
    for row in rows_of(record, "gpu_tests"):
        if row.get("exit_code", 0) > 1:    # 1: a test failed
            yield f"tests: pytest stopped with exit code {row['exit_code']}, see its log"


def table_of_reads(record: dict) -> Iterator[str]:
    """Ours against the best other contender, cell by cell; medians over the turns. drift:
    how much longer our slowest turn took than our fastest; *: launches are in the time."""
    cells = {}
    for row in reads(record):
        key = row["stage"], row["part"], row["n"], row["T"], row["d"]
        name = row["contender"] + ("" if row["graph"] else "*")
        times = cells.setdefault(key, {}).setdefault(name, [])
        times.append(row["ms"][1])
    if cells:
        yield "part        n     T     d    ours ms  of copy  drift  best other"
    for (_, part, n, T, d), times in sorted(cells.items(), reverse=True):
        others = {name: statistics.median(ms) for name, ms in times.items()}
        name = "ours" if "ours" in times else "ours*"
        if name not in times:
            continue                       # it is among what was not measured
        ms, turns = others.pop(name), times[name]
        share = gb_per_s(part, n, T, d, ms) / record["copy_gb_per_s"]
        drift, mark = max(turns) / min(turns) - 1, name.removeprefix("ours")
        line = (f"{part:9s}{n:4d}{T:6d}{d:6d}{ms:10.4f}{mark:1s}{share:9.0%}"
                f"{drift:7.0%}")
        if others:
            best = min(others, key=others.get)
            line += f"  {others[best] / ms:.2f}x our time, {best}"
        yield line


def best_options(record: dict) -> Iterator[str]:
    """For each width and part the warps and stages with the least time: the geometric mean
    over the depths, of those options that all of them took; what those of today take; and
    the ring's time to the best, where it ran."""
    cells, named = {}, "{} warps and {} stages".format
    now = record["stages"].get("sweep", {}).get("now", {})
    for row in rows_of(record, "sweep"):
        options = cells.setdefault((row["d"], row["part"]), {})
        name = row.get("kind") or named(row["warps"], row["stages"])
        ms = row["ms"][1] if "ms" in row else float("inf")
        options.setdefault(name, {})[row["n"]] = ms
    for (d, part), options in sorted(cells.items()):
        ring = options.pop("ring", {})
        whole = max(map(len, options.values()))          # a cut leaves options half done
        means = {name: statistics.geometric_mean(ms.values())
                 for name, ms in options.items()
                 if len(ms) == whole and max(ms.values()) < float("inf")}
        if means:
            best = min(means, key=means.get)
            today = next((named(*o) for width, o in now.get(part, []) if d <= width), None)
            line = f"launch options, {part}, d {d}: best with {best}"
            if today in means:
                line += f"; today's {today}: {means[today] / means[best]:.2f}x its time"
            yield line
            for n, ms in ring.items():
                if ms < float("inf"):
                    ratio = ms / options[best][n]
                    yield f"  one read in a ring, n {n}: {ratio:.2f}x its time"


def phases(record: dict) -> Iterator[str]:
    for row in rows_of(record, "phases"):
        if "ms" in row:
            share = row["gb_per_s"] / record["copy_gb_per_s"]
            yield (f"{row['part']}, {row['by']}: T {row['T']}, d {row['d']}, n {row['n']}, "
                   f"S {row['S']}: {row['ms'][1]:.4f} ms, {share:.0%} of copy, "
                   f"differs from PyTorch's by {row['differs_by']:.0e}")


def models(record: dict) -> Iterator[str]:
    for row in rows_of(record, "model"):
        if "ms" in row:
            peak = row["peak_bytes"]
            memory = "" if peak is None else f", peak {peak / 1e9:.1f} GB"
            pieces = f", in {row['graphs']} pieces" if row["graphs"] > 1 else ""
            yield (f"whole model, {row['kind']}, {row['case']}: {row['ms'][1]:.1f} ms, "
                   f"{row['ratio_to_prenorm']:.3f}x PreNorm{memory}{pieces}")


def decoding(record: dict) -> Iterator[str]:
    for row in rows_of(record, "decode"):
        if "graph_ms" in row:
            prompt, eager, graph = (
                row[key][1] for key in ("prefill_ms", "eager_ms", "graph_ms")
            )
            yield (f"decoding, {row['case']}: prompt {prompt:.2f} ms, a token {eager:.3f} "
                   f"ms eager, {graph:.3f} ms {'as' if row['graph'] else 'without'} a "
                   f"graph, whose logits differ by {row['logits_differ_by']:.0e}")


def not_measured(record: dict) -> Iterator[str]:
    """Everything that was left out, failed, was cut, ran without a graph or computed wrong
    gradients, with why."""
    for name, why in record["stages"].get("beside_peers", {}).get("missing", {}).items():
        yield f"not measured: {name}: {why}"
    outcomes = {}
    for stage, content in record["stages"].items():
        if stage.startswith("run_"):
            outcomes |= {row["stage"]: row["outcome"] for row in content["rows"]}
            continue
        for row in content["rows"]:
            cell = [f"{key} {row[key]}" for key in NAMING if key in row]
            what = ", ".join([stage, *cell])
            for key in ("left_out", "error", "missing"):
                if key in row:
                    yield f"not measured: {what}: {row[key]}"
            for name, error in row.get("gate", {}).items():
                if not error <= LIMIT:     # nor NaN; a wrong h is left out already
                    yield f"wrong: {what}: {name} by {error:.2g} of its largest"
            if row.get("graph") is False and not record["dry"]:
                yield f"without a graph: {what}: {row['why']}"
    for stage, outcome in outcomes.items():
        if outcome != "done":
            yield f"not finished: {stage}: {outcome}"


NAMING = ("contender", "case", "kind", "by", "part", "n", "T", "d", "S", "warps", "stages")


def roofline(record: dict):
    """Bytes of the floor per second, by bytes of the floor; the line is a plain copy."""
    # Not above: it brings matplotlib, which the machine with the GPU may not have.
    from attnres_ref import plots

    figure, axes = plots.axes(f"One read on {record['device']}", "bytes it must move (MB)",
                              "those bytes / time (GB/s)", width=8)
    names = list(dict.fromkeys(row["contender"] for row in reads(record)))
    for name, marker in zip(names, "osv^D<>Phx*"):
        for part, filled in (("forward", True), ("backward", False)):
            rows = [row for row in reads(record)
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
