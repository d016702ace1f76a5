"""Forward and backward of each model against PreNorm's: time, memory, who is waited for.

Eager and compiled, each launched from Python and replayed as one CUDA graph: where the
host launches more slowly than the GPU works, `ms` is the host's time and not the model's.
`host_ms`: until the calls have returned; `gpu_ms`: what the GPU is busy with, from rows at
the end, for launches are slower once a profiler has run. A graph has the same kernels.
"""

import time
from functools import partial

from torch._dynamo.utils import counters

from attnres_kernels.bench import clock
from attnres_kernels.bench.model import (
    BASE,
    BATCH,
    CASES,
    COMPILED,
    SIZE,
    training_step,
)
from attnres_ref.bench.timing import interleaved, now, paired_ratio

ROUNDS = dict(cuda=6, cpu=1)
WARM_UP = dict(cuda=3, cpu=1)          # steps whose losses are written down
BUDGET_S = dict(cuda=80, cpu=float("inf"))     # then no further case is compiled
GRAPHS = {"eager": "graph", "compiled": "compiled, graph"}     # the same step as a graph
FIRST = COMPILED[:4]                       # those that decide
ORDER = (
    *((case, kind) for kind in GRAPHS for case in FIRST),
    *((case, "eager") for case in CASES if case not in FIRST),
    *((case, "compiled") for case in COMPILED if case not in FIRST),
)


def measure(record, device) -> None:
    """A row for each case and kind, PreNorm's first; only what is compiled is captured."""
    began = time.perf_counter()
    record.note(size=SIZE[device.type], batch=BATCH[device.type])
    bases, launched = {}, {}
    for case, kind in ORDER:
        if time.perf_counter() - began > BUDGET_S[device.type]:
            record.add(case=case, kind=kind, left_out="the stage had no time for it")
            continue
        made = partial(warmed, case, kind == "compiled", device)
        step = measured(record, bases, case, kind, made, device)
        if step:
            launched[case, kind] = step
            made = partial(captured, step, device)
            if case in COMPILED:
                measured(record, bases, case, GRAPHS[kind], made, device)
        clock.free_memory(device)          # a graph's is the next one's
    for (case, kind), step in launched.items():
        try:
            record.add(case=case, kind=kind, gpu_ms=clock.gpu_ms(step, device))
        except Exception as error:
            record.add(case=case, kind=kind, error=f"gpu_ms: {clock.told(error)}")


def measured(record, bases, case, kind, made, device):
    """Add the row of the step that made() returns, with facts about it. Returns the step,
    or None if it failed. PreNorm's is kept in `bases`, by kind."""
    row = dict(case=case, kind=kind)
    try:
        if case != BASE and kind not in bases:
            raise RuntimeError(f"there is no {BASE} of this kind to compare with")
        step, facts = made()
        base = bases.setdefault(kind, step)
        record.add(**row, **facts, **against(base, step, device))
        return step
    except Exception as error:             # out of memory, or no compiler on the machine
        record.add(**row, error=clock.told(error))
        return None


def warmed(case: str, compiled: bool, device) -> tuple:
    """The case's step after its first few, and what they say: seconds, losses, memory, and
    in how many pieces torch.compile took it: of more than one, something runs eagerly."""
    began, pieces = time.perf_counter(), counters["stats"]["unique_graphs"]
    step = training_step(case, device, compiled)
    losses = [step().item() for _ in range(WARM_UP[device.type])]
    first_s = time.perf_counter() - began
    peak = clock.peak_bytes(step, device)
    pieces = counters["stats"]["unique_graphs"] - pieces
    return step, dict(first_s=first_s, losses=losses, peak_bytes=peak, pieces=pieces)


def captured(step, device) -> tuple:
    """The step as one CUDA graph, and what its first replays say. Where it cannot be
    captured it stays as it is, and `why` says so."""
    began = time.perf_counter()
    run, why = clock.as_graph([step], device)
    replay = lambda: run()[0]
    losses = [replay().item() for _ in range(WARM_UP[device.type])]
    first_s = time.perf_counter() - began
    return replay, dict(first_s=first_s, losses=losses, graph=why is None, why=why)


def against(base, step, device) -> dict:
    """Milliseconds of a step, and on the host, and its time by that of `base`: the median
    over rounds in which the two take turns, so that a drift of the clocks hits both."""
    steps = [(BASE, base), ("case", step)]
    seconds = interleaved(steps, ROUNDS[device.type], partial(now, device))
    ms = clock.quartiles([1e3 * s for s in seconds["case"]])
    ratio = paired_ratio(seconds["case"], seconds[BASE])
    return dict(ms=ms, ratio_to_prenorm=ratio, host_ms=clock.host_ms(step, device))
