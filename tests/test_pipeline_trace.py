"""A trace file, held against what Perfetto's importer of JSON does with it.

From "Trace Event Format" and Perfetto's json_trace_parser, slice_tracker and flow_tracker:
events are taken in order of time, those of one time as they stand in the file; an arrow's
end belongs to the slice last begun on its thread, and its start must have been seen; both
share category, name and number; a thread's name is looked up by its number alone, and
process 0 is the system's.
"""

import json
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import torch.distributed as dist

import ranks
from attnres_ref.pipeline import Layout, paced, simulate
from attnres_ref.pipeline.counting import CountingStage
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.paced import Link, Pace, PacedStage, record
from attnres_ref.pipeline.plan import OneSum
from attnres_ref.pipeline.simulate import following, order
from attnres_ref.pipeline.trace import chrome_trace, write_trace

FIELDS = {
    "M": {"args"},
    "X": {"cat", "ts", "dur", "args"},
    "s": {"cat", "id", "ts"},
    "f": {"cat", "id", "ts", "bp"},
}
SHAPE = 4, 2, 16, 4
STEPS = {
    "free links": (Layout(*SHAPE), {}),
    "thirds": (Layout(*SHAPE, "received"), dict(per_tensor=1 / 3, latency=0.1)),
    "rounded up": (Layout(*SHAPE), dict(forward=0.1236, backward=0.7657, per_tensor=1e-4)),
    "busy links": (Layout(*SHAPE, "all"), dict(forward=0.7, per_tensor=2.9)),
    "cut blocks": (Layout(3, 2, 13, 3, "all"), dict(per_tensor=0.25)),
    "PreNorm": (OneSum(*SHAPE[:3], 16), dict(per_tensor=0.5)),
    "one rank": (Layout(1, 2, 8, 2), {}),
}


def imported(trace):
    """The slices, and from which to which the arrows go. Raises where Perfetto would drop
    something, draw it in the wrong place or without a name."""
    processes, named, arrows, last, begun = {}, set(), [], {}, {}
    events = trace["traceEvents"]
    for event in events:
        assert {"name", "ph", "pid", "tid"} | FIELDS[event["ph"]] == set(event)
        numbers = [event[key] for key in ("pid", "tid", "ts", "dur", "id") if key in event]
        assert all(type(number) is int and number >= 0 for number in numbers), event
        assert event["name"] and event["pid"] > 0
        assert processes.setdefault(event["tid"], event["pid"]) == event["pid"]
        if event["ph"] == "M":
            (key, value), = event["args"].items()
            assert event["name"].endswith("_" + key) and type(value) in (str, int)
            named.add((event["tid"], event["name"]))
    kinds = "process_name", "process_sort_index", "thread_name", "thread_sort_index"
    assert named == {(tid, kind) for tid in processes for kind in kinds}
    for event in sorted((e for e in events if e["ph"] != "M"), key=lambda e: e["ts"]):
        before = last.get(event["tid"])
        if event["ph"] == "X":
            assert before is None or before["ts"] + before["dur"] <= event["ts"]
            last[event["tid"]] = event
            continue
        assert before["ts"] <= event["ts"] <= before["ts"] + before["dur"]
        key = event["id"], event["cat"], event["name"]
        if event["ph"] == "s":
            assert key not in begun, "a number is used twice"
            begun[key] = before
        else:
            assert event["bp"] == "e"
            arrows.append((begun[key], before))
    assert len(arrows) == len(begun)
    return [event for event in events if event["ph"] == "X"], arrows


def titles(trace):
    """The names of the processes, by number."""
    return {event["pid"]: event["args"]["name"] for event in trace["traceEvents"]
            if event["name"] == "process_name"}


@pytest.mark.parametrize("name", STEPS)
def test_a_simulated_step_is_there_with_all_its_times_and_arrows(name):
    layout, times = STEPS[name]
    step = simulate(layout, 4 * layout.n_ranks, **times)
    trace = json.loads(json.dumps(chrome_trace({"x": step}, layout, unit=1e-3)))
    slices, arrows = imported(trace)
    assert len(slices) == len(step.spans) + len(step.messages)
    assert len(arrows) == len(step.messages)
    for message, action in arrows:
        kind, chunk, microbatch = message["name"].split()
        next_chunk = int(chunk[1:]) + (1 if kind == "F" else -1)
        assert action["name"] == f"{kind} c{next_chunk} {microbatch}"
        assert action["cat"] == {"F": "forward", "B": "backward"}[kind]
        names = message["args"]["carries"].removeprefix("gradients of ").split(", ")
        assert len(names) == message["args"]["n_tensors"]

    passes = [event for event in slices if event["cat"] != "message"]
    last = max(event["ts"] + event["dur"] for event in passes)
    assert last == round(1000 * step.makespan)
    names_of, computed = titles(trace), Counter()
    for event in passes:
        computed[names_of[event["pid"]]] += event["dur"]
    for rank in range(layout.n_ranks):
        own = [span for span in step.spans if span.rank == rank]
        planned = 1000 * sum(span.end - span.start for span in own)
        assert computed[f"x: rank {rank}"] == pytest.approx(planned, abs=len(own))


def test_whole_microseconds_are_exact():
    step = simulate(Layout(*SHAPE, "received"), 8, 0.03, 0.06, 0.04)
    slices, _ = imported(chrome_trace({"x": step}, Layout(*SHAPE, "received")))
    lasts = Counter((event["cat"], event["dur"]) for event in slices)
    assert lasts["forward", 30_000] == lasts["backward", 60_000] == 64
    for count in (1, 2, 3):
        planned = sum(message.n_tensors == count for message in step.messages)
        assert lasts["message", 40_000 * count] == planned


def test_what_a_message_carries():
    layout = Layout(*SHAPE, "received")
    slices, _ = imported(chrome_trace({"x": simulate(layout, 4, per_tensor=1)}, layout))
    carried = {e["name"]: e["args"]["carries"] for e in slices if e["cat"] == "message"}
    assert carried["F c0 m0"] == "b0, partial sum"
    assert carried["F c5 m3"] == "b2, b3"
    assert carried["B c4 m1"] == "gradients of b1, b2"


def test_record_starts_the_processes():
    real = record(Layout(2, 1, 4, 2), 2)
    assert Counter(span.rank for span in real.spans) == {0: 4, 1: 4}
    assert real.makespan > 0 and len(real.messages) == 4


@pytest.mark.parametrize("pace", [Pace(), Pace(0.004, 0.008, 0.006)], ids=str)
def test_a_real_step_below_the_simulated_one(pace, tmp_path):
    """Times of several processes fit together only if they are counted from one moment:
    when rank 1 began, for rank 0 begins late here."""
    layout = Layout(2, 2, 8, 2, "received")
    simulated = simulate(layout, 4, pace.forward, pace.backward, pace.per_tensor)
    of_ranks = launch(ranks.a_late_start, 2, layout, 4, pace)
    real = of_ranks[0][0]
    path = write_trace(tmp_path / "step.json", dict(simulated=simulated, real=real), layout)
    trace = json.loads(path.read_text())
    assert len(imported(trace)[1]) == 2 * len(simulated.messages)
    assert titles(trace) == {1: "simulated: rank 0", 2: "simulated: rank 1",
                             3: "real: rank 0", 4: "real: rank 1"}

    span_of = {span.action: span for span in real.spans}
    for rank, planned in order(2, 2, 4).items():
        done = [span for span in real.spans if span.rank == rank]
        assert [span.action for span in done] == [*planned]
        for one, other in zip(done, done[1:]):
            assert one.end <= other.start
        for span in done:
            length = dict(F=pace.forward, B=pace.backward)[span.action.kind]
            assert span.end - span.start > 0.99 * length
    counts = {message.action: message.n_tensors for message in simulated.messages}
    assert counts == {message.action: message.n_tensors for message in real.messages}
    for action, n_tensors, start, end in real.messages:
        waiting = span_of[following(action, layout)]
        assert span_of[action].end <= start
        assert end - start == pytest.approx(n_tensors * pace.per_tensor)
        assert waiting.start >= end - 1e-4
    zero = min(began for _, began, _ in of_ranks)
    for _, _, first in of_ranks:
        assert span_of[first.action].start == first.start - zero
    assert real.peak_tensors == simulated.peak_tensors


class Clock:
    """It stands still; who sleeps wakes up a second late."""

    time = 0.0

    def sleep_until(self, due):
        self.time = max(self.time, due) + 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(paced, "now", lambda: clock.time)
    monkeypatch.setattr(paced, "sleep_until", clock.sleep_until)
    return clock


def test_what_a_pass_computes_is_part_of_its_time(clock, monkeypatch):
    def work(*_, **__):
        clock.time += 7

    for name in ("forward_one_chunk", "backward_one_chunk"):
        monkeypatch.setattr(CountingStage, name, work)
    stage = PacedStage.__new__(PacedStage)
    stage.pace, stage.spans, stage.stage_index, stage.group_rank = Pace(30, 60), [], 5, 1
    stage.forward_one_chunk(2)
    stage.backward_one_chunk(3)
    assert stage.spans == [(1, ("F", 5, 2), 0, 31), (1, ("B", 5, 3), 31, 92)]


def test_a_late_link_does_not_put_off_what_waits(clock, monkeypatch):
    sent = []
    monkeypatch.setattr(dist, "isend", lambda tensor, peer: sent.append((tensor, peer)))
    link = Link(per_tensor=10)
    for action, names in (("one", "ab"), ("two", "c")):
        link.queue.put((0.0, action, [SimpleNamespace(tensor=n, peer=3) for n in names]))
    link.queue.join()
    assert link.messages == [("one", 2, 0, 20), ("two", 1, 20, 30)]
    assert sent == [("a", 3), ("b", 3), ("c", 3)]


def test_what_a_send_raises_is_raised_where_the_rank_can_see_it(monkeypatch):
    """In the link's thread it would be lost, and the rank would wait for ever."""
    def fail(tensor, peer):
        raise RuntimeError(f"no way to {peer}")

    monkeypatch.setattr(dist, "isend", fail)
    link = Link(per_tensor=0)
    for action in ("one", "two"):
        link.queue.put((0.0, action, [SimpleNamespace(tensor="a", peer=3)]))
    raised = []

    def finish():
        with pytest.raises(RuntimeError) as found:
            link.finish()
        raised.append(str(found.value))

    waiting = threading.Thread(target=finish, daemon=True)
    waiting.start()
    waiting.join(10)
    assert raised == ["no way to 3"] and link.messages == []

    stage = PacedStage.__new__(PacedStage)             # and nothing more is handed over
    stage.links, stage.stage_index = {3: link}, 5
    with pytest.raises(RuntimeError, match="no way to 3"):
        stage.hand_over("F", 0, [SimpleNamespace(tensor="a", peer=3)])


def test_a_closed_link_leaves_no_thread(monkeypatch):
    sent = []
    work = SimpleNamespace(wait=lambda: sent.append(1))
    monkeypatch.setattr(dist, "isend", lambda tensor, peer: work)
    link = Link(per_tensor=0)
    link.queue.put((0.0, "one", [SimpleNamespace(tensor="a", peer=3)]))
    link.close()
    assert sent == [1] and not link.thread.is_alive()


def test_a_pace_that_cannot_be():
    with pytest.raises(ValueError, match="backward is -1.0: it must be at least 0"):
        Pace(backward=-1)
