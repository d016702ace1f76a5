"""Several processes on one machine, from a notebook or a test.

`python -m torch.distributed.run` is the usual way to start ranks, and the one for GPUs;
a notebook needs one that is a function call.
"""

import multiprocessing
import os
import pickle
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, start_processes

from attnres_ref.fields import is_whole


class RankFailed(RuntimeError):
    """A rank raised, or died; the others have been stopped."""


def launch(function, n_ranks: int, *arguments, timeout: float = 300.0) -> list:
    """Run function(*arguments) in `n_ranks` new processes that form a process group: gloo
    on CPUs, one thread each.

    Returns what they return, by rank: anything that can be pickled. `function` must be
    importable: one that is defined in a notebook cell is not. Raises RankFailed with the
    traceback or the signal as soon as a rank fails, and after `timeout` seconds;
    ValueError unless n_ranks is a whole number, at least 1. No process outlives the call.
    """
    if not is_whole(n_ranks, 1):
        raise ValueError(f"n_ranks is {n_ranks!r}: it must be a whole number, at least 1")
    deadline, ended = time.monotonic() + timeout, False
    # A fork of this process could inherit locks of OpenMP threads and hang. The fork
    # server is a clean process with torch loaded: slow to start once, fast thereafter.
    # Windows has none; there each rank starts anew and loads torch.
    method = "spawn"
    if "forkserver" in multiprocessing.get_all_start_methods():
        method = "forkserver"
        multiprocessing.set_forkserver_preload(["torch", "torch.distributed.pipelining"])
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder, f"{rank}.pickle") for rank in range(n_ranks)]
        ranks = start_processes(
            run_rank, (results, timeout, function, arguments), n_ranks,
            join=False, daemon=True, start_method=method,
        )
        try:
            while not ended and (left := deadline - time.monotonic()) > 0:
                ended = ranks.join(left, grace_period=0.5)
            silent = [rank for rank in range(n_ranks) if not results[rank].exists()]
            if silent and ended:
                raise RankFailed(f"ranks {silent} ended without a result")
            if silent:
                raise RankFailed(f"no result from ranks {silent} within {timeout:g} s")
            return [pickle.loads(result.read_bytes()) for result in results]
        except ProcessException as error:
            raise RankFailed(
                f"rank {error.error_index} failed; the other ranks were stopped: {error}"
            ) from None
        finally:
            for process in ranks.processes:
                process.kill()
                process.join()


def run_rank(rank: int, results: list[Path], timeout: float, function, arguments) -> None:
    """The life of one process."""
    threading.Thread(target=leave_with_the_caller, daemon=True).start()
    torch.set_num_threads(1)
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    try:
        dist.init_process_group(
            "gloo", init_method=results[0].with_name("meeting-point").as_uri(),
            rank=rank, world_size=len(results), timeout=timedelta(seconds=timeout),
        )
        result = function(*arguments)
        dist.barrier()                             # nobody leaves while others still talk
        dist.destroy_process_group()
        results[rank].write_bytes(pickle.dumps(result))
    except BaseException as error:
        # Once this rank has gone, the others' connections break, and they fail as well.
        # Each waits before it goes: so the first to fail is the first to be seen.
        time.sleep(1.0)
        if not isinstance(error, Exception):       # sys.exit(0) would look like success
            raise RuntimeError(f"{error!r} instead of a result") from error
        raise


def leave_with_the_caller() -> None:
    """However it ends; a rank that is itself stopped (SIGSTOP) leaves when it goes on."""
    multiprocessing.parent_process().join()
    os._exit(1)
