"""Ctrl-C between two steps, never within one."""

import signal
import threading
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def finish_step_on_ctrl_c():
    """Within, the first Ctrl-C only sets `requested` of what is yielded, so that no step is
    torn and a checkpoint can be saved; a second one interrupts at once."""
    stop = SimpleNamespace(requested=False)
    if threading.current_thread() is not threading.main_thread():
        yield stop                     # signals reach the main thread only
        return

    def request(signum, frame):
        stop.requested = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
