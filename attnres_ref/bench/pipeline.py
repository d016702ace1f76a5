"""The simulator against real processes, on links and ranks of a known speed.

Steps of `PacedPipeline` are timed and compared with `simulate`, which knows the speeds and
nothing of what the engine needs for itself. That is measured as well, in other steps.
"""

import statistics
import time
from dataclasses import astuple

import torch
import torch.distributed as dist

from attnres_ref.bench import timing
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.pipeline.paced import Pace, PacedPipeline, recorded_step
from attnres_ref.pipeline.simulate import Simulation, following, simulate

DEVICE = torch.device("cpu")           # of `launch`
SIZE = dict(
    n_ranks=4, n_virtual=2, n_layers=16, block_size=4, n_microbatches=8,
    forward=0.03, backward=0.06, per_tensor=0.04,            # seconds
)


def paced_steps(layouts: list[Layout], rounds: int, n_microbatches: int, pace: Pace):
    """On every rank: the engine's `delays`, from one step of the first layout at a third of
    the pace; then seconds of `rounds` steps for each layout, of the slowest rank."""
    third = Pace(*(seconds / 3 for seconds in astuple(pace)))
    found = delays(recorded_step(layouts[0], n_microbatches, third), layouts[0], third)
    pipelines = [PacedPipeline(layout, n_microbatches, pace) for layout in layouts]
    steps = []
    for layout, paced in zip(layouts, pipelines):
        steps += [(None, paced.prepare), (layout.mode, paced.step)]
    seconds = timing.interleaved(steps, rounds, time.perf_counter)
    for paced in pipelines:
        paced.close()
    slowest = torch.tensor([seconds[layout.mode] for layout in layouts])
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return slowest.tolist(), found


def delays(step: Simulation, layout: Layout, pace: Pace) -> dict[str, float]:
    """What the engine needs beyond the pace, in seconds, medians over the passes of a step.

    per_pass: from the end of one pass to that of the next, less what this one should take,
    where its message had long been there. per_message: from when a message should have
    crossed the link to the start of a pass that waited for it.
    """
    due = {following(message.action, layout): message.end for message in step.messages}
    length, free = dict(F=pace.forward, B=pace.backward), {}
    per_pass, per_message = [], []
    for rank, action, start, end in sorted(step.spans, key=lambda span: span.start):
        there = due.get(action, 0.0)
        if there > free.get(rank, 0.0):
            per_message.append(start - there)
        elif rank in free:
            per_pass.append(end - free[rank] - length[action.kind])
        free[rank] = end
    middle = statistics.median
    return dict(per_pass=middle(per_pass), per_message=middle(per_message))


def measure(rounds: int, **changes) -> dict:
    """By mode: measured seconds of each step, and what the simulator says, first of the
    pace alone, then with the engine's delays."""
    size = SIZE | changes
    shape = [size[name] for name in ("n_ranks", "n_virtual", "n_layers", "block_size")]
    layouts, M = [Layout(*shape, mode) for mode in MODES], size["n_microbatches"]
    pace = Pace(*(size[name] for name in ("forward", "backward", "per_tensor")))
    simulated = [simulate(layout, M, *astuple(pace)).makespan for layout in layouts]
    patience = 90 + 2 * (timing.WARM_UP + rounds) * sum(simulated)
    seconds, late = launch(
        paced_steps, size["n_ranks"], layouts, rounds, M, pace, timeout=patience
    )[0]
    forward, backward = pace.forward + late["per_pass"], pace.backward + late["per_pass"]
    return {
        layout.mode: dict(
            seconds=times, simulated=ideal, delays=late,
            with_delays=simulate(
                layout, M, forward, backward, pace.per_tensor, late["per_message"]
            ).makespan,
        )
        for layout, times, ideal in zip(layouts, seconds, simulated)
    }


def table(rows: dict) -> str:
    columns = {}
    for mode, row in rows.items():
        measured = statistics.median(row["seconds"])
        columns[mode] = row | dict(
            measured=measured, apart=measured / row["simulated"] - 1,
            still_apart=measured / row["with_delays"] - 1,
        )
    return timing.table(columns, [
        ("seconds of a step", "{name:18s}"), ("measured", "{measured:9.3f}"),
        ("simulated", "{simulated:10.3f}"), ("apart", "{apart:7.1%}"),
        ("with delays", "{with_delays:12.3f}"), ("apart", "{still_apart:7.1%}"),
    ])
