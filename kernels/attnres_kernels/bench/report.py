"""What the stages' records say together: one record, and a table of ratios."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attnres_kernels.bench import whole
from attnres_kernels.bench.gate import LIMIT
from attnres_kernels.bench.peers import SWEPT
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
    how much longer our slowest turn took than our fastest; swept: our time with the launch
    options that the sweep chose, by that with today's; *: launches are in the time."""
    cells = {}
    for row in reads(record):
        key = row["stage"], row["part"], row["n"], row["T"], row["d"]
        name = row["contender"] + ("" if row["graph"] else "*")
        times = cells.setdefault(key, {}).setdefault(name, [])
        times.append(row["ms"][1])
    if cells:
        yield "part        n     T     d    ours ms  of copy  drift  swept  best other"
    for (_, part, n, T, d), times in sorted(cells.items(), reverse=True):
        others = {name: statistics.median(ms) for name, ms in times.items()}
        name = "ours" if "ours" in times else "ours*"
        if name not in times:
            continue                       # it is among what was not measured
        ms, turns = others.pop(name), times[name]
        share = gb_per_s(part, n, T, d, ms) / record["copy_gb_per_s"]
        drift, mark = max(turns) / min(turns) - 1, name.removeprefix("ours")
        swept = next((others.pop(f"{SWEPT}{end}") for end in ("", "*")
                      if f"{SWEPT}{end}" in others), None)
        ratio = "" if swept is None else f"{swept / ms:.2f}x"
        line = (f"{part:9s}{n:4d}{T:6d}{d:6d}{ms:10.4f}{mark:1s}{share:9.0%}"
                f"{drift:7.0%}{ratio:>7s}")
        if others:
            best = min(others, key=others.get)
            line += f"  {others[best] / ms:.2f}x our time, {best}"
        yield line


def best_options(record: dict) -> Iterator[str]:
    """What the sweep has chosen, and the times of today's options and of the ring to it."""
    named = "{} warps and {} stages".format
    for choice in record["stages"].get("sweep", {}).get("chosen", []):
        best = named(choice["warps"], choice["stages"])
        line = f"launch options, {choice['part']}, d {choice['d']}: best with {best}"
        if ratio := choice["today_ratio"]:
            line += f"; today's {named(*choice['today'])}: {ratio:.2f}x its time"
        yield line
        if ring := choice["ring"]:
            yield (f"  one read in a ring of {ring['warps']} warps: {ring['ratio']:.2f}x "
                   "its time")


def phases(record: dict) -> Iterator[str]:
    for row in rows_of(record, "phases"):
        if "ms" in row:
            share = row["gb_per_s"] / record["copy_gb_per_s"]
            yield (f"{row['part']}, {row['by']}: T {row['T']}, d {row['d']}, n {row['n']}, "
                   f"S {row['S']}: {row['ms'][1]:.4f} ms, {share:.0%} of copy, "
                   f"differs from PyTorch's by {row['differs_by']:.0e}")


def models(record: dict) -> Iterator[str]:
    return whole.models(rows_of(record, "model"))


def decoding(record: dict) -> Iterator[str]:
    return whole.decoding(rows_of(record, "decode"))


def gates(record: dict, named: str) -> Iterator[str]:
    """How far the query's gradient of every contender with this name in its own was off
    float64 before anything was timed, by its largest element."""
    for row in rows_of(record, "beside_peers"):
        if named in row["contender"] and "gate" in row:
            independent, alike = (row["gate"][f"dw {kind}"]
                                  for kind in ("independent", "correlated"))
            yield (f"{row['contender']}: gradient of the query off by {independent:.2g}, "
                   f"where sources are alike by {alike:.2g}")


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
