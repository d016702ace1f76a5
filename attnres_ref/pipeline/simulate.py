"""Interleaved 1F1B on a clock: what each rank does when, and when each message moves.

The order of actions is not ours: it is read from PyTorch's own ScheduleInterleaved1F1B,
the one that `engine.py` runs. Two rules turn it into times. An action starts as soon as
its rank is free and its message is there. A link carries one message at a time, in the
order in which they were sent, while the ranks go on computing.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

from torch.distributed.pipelining import ScheduleInterleaved1F1B

from attnres_ref.fields import is_real, is_whole
from attnres_ref.pipeline.layout import Layout


class Action(NamedTuple):
    """One pass of one micro-batch through one chunk."""

    kind: str                  # "F" forward, "B" backward
    chunk: int
    microbatch: int


class Span(NamedTuple):
    """An action on its rank, from start to end."""

    rank: int
    action: Action
    start: float
    end: float


class Message(NamedTuple):
    """What the end of `action` sends to the next chunk (to the previous one if "B")."""

    action: Action
    n_tensors: int
    start: float               # the first byte leaves: the link may have been busy
    end: float                 # the last byte has left; it arrives `latency` later


@dataclass(frozen=True)
class Simulation:
    """A simulated step: forward and backward of all micro-batches."""

    spans: list[Span]
    messages: list[Message]
    peak_tensors: list[int]    # by rank: most tensors received and waiting for backward

    @property
    def makespan(self) -> float:
        """When the last rank is done."""
        return max(span.end for span in self.spans)

    @property
    def busy(self) -> float:
        """Mean share of the step that a rank computes."""
        ranks = len(self.peak_tensors)
        return sum(span.end - span.start for span in self.spans) / (ranks * self.makespan)


def simulate(
    layout: Layout, n_microbatches: int, forward: float = 1.0, backward: float = 2.0,
    per_tensor: float = 0.0, latency: float = 0.0,
) -> Simulation:
    """One training step, all times in one unit of your choice.

    forward, backward: a chunk's passes over one micro-batch; per_tensor: a link moves one
    [B, T, d] tensor in this time; latency: added to every message. There is one link for
    each direction between two ranks. With free links the makespan is exactly
    (M V + P - 1) (forward + backward) where P divides the M micro-batches.
    Raises ValueError for a time that is negative or not finite, and for a number of
    micro-batches that the schedule cannot run.
    """
    for name, value in (("forward", forward), ("backward", backward),
                        ("per_tensor", per_tensor), ("latency", latency)):
        if not is_real(value, 0):
            raise ValueError(f"{name} is {value}: a time must be finite and at least 0")
    orders = order(layout.n_ranks, layout.n_virtual, n_microbatches)
    todo = {rank: list(reversed(actions)) for rank, actions in orders.items()}
    arrived = {Action("F", 0, m): 0.0 for m in range(n_microbatches)}
    rank_free, link_free = defaultdict(float), defaultdict(float)
    spans, messages = [], []
    while any(todo.values()):
        ready = [rank for rank, left in todo.items() if left and left[-1] in arrived]
        if not ready:
            raise RuntimeError(f"the schedule is stuck: {todo} wait for each other")
        for rank in ready:
            action = todo[rank].pop()
            start = max(rank_free[rank], arrived[action])
            end = start + (forward if action.kind == "F" else backward)
            rank_free[rank] = end
            spans.append(Span(rank, action, start, end))
            receiver = following(action, layout)
            if receiver is None:
                continue
            if receiver.chunk == action.chunk or layout.n_ranks == 1:
                arrived[receiver] = end                            # nothing to send
                continue
            link = rank, layout.rank(receiver.chunk)
            n_tensors = layout.n_tensors(min(action.chunk, receiver.chunk))
            leaves = max(end, link_free[link])
            link_free[link] = leaves + n_tensors * per_tensor
            arrived[receiver] = link_free[link] + latency
            messages.append(Message(action, n_tensors, leaves, link_free[link]))
    return Simulation(spans, messages, peaks(layout, spans, layout.received))


def following(action: Action, layout: Layout) -> Action | None:
    """The action that waits for this one, on another rank or (at the loss) on the same."""
    kind, chunk, microbatch = action
    if kind == "F" and chunk < layout.n_chunks - 1:
        return Action("F", chunk + 1, microbatch)
    if kind == "F":
        return Action("B", chunk, microbatch)
    return Action("B", chunk - 1, microbatch) if chunk > 0 else None


def peaks(
    layout: Layout, spans: list[Span], tensors: Callable[[int], int]
) -> list[int]:
    """By rank, the most tensors that wait for a backward pass, where a micro-batch of chunk
    c has tensors(c) of them. Of those received a kept block is one, however often it is
    read: it waits for the chunk that it arrived for."""
    held, peak = [0] * layout.n_ranks, [0] * layout.n_ranks
    for rank, action, _, _ in sorted(spans, key=lambda span: span.start):
        more = tensors(action.chunk)
        held[rank] += more if action.kind == "F" else -more
        peak[rank] = max(peak[rank], held[rank])
    return peak


@lru_cache(maxsize=64, typed=True)     # 4.0 is not 4 micro-batches
def order(
    n_ranks: int, n_virtual: int, n_microbatches: int, schedule=ScheduleInterleaved1F1B
) -> dict[int, tuple[Action, ...]]:
    """Each rank's actions, in the order of PyTorch's schedule; no processes are needed.

    Raises ValueError where the schedule cannot run `n_microbatches`, and for one that
    splits the backward pass in two: the gradient of a kept block comes back in one piece.
    """
    if not is_whole(n_microbatches, 1):
        raise ValueError(
            f"n_microbatches is {n_microbatches!r}: it must be a whole number, at least 1"
        )
    # All that a schedule asks of its stages before it runs.
    stub = SimpleNamespace(
        num_stages=n_ranks * n_virtual, group_size=n_ranks, group_rank=0, submod=None
    )
    planned = schedule([stub] * n_virtual, n_microbatches).pipeline_order
    kinds = {"FORWARD": "F", "FULL_BACKWARD": "B"}
    orders = {
        rank: tuple(
            Action(kinds.get(a.computation_type.name), a.stage_index, a.microbatch_index)
            for a in actions
            if a is not None                       # a pause
        )
        for rank, actions in planned.items()
    }
    if any(action.kind is None for actions in orders.values() for action in actions):
        raise ValueError(
            f"schedule is {schedule.__name__}, which splits the backward pass, and a kept "
            "block's gradient would not come back: use ScheduleInterleaved1F1B"
        )
    return orders
