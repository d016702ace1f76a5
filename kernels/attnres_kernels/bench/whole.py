"""What the report says of whole models: a training step, and one token after a prompt."""

from collections.abc import Iterator

from attnres_kernels.bench.model import BASE


def models(rows: list[dict]) -> Iterator[str]:
    """A line for each training step, with its ratios to PreNorm's of the same kind: of its
    time, which was taken in turns, and of the time that the GPU is busy."""
    busy_ms = {(row["case"], row["kind"]): row["gpu_ms"] for row in rows
               if row.get("gpu_ms") is not None}
    for row in rows:
        if "ms" not in row:
            continue                       # it is among what was not measured
        kind = row["kind"] + ("" if row.get("graph", True) else " that failed")
        line = (f"whole model, {kind}, {row['case']}: {row['ms'][1]:.1f} ms, "
                f"{row['ratio_to_prenorm']:.3f}x PreNorm")
        busy, base = (busy_ms.get((case, row["kind"])) for case in (row["case"], BASE))
        if busy:
            line += f"; GPU busy for {busy:.1f} ms"
            line += f", {busy / base:.3f}x" if base else ""
        if row["host_ms"] is not None:
            line += f", host for {row['host_ms']:.1f} ms"
        if row.get("peak_bytes") is not None:
            line += f", peak {row['peak_bytes'] / 1e9:.1f} GB"
        if row.get("pieces", 0) > 1:
            line += f", in {row['pieces']} pieces"
        yield line


def decoding(rows: list[dict]) -> Iterator[str]:
    for row in rows:
        if "graph_ms" in row:
            prompt, eager, graph = (
                row[key][1] for key in ("prefill_ms", "eager_ms", "graph_ms")
            )
            ratio = row["ratio_to_prenorm"]
            turns = "" if ratio is None else f", {ratio:.3f}x PreNorm in turns"
            yield (f"decoding, {row['case']}: prompt {prompt:.2f} ms, a token {eager:.3f} "
                   f"ms eager, {graph:.3f} ms {'as' if row['graph'] else 'without'} a "
                   f"graph{turns}; its logits differ from the eager ones by "
                   f"{row['logits_differ_by']:.0e}")
