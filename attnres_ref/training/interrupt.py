"""Ctrl-C and SIGTERM between two steps, never within one."""

import signal
import threading
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def finish_step_when_stopped():
    """Within, the first Ctrl-C, or SIGTERM of a system that wants its machine back, only
    sets `requested` of what is yielded, so that no step is torn and a checkpoint can be
    saved; a second one ends the process at once."""
    stop, previous = SimpleNamespace(requested=False), {}

    def put_back():
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(signum, frame):
        stop.requested = True
        put_back()

    if threading.current_thread() is threading.main_thread():      # signals reach it only
        previous = {n: signal.signal(n, request) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        put_back()
