"""A trace file, held against what Perfetto's importer of JSON asks for.

Its rules, from "Trace Event Format" and Perfetto's own reader: slices of a thread nest or
follow each other; an arrow's ends share category, name and number, and each finds the
slice that it is drawn from on its own thread, at its time; a thread's name is looked up by
its number alone; process 0 is the system's.
"""

import json
from collections import Counter, defaultdict

import pytest

from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.paced import Pace, record
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
    "busy links": (Layout(*SHAPE, "all"), dict(forward=0.7, per_tensor=2.9)),
    "cut blocks": (Layout(3, 2, 13, 3, "all"), dict(per_tensor=0.25)),
    "PreNorm": (OneSum(*SHAPE[:3], 16), dict(per_tensor=0.5)),
    "one rank": (Layout(1, 2, 8, 2), {}),
}


def slices(trace):
    """Thread -> its slices, in order of time."""
    found = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            found[event["tid"]].append(event)
    return {tid: sorted(own, key=lambda e: e["ts"]) for tid, own in found.items()}


def at(trace, end):
    """The slice that an arrow's end is drawn from."""
    inside = [
        e for e in slices(trace)[end["tid"]] if e["ts"] <= end["ts"] <= e["ts"] + e["dur"]
    ]
    return max(inside, key=lambda e: e["ts"])          # of two that touch, the later


def check(trace):
    """Raises where Perfetto would drop something, or draw it in the wrong place."""
    processes, named = {}, set()
    for event in trace["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} | FIELDS[event["ph"]] == set(event)
        numbers = [event[key] for key in ("pid", "tid", "ts", "dur", "id") if key in event]
        assert all(type(number) is int and number >= 0 for number in numbers), event
        assert event["name"] and event["pid"] > 0
        assert processes.setdefault(event["tid"], event["pid"]) == event["pid"]
        if event["ph"] == "M":
            (key, value), = event["args"].items()
            assert event["name"].endswith("_" + key)
            named.add((event["tid"], event["name"]))
    kinds = "process_name", "process_sort_index", "thread_name", "thread_sort_index"
    assert named == {(tid, kind) for tid in processes for kind in kinds}
    for own in slices(trace).values():
        for one, other in zip(own, own[1:]):
            assert one["ts"] + one["dur"] <= other["ts"], (one, other)
    arrows = defaultdict(dict)
    for event in trace["traceEvents"]:
        if event["ph"] in "sf":
            assert event["ph"] not in arrows[event["id"]], "a number is used twice"
            arrows[event["id"]][event["ph"]] = event
    for ends in arrows.values():
        start, end = ends["s"], ends["f"]
        assert (start["name"], start["cat"]) == (end["name"], end["cat"])
        assert start["ts"] <= end["ts"] and end["bp"] == "e"
        message, action = at(trace, start), at(trace, end)
        assert message["cat"] == "message" and action["cat"] in ("forward", "backward")
        yield message, action


@pytest.mark.parametrize("name", STEPS)
def test_a_simulated_step_is_there_with_all_its_times_and_arrows(name):
    layout, times = STEPS[name]
    step = simulate(layout, 4 * layout.n_ranks, **times)
    trace = json.loads(json.dumps(chrome_trace({"x": step}, layout, unit=1e-3)))
    arrows = [*check(trace)]
    assert len(arrows) == len(step.messages)
    for message, action in arrows:
        kind, chunk, microbatch = message["name"].split()
        next_chunk = int(chunk[1:]) + (1 if kind == "F" else -1)
        assert action["name"] == f"{kind} c{next_chunk} {microbatch}"
        names = message["args"]["carries"].removeprefix("gradients of ").split(", ")
        assert len(names) == message["args"]["n_tensors"]

    own = [e for found in slices(trace).values() for e in found]
    assert len(own) == len(step.spans) + len(step.messages)
    by_rank = Counter()
    for span in step.spans:
        by_rank[f"x: rank {span.rank}"] += 1000 * (span.end - span.start)
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"]
             if e["name"] == "process_name"}
    for event in own:
        if event["cat"] != "message":
            by_rank[names[event["pid"]]] -= event["dur"]
    assert max(map(abs, by_rank.values())) <= len(step.spans)       # rounded to 1 us each
    last = max(e["ts"] + e["dur"] for e in own if e["cat"] != "message")
    assert last == round(1000 * step.makespan)


def test_whole_microseconds_are_exact():
    layout = Layout(*SHAPE, "received")
    step = simulate(layout, 8, 0.03, 0.06, 0.04)
    lasts = [e["dur"] for found in slices(chrome_trace({"x": step}, layout)).values()
             for e in found if e["cat"] != "message"]
    assert Counter(lasts) == {30_000: 64, 60_000: 64}
    message = chrome_trace({"x": step}, layout)["traceEvents"][-3]
    assert message["name"] == "B c3 m7" or message["cat"] == "message"


def test_what_a_message_carries():
    layout = Layout(*SHAPE, "received")
    trace = chrome_trace({"x": simulate(layout, 4, per_tensor=1)}, layout)
    carried = {e["name"]: e["args"]["carries"] for e in trace["traceEvents"]
               if e["ph"] == "X" and e["cat"] == "message"}
    assert carried["F c0 m0"] == "b0, partial sum"
    assert carried["F c5 m3"] == "b2, b3"
    assert carried["B c4 m1"] == "gradients of b1, b2"


@pytest.mark.parametrize("pace", [Pace(), Pace(0.004, 0.008, 0.006)], ids=str)
def test_a_real_step_below_the_simulated_one(pace, tmp_path):
    """Times of several processes fit together only if their clock is one."""
    layout = Layout(2, 2, 8, 2, "received")
    simulated = simulate(layout, 4, pace.forward, pace.backward, pace.per_tensor)
    real = record(layout, 4, pace)
    path = write_trace(tmp_path / "step.json", dict(simulated=simulated, real=real), layout)
    trace = json.loads(path.read_text())
    assert len([*check(trace)]) == 2 * len(simulated.messages)
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"]
             if e["name"] == "process_name"}
    assert names == {1: "simulated: rank 0", 2: "simulated: rank 1",
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
        assert waiting.start > end - 1e-3
    assert min(span.start for span in real.spans) >= 0
    assert real.peak_tensors == simulated.peak_tensors


def test_a_pace_that_cannot_be():
    with pytest.raises(ValueError, match="backward is -1.0: it must be at least 0"):
        Pace(backward=-1)
