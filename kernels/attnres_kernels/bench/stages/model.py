"""Forward and backward of each model against PreNorm's, eager, compiled: time, memory."""

import time
from functools import partial

from torch._dynamo.utils import counters

from attnres_kernels.bench import clock
from attnres_kernels.bench.model import BASE, BATCH, CASES, SIZE, training_step
from attnres_ref.bench.timing import interleaved, now, paired_ratio

ROUNDS = dict(cuda=8, cpu=1)
WARM_UP = dict(cuda=3, cpu=1)          # steps whose losses are written down
KINDS = ("eager", "compiled")


def measure(record, device) -> None:
    """A row for each case: the ratio is the median over rounds in which PreNorm's step
    and the case's take turns, so that a drift of the clocks hits both."""
    record.note(size=SIZE[device.type], batch=BATCH[device.type])
    for kind in KINDS:
        for case in CASES:                 # PreNorm is the first of them
            row = dict(case=case, kind=kind)
            try:
                step, facts = warmed(case, kind, device)
                if case == BASE:
                    base = step
                record.add(**row, **facts, **against(base, step, device))
            except Exception as error:     # out of memory, or no compiler on the machine
                record.add(**row, error=clock.told(error))
                if case == BASE:
                    break                  # nothing is left to compare with
            step = None                    # its memory is the next one's
            clock.free_memory(device)


def warmed(case: str, kind: str, device) -> tuple:
    """The case's step after its first few, and what they say: seconds, losses, memory, and
    into how many graphs torch.compile cut it: of more than one, something runs eagerly."""
    began, graphs = time.perf_counter(), counters["stats"]["unique_graphs"]
    step = training_step(case, device, compiled=kind == "compiled")
    losses = [step().item() for _ in range(WARM_UP[device.type])]
    first_s = time.perf_counter() - began
    peak = clock.peak_bytes(step, device)
    graphs = counters["stats"]["unique_graphs"] - graphs
    return step, dict(first_s=first_s, losses=losses, peak_bytes=peak, graphs=graphs)


def against(base, step, device) -> dict:
    """Milliseconds of a step, and its time by that of `base`, in paired rounds."""
    steps = [(BASE, base), ("case", step)]
    seconds = interleaved(steps, ROUNDS[device.type], partial(now, device))
    ms = clock.quartiles([1e3 * s for s in seconds["case"]])
    return dict(ms=ms, ratio_to_prenorm=paired_ratio(seconds["case"], seconds[BASE]))
