"""Steps as a trace for Perfetto (ui.perfetto.dev) or Chrome (chrome://tracing).

The format is Chrome's "Trace Event Format", as JSON: a process for each rank, a thread for
its passes and one for each of its links, a slice ("X") for each pass and message, and an
arrow ("s" to "f") from a message to the pass that waits for it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.simulate import Message, Simulation, following

THREADS = 1000                         # more than a rank's: numbers of threads are unique
KINDS = {"F": "forward", "B": "backward"}


def chrome_trace(
    steps: Mapping[str, Simulation], layout: Layout, unit: float = 1.0
) -> dict:
    """The JSON object of a trace file. steps: name -> a simulated or recorded step of this
    layout; they stand below each other and begin together. unit: seconds of the steps' unit
    of time; the file counts in whole microseconds."""
    events = []
    for number, (name, step) in enumerate(steps.items()):
        first = 1 + number * layout.n_ranks            # process 0 is the system's
        arrow = len(events)                            # arrows are told apart by number
        events += names(step, layout, name, first)
        events += passes(step, first, 1e6 * unit)
        events += messages(step, layout, first, 1e6 * unit, arrow)
    return dict(traceEvents=events, displayTimeUnit="ms")


def write_trace(
    path: str | Path, steps: Mapping[str, Simulation], layout: Layout, unit: float = 1.0
) -> Path:
    """`chrome_trace` in a file, whose path is returned: open it in ui.perfetto.dev."""
    text = json.dumps(chrome_trace(steps, layout, unit))
    path = Path(path)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def names(step: Simulation, layout: Layout, name: str, first: int) -> Iterator[dict]:
    """What processes and threads are called, and in which order they stand."""
    links = {link(message, layout) for message in step.messages}
    threads = {(span.rank, 0): "passes" for span in step.spans}
    threads |= {(sender, 1 + to): f"link to rank {to}" for sender, to in links}
    for (rank, thread), label in sorted(threads.items()):
        for key, value in (
            ("process_name", dict(name=f"{name}: rank {rank}")),
            ("process_sort_index", dict(sort_index=first + rank)),
            ("thread_name", dict(name=label)),
            ("thread_sort_index", dict(sort_index=thread)),
        ):
            yield dict(name=key, ph="M", **place(first + rank, thread), args=value)


def passes(step: Simulation, first: int, scale: float) -> Iterator[dict]:
    for rank, action, start, end in step.spans:
        yield dict(
            name=title(action), cat=KINDS[action.kind], ph="X",
            **place(first + rank), **times(start, end, scale),
            args=dict(chunk=action.chunk, microbatch=action.microbatch),
        )


def messages(
    step: Simulation, layout: Layout, first: int, scale: float, arrow: int
) -> Iterator[dict]:
    span_of = {span.action: span for span in step.spans}
    for number, message in enumerate(step.messages, start=arrow):
        action, n_tensors, start, end = message
        sender, to = link(message, layout)
        waiting = span_of[following(action, layout)]
        transition = min(action.chunk, waiting.action.chunk)
        here, there = place(first + sender, 1 + to), place(first + waiting.rank)
        yield dict(
            name=title(action), cat="message", ph="X", **here, **times(start, end, scale),
            args=dict(
                chunk=action.chunk, microbatch=action.microbatch, n_tensors=n_tensors,
                carries=("" if action.kind == "F" else "gradients of ")
                + ", ".join(layout.cargo(transition)),
            ),
        )
        tie = dict(name="message", cat="message", id=number)
        yield dict(tie, ph="s", **here, ts=round(scale * start))
        # bp "e": to the slice that is there, not to the next one to begin.
        yield dict(tie, ph="f", bp="e", **there, ts=round(scale * waiting.start))


def title(action) -> str:
    return f"{action.kind} c{action.chunk} m{action.microbatch}"


def link(message: Message, layout: Layout) -> tuple[int, int]:
    """The ranks that it goes from and to."""
    receiver = following(message.action, layout)
    return layout.rank(message.action.chunk), layout.rank(receiver.chunk)


def place(process: int, thread: int = 0) -> dict:
    """Perfetto finds a thread's name by its number alone, so no two share one."""
    return dict(pid=process, tid=process * THREADS + thread)


def times(start: float, end: float, scale: float) -> dict:
    """Both ends rounded alike, so that what follows each other does not overlap."""
    return dict(ts=round(scale * start), dur=round(scale * end) - round(scale * start))
