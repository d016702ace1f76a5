"""Real steps of a known speed, and on record: what the simulator says, seen on processes.

The engine runs as it always does, except that a pass of a chunk lasts as long as it is
told to, and that a message waits for its turn and its time on a link before it is sent.
Both keep to a timetable: a pass ends its time after it began, whatever it computed in
between, and a link that woke up late does not put off the messages behind. Every pass and
message is noted, in the terms of `simulate`.
"""

import queue
import threading
import time
from dataclasses import astuple, dataclass

import torch
import torch.distributed as dist

from attnres_ref.fields import check_bounds, check_types
from attnres_ref.model import LM, LMConfig
from attnres_ref.pipeline.counting import CountingStage
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.simulate import Action, Message, Simulation, Span, simulate

# On Linux, macOS and Windows it is a clock of the machine, not of the process: times that
# its processes note can be compared. Between machines they cannot.
now = time.perf_counter


@dataclass(frozen=True)
class Pace:
    """Seconds: of a chunk's forward and backward pass over a micro-batch, and of one tensor
    on a link. At 0 they take what they take. Raises ValueError for a negative one."""

    forward: float = 0.0
    backward: float = 0.0
    per_tensor: float = 0.0

    def __post_init__(self):
        check_types(self)
        check_bounds(self, ("forward", "backward", "per_tensor"), 0)


class Link:
    """One direction between two ranks: a message at a time, `per_tensor` seconds for
    each of its tensors, while the rank goes on computing.

    What a send raises is raised by `check` and `finish`, where the rank can see it."""

    def __init__(self, per_tensor: float):
        self.per_tensor, self.queue = per_tensor, queue.Queue()
        self.messages: list[Message] = []              # of this step
        self.under_way: list[dist.Work] = []           # sends that nobody has waited for
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()

    def carry(self) -> None:
        end = 0.0
        for handed_over, action, ops in iter(self.queue.get, None):
            start = max(handed_over, end)
            end = start + len(ops) * self.per_tensor
            sleep_until(end)
            try:
                # Not to be waited for here: gloo delivers when the receiver asks, which may
                # be later, and the messages behind go to other chunks.
                self.under_way += [dist.isend(op.tensor, op.peer) for op in ops]
                self.messages.append(Message(action, len(ops), start, end))
            except Exception as error:
                self.error = self.error or error
            finally:
                self.queue.task_done()

    def check(self) -> None:
        if self.error:
            raise self.error

    def finish(self) -> None:
        self.queue.join()
        self.check()
        while self.under_way:
            self.under_way.pop().wait()

    def close(self) -> None:
        self.finish()
        self.queue.put(None)
        self.thread.join()


class PacedStage(CountingStage):
    """Passes of known length, and messages handed to paced links; all on record."""

    pace: Pace
    links: dict[int, Link]             # by receiving rank
    spans: list[Span]                  # of all stages of the rank

    def forward_one_chunk(self, fwd_chunk_id, *args, **kwargs):
        start = now()
        output = super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)
        self.end("F", fwd_chunk_id, start, start + self.pace.forward)
        return output

    def backward_one_chunk(self, bwd_chunk_id, *args, **kwargs):
        start = now()
        super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)
        self.end("B", bwd_chunk_id, start, start + self.pace.backward)

    def end(self, kind: str, microbatch: int, start: float, due: float) -> None:
        sleep_until(due)
        action = Action(kind, self.stage_index, microbatch)
        self.spans.append(Span(self.group_rank, action, start, now()))

    def get_fwd_send_ops(self, fwd_chunk_id):
        return self.hand_over("F", fwd_chunk_id, super().get_fwd_send_ops(fwd_chunk_id))

    def get_bwd_send_ops(self, bwd_chunk_id):
        return self.hand_over("B", bwd_chunk_id, super().get_bwd_send_ops(bwd_chunk_id))

    def hand_over(self, kind: str, microbatch: int, ops: list) -> list:
        if ops:
            link = self.links[ops[0].peer]
            link.check()
            action = Action(kind, self.stage_index, microbatch)
            link.queue.put((now(), action, ops))
        return []                      # the engine has nothing left to send


class PacedPipeline:
    """A small LM on the engine, on every rank of the process group at once."""

    def __init__(self, layout: Layout, n_microbatches: int, pace: Pace):
        torch.manual_seed(0)
        model = LM(LMConfig(
            d_model=8, n_heads=2, context=4, n_layers=layout.n_layers,
            residual="block", block_size=layout.block_size,
        ))
        text = torch.randint(256, (n_microbatches, 5))
        self.batch = text[:, :-1], text[:, 1:]
        self.pipeline = Pipeline(model, layout, n_microbatches, (1, 4), stage=PacedStage)
        peers = set(range(layout.n_ranks)) - {dist.get_rank()}
        self.links = {rank: Link(pace.per_tensor) for rank in peers}
        self.began, self.spans = 0.0, []
        for stage in self.pipeline.stages:
            stage.pace, stage.links, stage.spans = pace, self.links, self.spans

    def prepare(self) -> None:
        """All ranks, with nothing under way, so that they begin together."""
        for link in self.links.values():
            link.finish()
            link.messages.clear()
        self.spans.clear()
        dist.barrier()

    def step(self) -> None:
        self.began = now()
        self.pipeline.step(*self.batch)

    def recording(self) -> Simulation:
        """The last step of all ranks, in the terms of a simulated one, on each of them.

        Times are in seconds and count from when the first rank began. Passes are as they
        were; a message has the times that its link gave it, and what gloo takes to deliver
        it comes after its end.
        """
        for link in self.links.values():
            link.finish()
        messages = [message for link in self.links.values() for message in link.messages]
        by_rank = [None] * dist.get_world_size()
        dist.all_gather_object(
            by_rank, (self.began, self.spans, messages, self.pipeline.traffic.peak)
        )
        began, spans, messages, peaks = zip(*by_rank)
        zero = min(began)

        def shifted(entry):
            return entry._replace(start=entry.start - zero, end=entry.end - zero)

        return Simulation(
            [shifted(span) for own in spans for span in own],
            [shifted(message) for own in messages for message in own],
            [*peaks],
        )

    def close(self) -> None:
        """End the threads of the links. No step can follow."""
        for link in self.links.values():
            link.close()


def record(layout: Layout, n_microbatches: int, pace: Pace = Pace()) -> Simulation:
    """One step, after another to warm up, on `n_ranks` processes that `launch` starts."""
    planned = simulate(layout, n_microbatches, *astuple(pace)).makespan
    return launch(
        recorded_step, layout.n_ranks, layout, n_microbatches, pace,
        timeout=60 + 4 * planned,
    )[0]


def recorded_step(layout: Layout, n_microbatches: int, pace: Pace) -> Simulation:
    """What `record` runs on every rank."""
    paced = PacedPipeline(layout, n_microbatches, pace)
    for _ in range(2):
        paced.prepare()
        paced.step()
    recording = paced.recording()
    paced.close()
    return recording


def sleep_until(due: float) -> None:
    time.sleep(max(0.0, due - now()))
