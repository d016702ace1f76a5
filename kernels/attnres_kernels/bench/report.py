"""What the stages' records say together: one record, a table of ratios, a roofline plot."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SAME = ("device", "dry", "python", "torch", "triton", "commit", "dirty")


def floor(part: str, n: int) -> int:
    """Passes over [T, d] that a read of n sources cannot do without."""
    return {"forward": n + 1, "backward": 2 * n + 1}[part]


def bytes_per_s(passes: int, T: int, d: int, ms: float, n_bytes: int = 2) -> float:
    """GB/s of so many passes over [T, d] in ms milliseconds."""
    return passes * T * d * n_bytes / (ms * 1e6)


def gb_per_s(part, n, T, d, ms, n_bytes=2) -> float:
    """The floor's bytes over the time: no contender can exceed the copy bandwidth."""
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
    """One record: what all have in common, and the rest by stage. Raises ValueError for
    records of several machines or versions of the code, which must not be compared."""
    for key in SAME:
        if len(values := {record[key] for record in records}) > 1:
            raise ValueError(
                f"the records differ in {key}: {sorted(map(str, values))}; run the "
                "benchmark with another --out"
            )
    common = {key: records[0][key] for key in SAME}
    stages = {
        record["stage"]: {k: v for k, v in record.items() if k not in (*SAME, "stage")}
        for record in records
    }
    copies = [row["copy_gb_per_s"] for row in rows_of(dict(stages=stages), "environment")
              if "copy_gb_per_s" in row]
    copies += [stage["copy_gb_per_s"] for stage in stages.values()
               if "copy_gb_per_s" in stage]
    copy = statistics.median(copies) if copies else None
    return dict(**common, copy_gb_per_s=copy, stages=stages)


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
    copy = record["copy_gb_per_s"]
    head = f"{record['device']}" + ("" if copy is None else f", copy {copy:.0f} GB/s")
    parts = (tests, table_of_reads, best_options, phases, models, decoding, training,
             not_measured)
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


def table_of_reads(record: dict) -> Iterator[str]:
    """Ours against the best other contender, cell by cell; medians over the turns."""
    cells = {}
    for row in reads(record):
        key = row["stage"], row["part"], row["n"], row["T"], row["d"]
        times = cells.setdefault(key, {}).setdefault(row["contender"], [])
        times.append(row["ms"][1])
    if cells:
        yield "part        n     T     d   ours ms  of copy  best other"
    for (_, part, n, T, d), times in sorted(cells.items(), reverse=True):
        others = {name: statistics.median(ms) for name, ms in times.items()}
        if "ours" not in others:
            continue                       # it is among what was not measured
        ms = others.pop("ours")
        share = gb_per_s(part, n, T, d, ms) / record["copy_gb_per_s"]
        line = f"{part:9s}{n:4d}{T:6d}{d:6d}{ms:10.4f}{share:9.0%}"
        if others:
            best = min(others, key=others.get)
            line += f"  {others[best] / ms:.2f}x our time, {best}"
        yield line


def best_options(record: dict) -> Iterator[str]:
    """For each width and part the warps and stages with the least time: the geometric mean
    over the depths, of those options that all of them took; and the ring's time to that."""
    cells = {}
    for row in rows_of(record, "sweep"):
        options = cells.setdefault((row["d"], row["part"]), {})
        name = row.get("kind") or f"{row['warps']} warps and {row['stages']} stages"
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
            yield f"launch options, {part}, d {d}: best with {best}"
            for n, ms in ring.items():
                yield f"  one read in a ring, n {n}: {ms / options[best][n]:.2f}x its time"


def phases(record: dict) -> Iterator[str]:
    for row in rows_of(record, "phases"):
        if "ms" in row:
            share = row["gb_per_s"] / record["copy_gb_per_s"]
            yield (f"{row['part']}, {row['by']}: T {row['T']}, d {row['d']}, n {row['n']}, "
                   f"S {row['S']}: {row['ms'][1]:.4f} ms, {share:.0%} of copy")


def models(record: dict) -> Iterator[str]:
    for row in rows_of(record, "model"):
        if "ms" in row:
            peak = row["peak_bytes"]
            memory = "" if peak is None else f", peak {peak / 1e9:.1f} GB"
            yield (f"whole model, {row['kind']}, {row['case']}: {row['ms'][1]:.1f} ms, "
                   f"{row['ratio_to_prenorm']:.3f}x PreNorm{memory}")


def decoding(record: dict) -> Iterator[str]:
    for row in rows_of(record, "decode"):
        if "graph_ms" in row:
            prompt, eager, graph = (
                row[key][1] for key in ("prefill_ms", "eager_ms", "graph_ms")
            )
            yield (f"decoding, {row['case']}: prompt {prompt:.2f} ms, a token {eager:.3f} "
                   f"ms eager, {graph:.3f} ms {'as' if row['graph'] else 'without'} a "
                   f"graph, whose logits differ by {row['logits_differ_by']:.0e}")


def training(record: dict) -> Iterator[str]:
    for stage, content in record["stages"].items():
        if stage.startswith("train_") and content["rows"]:
            last = content["rows"][-1]
            yield (f"training, {stage.removeprefix('train_')}: validation loss "
                   f"{last['val_loss']:.4f} after {last['step']} steps")


def not_measured(record: dict) -> Iterator[str]:
    """Everything that was left out, failed, was cut or ran without a graph, with why."""
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
