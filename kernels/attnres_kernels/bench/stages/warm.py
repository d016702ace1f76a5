"""Triton's compile cache on disk, filled by many processes before anything is timed.

A kernel compiles for seconds, on one core, once for each choice of its options; the
stages that time it find it on disk.
"""

from functools import partial

import torch

from attnres_kernels.bench import clock, gate, operators, peers
from attnres_kernels.bench.model import BASE, COMPILED, training_step
from attnres_kernels.bench.stages import cells, decode, sweep
from attnres_kernels.bench.stages import phases as timed_phases

SHARES = dict(cuda=12, cpu=2)
MODELS = dict(cuda=COMPILED, cpu=(BASE,))      # those of the stage `model`, in its order
DECODED = dict(cuda=tuple(decode.CASES), cpu=(BASE,))


def share(k: int, of: int, out, device) -> None:
    for name, job in dealt(k, of, device):
        try:
            job()
        except Exception as error:         # it fails again, and is named, where it is timed
            print(name, clock.told(error), flush=True)
        clock.free_memory(device)


def dealt(k: int, of: int, device) -> list[tuple[str, object]]:
    """The k-th share's jobs, (name, function). A model takes as long as many kernels, so
    each of the first shares has a model, and the others have every so manyth kernel."""
    cases = MODELS[device.type]
    if k < len(cases):
        return [(cases[k], partial(one_step, cases[k], device))]
    return kernels(device)[k - len(cases) :: of - len(cases)]


def kernels(device) -> list[tuple[str, object]]:
    """(name, function): all that the stages of this half launch, without torch.compile."""
    kind = device.type
    decoded = [(f"{case}, decoding", partial(one_token, case, device))
               for case in DECODED[kind]]
    swept = [
        (f"n {n}, d {d}, warps {warps}, stages {stages}",
         partial(with_options, n, T, d, warps, stages, device))
        for n, T, d in sweep.CELLS[kind] for warps, stages in sweep.options(d, device)
    ]
    rings = [
        (f"n {n}, d {d}, ring, warps {warps}", partial(with_ring, n, T, d, warps, device))
        for n, T, d in sweep.CELLS[kind] for warps in sweep.RING_WARPS
    ]
    timed = [(f"n {n}, T {T}, d {d}", partial(one_read, n, T, d, device))
             for n, T, d in cells.CELLS[kind]]
    both = [(f"phases at d {d}", partial(both_phases, T, d, n, S, device))
            for T, d, n, S in timed_phases.SIZES[kind]]
    return decoded + swept + rings + timed + both


def one_step(case: str, device) -> None:
    training_step(case, device, compiled=True)()


@torch.no_grad()
def one_token(case: str, device) -> None:
    decode.cached_model(case, device)(torch.zeros(1, 1, dtype=torch.int64, device=device))


def with_options(n, T, d, warps, stages, device) -> None:
    with sweep.launched_with((warps, stages), (warps, stages)):
        one_read(n, T, d, device)


def with_ring(n, T, d, warps, device) -> None:
    with sweep.in_a_ring(warps):
        one_read(n, T, d, device)


def one_read(n, T, d, device) -> None:
    """Forward and backward. What is compiled does not depend on T: a few tokens will do."""
    sets = [gate.inputs(n, min(T, 64), d, device)]
    for part in operators.PARTS:
        operators.calls_of(part, peers.ours, sets)[0]()


def both_phases(T, d, n, S, device) -> None:
    _, sources = gate.inputs(n + 2, min(T, 64), d, device)
    queries = torch.zeros(S, d, device=device, requires_grad=True)
    for call, _ in timed_phases.calls("kernels", queries, sources).values():
        call()
