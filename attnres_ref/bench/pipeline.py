"""The simulator against real processes, on links and ranks of a known speed.

    python -m attnres_ref.bench.pipeline --json notebooks/recorded/pipeline_paced.json

The engine runs as it always does, except that every pass of a chunk takes a fixed time
(it sleeps), and that a message waits for its turn and its time on a paced link before it
is sent. The step is then timed and compared with `simulate`. Nothing else should run
beside it: a sleep that ends late is counted.
"""

import queue
import statistics
import threading
import time

import torch
import torch.distributed as dist

from attnres_ref.bench.training import command
from attnres_ref.model import LM, LMConfig
from attnres_ref.pipeline.counting import CountingStage
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.pipeline.simulate import simulate

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

    forward: float
    backward: float
    links: dict[int, Link]             # by receiving rank

    def forward_one_chunk(self, *args, **kwargs):
        output = super().forward_one_chunk(*args, **kwargs)
        time.sleep(self.forward)
        return output

    def backward_one_chunk(self, *args, **kwargs):
        super().backward_one_chunk(*args, **kwargs)
        time.sleep(self.backward)

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
    seconds = []
    for layout in layouts:
        torch.manual_seed(0)
        model = LM(LMConfig(
            d_model=8, n_heads=2, context=4, n_layers=layout.n_layers,
            residual="block", block_size=layout.block_size,
        ))
        links = {rank: Link(size["per_tensor"]) for rank in range(layout.n_ranks)}
        pipeline = Pipeline(
            model, layout, size["n_microbatches"], (1, 4), stage=PacedStage
        )
        for stage in pipeline.stages:
            stage.links = links
        text = torch.randint(256, (size["n_microbatches"], 5))
        times = []
        for round_ in range(-1, rounds):
            for stage in pipeline.stages:          # the first step sets things up
                stage.forward = size["forward"] if round_ >= 0 else 0.0
                stage.backward = size["backward"] if round_ >= 0 else 0.0
            dist.barrier()
            began = time.perf_counter()
            pipeline.step(text[:, :-1], text[:, 1:])
            spent = torch.tensor(time.perf_counter() - began)
            for link in links.values():
                link.messages.join()
            dist.all_reduce(spent, dist.ReduceOp.MAX)
            if round_ >= 0:
                times.append(spent.item())
        seconds.append(times)
    return seconds


def measure(rounds: int, **changes) -> dict:
    """By mode: measured seconds of each step, and what the simulator says."""
    size = SIZE | changes
    shape = [size[name] for name in ("n_ranks", "n_virtual", "n_layers", "block_size")]
    layouts = [Layout(*shape, mode) for mode in MODES]
    seconds = launch(paced_steps, size["n_ranks"], layouts, rounds, size)[0]
    times = {name: size[name] for name in ("forward", "backward", "per_tensor")}
    return {
        layout.mode: dict(
            seconds=found,
            simulated=simulate(layout, size["n_microbatches"], **times).makespan,
        )
        for layout, found in zip(layouts, seconds)
    }


def table(rows: dict) -> str:
    lines = [f"{'seconds of a step':18s}{'measured':>10s}{'simulated':>11s}{'apart':>8s}"]
    for mode, row in rows.items():
        median = statistics.median(row["seconds"])
        apart = median / row["simulated"] - 1
        lines.append(f"{mode:18s}{median:10.3f}{row['simulated']:11.3f}{apart:8.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, table, size=SIZE)
