"""The kernels on one GPU, beside other implementations and the bandwidth of a copy.

    python -m attnres_kernels.bench --json notebooks/recorded/bench_gpu.json

Protocol: the bandwidth of a plain copy first. Every contender passes a comparison with
float64, on independent and on nearly equal sources, or is named and left out. All get
the same list of inputs; calls are replayed as CUDA graphs over inputs that together
exceed the L2 cache, in interleaved order. Numbers are medians with their quartiles.
Each T runs in a process of its own, so that autotuned peers begin afresh.
Without a GPU it checks the kernels on a tiny case, and measures nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from attnres_kernels import interpreting
from attnres_kernels.bench import peers
from attnres_kernels.bench.model import model_ratios
from attnres_kernels.bench.report import gb_per_s, joined, roofline, table
from attnres_ref import depth_attention as reference
from attnres_ref.training.provenance import provenance

NS, TS, DS = (2, 5, 9, 17, 33), (1, 64, 2048, 8192), (1024, 4096, 7168)
BEYOND_CACHE = 256e6                   # bytes of inputs to walk through, > any L2
LIMIT = 0.02                           # largest relative error of a bfloat16 read


def inputs(n, T, d, device, dtype=torch.bfloat16, noise=1.0, seed=0):
    """w [d] float32 and n sources [T, d]; noise < 1: sources are nearly equal."""
    generator = torch.Generator(device).manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, device=device)
    shared = normal(T, d) if noise < 1 else 0.0
    sources = [(shared + noise * normal(T, d)).to(dtype) for _ in range(n)]
    leaves = [x.requires_grad_() for x in (2 * d**-0.5 * normal(d), *sources)]
    return leaves[0], leaves[1:]


def gate(attend, device, dtype=torch.bfloat16) -> dict[str, float]:
    """Largest relative errors of h, and of dw and dv where there is a backward, against
    float64, on both kinds of input."""
    worst = {}
    for kind, noise in (("independent", 1.0), ("correlated", 0.05)):
        w, sources = inputs(9, 8, 128, device, dtype, noise)
        wide = [x.detach().double().requires_grad_() for x in (w, *sources)]
        found = []
        for read, leaves in ((attend, [w, *sources]), (plain, wide)):
            h = read(leaves[0], leaves[1:])
            dh = torch.linspace(-1, 1, h.numel(), device=device).view_as(h).to(h)
            dw, *dv = torch.autograd.grad(h, leaves, dh) if h.requires_grad else [None] * 2
            found.append((h.detach(),) if dw is None else (h.detach(), dw, torch.stack(dv)))
        for name, a, b in zip(("h", "dw", "dv"), *found):
            gap = (a.double() - b).abs().max() / b.abs().max()
            worst[f"{name} {kind}"] = gap.item()
    return worst


def plain(w, sources):
    return reference(w, sources, eps=peers.EPS)


def quartiles(values: list[float]) -> list[float]:
    """[first quartile, median, third quartile]"""
    return statistics.quantiles(values, n=4) if len(values) > 1 else values * 3


def cuda_graph(call):
    """`call` as a CUDA graph: what it replays costs no Python. Warms up first."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()
    # What the graph reads and writes must live as long as its replays.
    return lambda: (graph.replay(), call, kept)


def cuda_ms(calls) -> float:
    """Milliseconds per call of a few calls in a row."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for call in calls:
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / len(calls)


def parts(attend, w, sources) -> dict:
    """Forward, and backward alone where there is one, as calls without arguments."""
    found = dict(forward=lambda: attend(w, sources).detach())
    h = attend(w, sources)
    if h.requires_grad:
        leaves, dh = [w, *sources], torch.ones_like(h)
        found["backward"] = lambda: torch.autograd.grad(h, leaves, dh, retain_graph=True)
    return found


def prepared(attend, sets, prepare=cuda_graph) -> dict:
    """Replays of a contender by part, one per set of inputs, and what they cost first:
    seconds of compiling and tuning, and the most memory beyond the first inputs."""
    began, replays = time.perf_counter(), {}
    for call in parts(attend, *sets[0]).values():
        call()
    tune_s, peak = time.perf_counter() - began, None
    if sets[0][0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for call in parts(attend, *sets[0]).values():
            call()
        peak = torch.cuda.max_memory_allocated() - before
    for w, sources in sets:
        for part, call in parts(attend, w, sources).items():
            replays.setdefault(part, []).append(prepare(call))
    return dict(replays=replays, tune_s=tune_s, peak_bytes=peak)


def cell(contenders, n, T, d, rounds, device, prepare=cuda_graph, clock=cuda_ms):
    """One cell of the grid: rows with the times of every contender, interleaved, and by
    name why a contender has none here."""
    n_sets = max(1, min(64, round(BEYOND_CACHE / (2 * n * T * d)) + 1))
    sets = [inputs(n, T, d, device, seed=seed) for seed in range(n_sets)]
    ready, skipped = {}, {}
    for name, attend in contenders.items():
        try:
            ready[name] = prepared(attend, sets, prepare)
        except Exception as error:         # out of memory, or a width it does not take
            skipped[f"{name} at n {n}, T {T}, d {d}"] = f"{type(error).__name__}: {error}"
    times = {name: {part: [] for part in one["replays"]} for name, one in ready.items()}
    for _ in range(rounds):
        for name, one in ready.items():
            for part, calls in one["replays"].items():
                times[name][part].append(clock(calls))
    rows = [
        dict(contender=name, n=n, T=T, d=d, part=part, ms=quartiles(found),
             gb_per_s=gb_per_s(part, n, T, d, statistics.median(found)),
             tune_s=ready[name]["tune_s"], peak_bytes=ready[name]["peak_bytes"])
        for name, by_part in times.items() for part, found in by_part.items()
    ]
    return rows, skipped


def copy_bandwidth(device) -> float:
    """GB/s of one large copy, read and write counted."""
    a = torch.empty(2**29, dtype=torch.bfloat16, device=device)
    b = torch.empty_like(a)
    ms = statistics.median(cuda_ms([lambda: b.copy_(a)]) for _ in range(30))
    return 2 * a.numel() * a.element_size() / (ms * 1e6)


def measure(T: int, rounds: int) -> dict:
    """Everything of one T, on the GPU."""
    device = torch.device("cuda")
    contenders, missing = peers.load()
    errors = {}
    for name, attend in list(contenders.items()):
        try:
            errors[name] = gate(attend, device)
            if max(errors[name]["h independent"], errors[name]["h correlated"]) > LIMIT:
                raise ValueError(f"h is wrong by {errors[name]}")
        except Exception as error:         # whatever a peer cannot do, it is named
            missing[name] = f"{type(error).__name__}: {error}"
            del contenders[name]
    rows = []
    for d in DS:
        for n in NS:
            found, skipped = cell(contenders, n, T, d, rounds, device)
            rows, missing = rows + found, missing | skipped
            torch.cuda.empty_cache()
            print(f"T {T}, d {d}, n {n}: done", file=sys.stderr)
    return dict(rows=rows, errors=errors, missing=missing, rounds=rounds,
                copy_gb_per_s=copy_bandwidth(device), **provenance(device))


def tiny_check() -> str:
    """What can be said without a GPU: our own read passes the gate, in the interpreter."""
    if not interpreting():
        return "No GPU here and no interpreter: measured nothing, checked nothing."
    errors = gate(peers.ours(), torch.device("cpu"), torch.float32)
    assert max(errors.values()) < 1e-4, errors
    worst = max(errors.values())
    return f"No GPU here: measured nothing. In the interpreter, largest error {worst:.0e}."


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--plot", type=Path, help="write the roofline plot here, as PNG")
    parser.add_argument("--only-T", type=int, help="one T, its record on standard output")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(tiny_check())
        return
    if options.only_T is not None:
        print(json.dumps(measure(options.only_T, options.rounds)))
        return
    records = []
    for T in TS:
        command = [sys.executable, "-m", "attnres_kernels.bench", "--only-T", str(T),
                   "--rounds", str(options.rounds)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        records.append(json.loads(run.stdout.splitlines()[-1]))
    ratios = model_ratios(options.rounds, torch.device("cuda"))
    record = joined(records) | dict(model=ratios)
    print(table(record))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot:
        roofline(record).savefig(options.plot, dpi=110)

