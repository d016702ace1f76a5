"""Starting ranks: what they return comes back, and whatever ends one, the call ends."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from functools import partial

import pytest

import ranks
from attnres_ref.pipeline.launch import RankFailed, launch

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(autouse=True, scope="module")
def fork_server():
    """Its start takes seconds, and no test's clock should count them."""
    launch(ranks.greet, 1, "warm")


def test_results_come_back_by_rank_tensors_too():
    (first, zeros), (second, ones) = launch(ranks.greet, 2, "rank")
    assert (first, second) == ("rank 0 of 2", "rank 1 of 2")
    assert zeros.tolist() == [0, 0] and ones.tolist() == [1, 1]


def test_where_there_is_no_fork_server_ranks_are_spawned(monkeypatch):
    """As on Windows."""
    monkeypatch.delitem(multiprocessing.context._concrete_contexts, "forkserver")
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert [word for word, _ in launch(ranks.greet, 1, "rank")] == ["rank 0 of 1"]


def test_nobody_leaves_while_others_still_talk():
    launch(ranks.last_word, 2)


def test_a_rank_waits_for_others_no_longer_than_the_call_does():
    assert launch(ranks.seconds_of_patience, 1, timeout=123) == [123]


@pytest.mark.parametrize(
    "end, message, timeout",
    [
        (partial(int, "seven"), "(?s)rank 1 failed.*Traceback.*literal.*'seven'", 60),
        (partial(sys.exit, 0), r"(?s)rank 1 failed.*SystemExit\(0\) instead", 60),
        (ranks.interrupted, "(?s)rank 1 failed.*Interrupt", 60),
        (partial(os._exit, 3), "rank 1 failed.*exit code 3", 60),
        (partial(signal.raise_signal, signal.SIGKILL), "rank 1 failed.*SIGKILL", 60),
        (partial(time.sleep, 60), r"no result from ranks \[0, 1, 2\] within 3 s", 3),
        (partial(signal.raise_signal, signal.SIGSTOP), r"ranks \[0, 1, 2\] within 3 s", 3),
    ],
    ids=[
        "raises", "exits", "is interrupted", "exits at once", "is killed", "hangs",
        "is stopped",
    ],
)
def test_a_rank_that_ends_early_is_named_and_takes_the_others_with_it(
    tmp_path, end, message, timeout
):
    began = time.monotonic()
    faulthandler.dump_traceback_later(60, exit=True)       # rather than hang
    with pytest.raises(RankFailed, match=message):
        launch(ranks.rank_one_ends, 3, str(tmp_path), end, timeout=timeout)
    faulthandler.cancel_dump_traceback_later()
    assert time.monotonic() - began < 10
    assert len([*tmp_path.iterdir()]) == 3, "a rank had not begun"
    assert [is_held(path) for path in tmp_path.iterdir()] == [False] * 3


def test_ranks_leave_with_their_caller(tmp_path):
    arguments = ranks.rank_one_ends, 2, str(tmp_path), partial(time.sleep, 200)
    fork_server = multiprocessing.get_context("forkserver")
    caller = fork_server.Process(target=launch, args=arguments)
    caller.start()
    wait_until(lambda: [is_held(path) for path in tmp_path.iterdir()] == [True] * 2)
    caller.terminate()
    caller.join()
    wait_until(lambda: [is_held(path) for path in tmp_path.iterdir()] == [False] * 2)


def is_held(path):
    """Whether a process has the file's lock: one that has ended has none."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
