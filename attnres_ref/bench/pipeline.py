"""The simulator against real processes, on links and ranks of a known speed.

The engine runs as it always does, except that every pass of a chunk takes a fixed time
(it sleeps), and that a message waits for its turn and its time on a paced link before it
is sent. The step is then timed and compared with `simulate`. A sleep that ends late is
counted.
"""

import queue
import statistics
import threading
import time
from functools import partial

import torch
import torch.distributed as dist

from attnres_ref.bench import timing
from attnres_ref.model import LM, LMConfig
from attnres_ref.pipeline.counting import CountingStage
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.pipeline.simulate import simulate

DEVICE = torch.device("cpu")           # of `launch`
SIZE = dict(
    n_ranks=4, n_virtual=2, n_layers=16, block_size=4, n_microbatches=8,
    forward=0.03, backward=0.06, per_tensor=0.04,            # seconds
)


class Link:
    """One direction between two ranks: a message at a time, `per_tensor` seconds for
    each of its tensors, while the rank goes on computing."""

    def __init__(self, per_tensor: float):
        self.per_tensor, self.messages = per_tensor, queue.Queue()
        threading.Thread(target=self.carry, daemon=True).start()

    def carry(self) -> None:
        while True:
            ops = self.messages.get()
            time.sleep(len(ops) * self.per_tensor)
            for work in [dist.isend(op.tensor, op.peer) for op in ops]:
                work.wait()
            self.messages.task_done()


class PacedStage(CountingStage):
    """Passes of known length, and messages handed to paced links."""

    size: dict                         # "forward" and "backward" of it, in seconds
    links: dict[int, Link]             # by receiving rank

    def forward_one_chunk(self, *args, **kwargs):
        output = super().forward_one_chunk(*args, **kwargs)
        time.sleep(self.size["forward"])
        return output

    def backward_one_chunk(self, *args, **kwargs):
        super().backward_one_chunk(*args, **kwargs)
        time.sleep(self.size["backward"])

    def get_fwd_send_ops(self, fwd_chunk_id):
        return self.hand_over(super().get_fwd_send_ops(fwd_chunk_id))

    def get_bwd_send_ops(self, bwd_chunk_id):
        return self.hand_over(super().get_bwd_send_ops(bwd_chunk_id))

    def hand_over(self, ops: list) -> list:
        if ops:
            self.links[ops[0].peer].messages.put(ops)
        return []                      # the engine has nothing left to send


def paced_steps(layouts: list[Layout], rounds: int, size: dict) -> list[list[float]]:
    """On every rank: seconds of `rounds` steps for each layout, of the slowest rank."""
    torch.manual_seed(0)
    text = torch.randint(256, (size["n_microbatches"], 5))
    links = {rank: Link(size["per_tensor"]) for rank in range(size["n_ranks"])}

    def together():
        for link in links.values():
            link.messages.join()
        dist.barrier()

    steps = []
    for layout in layouts:
        model = LM(LMConfig(
            d_model=8, n_heads=2, context=4, n_layers=layout.n_layers,
            residual="block", block_size=layout.block_size,
        ))
        pipeline = Pipeline(
            model, layout, size["n_microbatches"], (1, 4), stage=PacedStage
        )
        for stage in pipeline.stages:
            stage.links, stage.size = links, size
        steps.append((None, together))
        steps.append((layout.mode, partial(pipeline.step, text[:, :-1], text[:, 1:])))
    steps.append((None, together))
    seconds = timing.interleaved(steps, rounds, time.perf_counter)
    slowest = torch.tensor([seconds[layout.mode] for layout in layouts])
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return slowest.tolist()


def measure(rounds: int, **changes) -> dict:
    """By mode: measured seconds of each step, and what the simulator says."""
    size = SIZE | changes
    shape = [size[name] for name in ("n_ranks", "n_virtual", "n_layers", "block_size")]
    layouts = [Layout(*shape, mode) for mode in MODES]
    pace = {name: size[name] for name in ("forward", "backward", "per_tensor")}
    expected = [simulate(x, size["n_microbatches"], **pace).makespan for x in layouts]
    patience = 60 + 2 * (timing.WARM_UP + rounds) * sum(expected)
    seconds = launch(
        paced_steps, size["n_ranks"], layouts, rounds, size, timeout=patience
    )[0]
    return {
        mode: dict(seconds=times, simulated=simulated)
        for mode, times, simulated in zip(MODES, seconds, expected)
    }


def table(rows: dict) -> str:
    columns = {}
    for mode, row in rows.items():
        measured = statistics.median(row["seconds"])
        apart = measured / row["simulated"] - 1
        columns[mode] = row | dict(measured=measured, apart=apart)
    return timing.table(columns, [
        ("seconds of a step", "{name:18s}"), ("measured", "{measured:9.3f}"),
        ("simulated", "{simulated:10.3f}"), ("apart", "{apart:7.1%}"),
    ])
