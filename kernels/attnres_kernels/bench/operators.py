"""One read and its backward, timed: every contender, cell by cell of a grid."""

import statistics
import sys
import time

import torch

from attnres_kernels.bench import gate, peers
from attnres_kernels.bench.report import gb_per_s
from attnres_ref.training.provenance import provenance

NS, DS = (2, 5, 9, 17, 33), (1024, 4096, 7168)
BEYOND_CACHE = 256e6                   # bytes of inputs to walk through, > any L2


def measure(T: int, rounds: int) -> dict:
    """Everything of one T, on the GPU."""
    device = torch.device("cuda")
    bandwidth = copy_bandwidth(device)
    candidates, missing = peers.load()
    contenders, errors, rows = {}, {}, []
    for name, attend in candidates.items():
        try:
            errors[name] = gate.check(attend, device)
            contenders[name] = attend
        except Exception as error:         # whatever a peer cannot do, it is named
            missing[name] = f"{type(error).__name__}: {error}"
    for d in DS:
        for n in NS:
            new_rows, skipped = cell(contenders, n, T, d, rounds, device)
            rows, missing = rows + new_rows, missing | skipped
            torch.cuda.empty_cache()
            print(f"T {T}, d {d}, n {n}: done", file=sys.stderr)
    return dict(rows=rows, errors=errors, missing=missing, rounds=rounds,
                copy_gb_per_s=bandwidth, **provenance(device))


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
        outputs = call()
    # What the graph reads and writes must live as long as its replays.
    return lambda: (graph.replay(), call, outputs)


def cuda_ms(calls) -> float:
    """Milliseconds per call of a few calls in a row."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for call in calls:
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / len(calls)


def cell(contenders, n, T, d, rounds, device, prepare=cuda_graph, clock=cuda_ms):
    """One cell of the grid: rows with the times of every contender, interleaved, and by
    name why a contender has none here."""
    n_sets = max(1, min(64, round(BEYOND_CACHE / (2 * n * T * d)) + 1))
    sets = [gate.inputs(n, T, d, device, seed=seed) for seed in range(n_sets)]
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
        dict(contender=name, n=n, T=T, d=d, part=part, ms=quartiles(ms),
             gb_per_s=gb_per_s(part, n, T, d, statistics.median(ms)),
             tune_s=ready[name]["tune_s"], peak_bytes=ready[name]["peak_bytes"])
        for name, by_part in times.items() for part, ms in by_part.items()
    ]
    return rows, skipped


def prepared(attend, sets, prepare) -> dict:
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


def parts(attend, w, sources) -> dict:
    """Forward, and backward alone where there is one, as calls without arguments."""
    calls = dict(forward=lambda: attend(w, sources).detach())
    h = attend(w, sources)
    if h.requires_grad:
        leaves, dh = [w, *sources], torch.ones_like(h)
        calls["backward"] = lambda: torch.autograd.grad(h, leaves, dh, retain_graph=True)
    return calls


def quartiles(values: list[float]) -> list[float]:
    """[first quartile, median, third quartile]"""
    return statistics.quantiles(values, n=4) if len(values) > 1 else values * 3


def copy_bandwidth(device) -> float:
    """GB/s of one large copy, read and write counted."""
    a = torch.empty(2**29, dtype=torch.bfloat16, device=device)
    b = torch.empty_like(a)
    ms = statistics.median(cuda_ms([lambda: b.copy_(a)]) for _ in range(30))
    return 2 * a.numel() * a.element_size() / (ms * 1e6)
