"""The simulated schedule: exact where a formula exists, causal everywhere."""

import math
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules

from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.layout import MODES
from attnres_ref.pipeline.plan import Job
from attnres_ref.pipeline.simulate import Action, order


@pytest.mark.parametrize("n_ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("n_virtual", [1, 2, 4])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_makespan_with_free_links_is_exact(n_ranks, n_virtual, rounds):
    n_microbatches = rounds * n_ranks
    run = simulate(Layout(n_ranks, n_virtual, 32, 4), n_microbatches, forward=1, backward=2)
    assert run.makespan == (n_microbatches * n_virtual + n_ranks - 1) * 3
    assert run.busy == pytest.approx(n_microbatches * n_virtual * 3 / run.makespan)


def test_one_microbatch_by_hand():
    """Two ranks, no overlap: every second is accounted for."""
    run = simulate(Layout(2, 1, 4, 2), 1, forward=1, backward=2, per_tensor=10, latency=100)
    # One chunk ends with b_0 and b_1: two tensors down, two gradients back.
    assert [(m.action, m.n_tensors, m.start, m.end) for m in run.messages] == [
        (Action("F", 0, 0), 2, 1, 21),
        (Action("B", 1, 0), 2, 124, 144),
    ]
    assert run.makespan == 1 + 20 + 100 + 1 + 2 + 20 + 100 + 2
    assert run.peak_tensors == [0, 2]


def test_a_job_by_hand():
    """The same step, from operations, bytes and bandwidth."""
    job = Job(
        n_ranks=2, n_virtual=1, n_layers=4, d_model=3, parameters=10, n_microbatches=1,
        tokens=5, flops=50, bandwidth=3, latency=100,
    )
    assert job.forward == 2 * (10 / 2) * 5 / 50 == 1       # two operations a parameter
    assert job.per_tensor == 5 * 3 * 2 / 3 == 10           # two bytes a number
    assert job.simulate(block_size=2).makespan == 246
    assert job.simulate().makespan == 226                  # PreNorm: one tensor each way
    assert job.overhead(2, "naive") == 246 / 226 - 1
    assert (Job.latency, Job.n_bytes) == (1e-5, 2)         # ten microseconds, and bf16
    for name, fault in (("n_ranks", 0), ("flops", 0.0), ("bandwidth", math.nan)):
        with pytest.raises(ValueError, match=f"{name} is {fault}: it must be"):
            replace(job, **{name: fault})


@st.composite
def cases(draw):
    n_ranks, n_virtual = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    n_layers = draw(st.integers(n_ranks * n_virtual, 40))
    block_size = draw(st.integers(1, n_layers))
    mode = draw(st.sampled_from(MODES))
    n_microbatches = n_ranks * draw(st.integers(1, 3))
    some = st.sampled_from([0, 1, 3, 20])
    times = dict(per_tensor=draw(some), latency=draw(some))
    return Layout(n_ranks, n_virtual, n_layers, block_size, mode), n_microbatches, times


@given(cases())
@settings(max_examples=150, deadline=None)
def test_everything_happens_as_soon_as_it_can_and_no_sooner(case):
    layout, n_microbatches, times = case
    run = simulate(layout, n_microbatches, forward=2, backward=5, **times)
    span_of = {span.action: span for span in run.spans}
    assert len(span_of) == len(run.spans) == 2 * layout.n_chunks * n_microbatches
    rank_free, link_free, arrival = defaultdict(int), defaultdict(int), defaultdict(int)
    for message in sorted(run.messages, key=lambda message: message.start):
        kind, chunk, microbatch = message.action
        receiver = Action(kind, chunk + (1 if kind == "F" else -1), microbatch)
        transition = min(chunk, receiver.chunk)
        link = layout.rank(chunk), layout.rank(receiver.chunk)
        assert message.n_tensors == layout.n_tensors(transition)
        assert message.start == max(span_of[message.action].end, link_free[link])
        assert message.end == message.start + message.n_tensors * times["per_tensor"]
        link_free[link] = message.end
        arrival[receiver] = message.end + times["latency"]
    for span in sorted(run.spans, key=lambda span: span.start):
        assert span.rank == layout.rank(span.action.chunk)
        assert span.start == max(rank_free[span.rank], arrival[span.action])
        assert span.end == span.start + (2 if span.action.kind == "F" else 5)
        rank_free[span.rank] = span.end
    crossings = len(layout.transitions) if layout.n_ranks > 1 else 0
    assert len(run.messages) == 2 * crossings * n_microbatches


@given(cases())
@settings(max_examples=50, deadline=None)
def test_less_on_the_wire_is_never_later(case):
    layout, n_microbatches, times = case
    spent = [
        simulate(Layout(layout.n_ranks, layout.n_virtual, layout.n_layers,
                        layout.block_size, mode), n_microbatches, **times).makespan
        for mode in MODES
    ]
    assert spent == sorted(spent, reverse=True)


def test_order_is_the_engines():
    """Read off the schedule's own plan, without the pauses that mark its time steps."""
    actions = order(4, 2, 8)
    assert [a for a in actions[0][:6]] == [
        *(Action("F", 0, m) for m in range(4)), Action("F", 4, 0), Action("F", 4, 1),
    ]
    assert actions[3][-1] == Action("B", 3, 7)
    for rank, planned in actions.items():
        assert len(planned) == len(set(planned)) == 2 * 2 * 8
        assert {a.chunk for a in planned} == {rank, rank + 4}


@pytest.mark.parametrize(
    "name", ["ScheduleInterleavedZeroBubble", "ScheduleZBVZeroBubble", "ScheduleDualPipeV"]
)
def test_schedules_that_split_the_backward_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}, which splits the backward"):
        order(4, 2, 8, getattr(schedules, name))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(n_microbatches=9), "number of microbatches"),
        (dict(n_microbatches=8, per_tensor=-1), "per_tensor is -1"),
        (dict(n_microbatches=8, forward=-1), "forward is -1"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(Layout(4, 2, 16, 4), **arguments)
