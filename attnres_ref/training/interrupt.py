"""Ctrl-C and SIGTERM between two steps, never within one."""

import signal
import threading
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def finish_step_when_stopped():
    """Within, the first Ctrl-C, or SIGTERM (of a batch system that wants its machine back),
    only sets `requested` of what is yielded, so that no step is torn and a checkpoint can
    be saved; a second one ends the process at once. One that is ignored stays ignored."""
    stop, previous = SimpleNamespace(requested=False), {}

    def request(signum, frame):
        stop.requested = True
        put_back()

    def put_back():
        for number, handler in previous.items():
            signal.signal(number, handler)

    # Signals reach the main thread only. A handler of None is not Python's to put back.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                previous[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        put_back()
