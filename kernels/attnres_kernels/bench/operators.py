"""One read and its backward, timed: every contender at one cell, a choice of n, T and d."""

import time
from contextlib import nullcontext
from functools import partial

import torch

from attnres_kernels.bench import clock, gate
from attnres_kernels.bench.report import gb_per_s

PARTS = ("forward", "backward")
# By device; the CPU's values are for dry runs, here and in the stages.
BEYOND_CACHE = dict(cuda=256e6, cpu=0)     # bytes of inputs to walk through, > any L2
GRAPH_BYTES = dict(cuda=1e9, cpu=0)        # a graph's calls read about this together ...
MOST_CALLS = 64                            # ... but are no more than these


def measure_cell(record, contenders, n, T, d, device, turns=2, settings=None) -> None:
    """A row for each turn, contender and part of one cell, with times or the reason why
    there are none. settings: by contender the context in which it runs, from its first
    call to the last.

    Only one contender's graphs are held at a time, for one that stacks its sources in
    float32 takes half of the GPU. So contenders alternate from turn to turn, not from
    round to round; a drift of the clocks shows as turns that differ.
    """
    sets, failed, settings = sets_of(n, T, d, device), set(), settings or {}
    for turn in range(turns):
        for name, attend in contenders.items():
            for part in PARTS:
                if (name, part) in failed:
                    continue
                row = dict(contender=name, n=n, T=T, d=d, part=part, turn=turn)
                try:
                    with settings.get(name, nullcontext)():
                        row |= timed(attend, part, sets, device)
                except Exception as error:     # out of memory, or a width it refuses
                    row["error"] = clock.told(error)
                    failed.add((name, part))
                record.add(**row)
                clock.free_memory(device)


def timed(attend, part, sets, device, rounds=10) -> dict:
    """Quartiles of the milliseconds of one forward or backward, the floor's bytes per
    second, seconds of the first call (it compiles and tunes), peak memory of a call, and
    whether a CUDA graph ran it."""
    n, (T, d) = len(sets[0][1]), sets[0][1][0].shape
    calls = calls_of(part, attend, sets)
    began = time.perf_counter()
    calls[0]()
    tune_s = time.perf_counter() - began
    peak = clock.peak_bytes(calls[0], device)
    calls *= repeats(len(sets), n * T * d * 2, device)
    run, why = clock.as_graph(calls, device)
    ms = clock.quartiles(clock.times_ms(run, len(calls), device, rounds))
    return dict(
        ms=ms, gb_per_s=gb_per_s(part, n, T, d, ms[1]), graph=why is None, why=why,
        tune_s=tune_s, peak_bytes=peak,
    )


def calls_of(part, attend, sets) -> list:
    """The part as a call without arguments for each set of inputs: forward as in training,
    what it saves included, or backward alone."""
    if part == "forward":
        return [lambda w=w, sources=sources: attend(w, sources).detach()
                for w, sources in sets]
    reads = [(attend(w, sources), [w, *sources]) for w, sources in sets]
    return [partial(torch.autograd.grad, h, leaves, torch.ones_like(h), retain_graph=True)
            for h, leaves in reads]


def sets_of(n, T, d, device) -> list:
    """Inputs that together do not fit into the L2 cache, as far as 32 sets of them go: a
    read of few tokens finds them there, as it does when a model decodes."""
    n_sets = min(32, round(BEYOND_CACHE[device.type] / (2 * n * T * d)) + 1)
    return [gate.inputs(n, T, d, device, seed=seed) for seed in range(n_sets)]


def repeats(n_sets: int, n_bytes: int, device) -> int:
    """How often a graph goes through n_sets inputs of n_bytes. A read of one token takes
    less time than the launch of a graph, so a graph holds many of them."""
    n_calls = min(MOST_CALLS, GRAPH_BYTES[device.type] / n_bytes)
    return max(1, round(n_calls / n_sets))
