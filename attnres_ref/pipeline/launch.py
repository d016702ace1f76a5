"""Several processes on one machine, from a notebook or a test.

`python -m torch.distributed.run` is the usual way to start ranks; a notebook needs one
that is a function call.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist

GRACE = 1.0                    # seconds for the other ranks to say what they saw


class RankFailed(RuntimeError):
    """A rank raised, or died; the others have been stopped."""


def launch(function, n_ranks: int, *arguments, timeout: float = 300.0) -> list:
    """Run function(*arguments) in `n_ranks` new processes that form a process group.

    Returns what they return, by rank: picklable, and no tensors. `function` must be
    importable: one that is defined in a notebook cell is not. On a machine with that
    many GPUs each process gets one, and nccl; else CPUs, one thread each, and gloo.
    Raises RankFailed, with the first rank's traceback, as soon as one fails, and after
    `timeout` seconds. No process outlives the call.
    """
    # A fork of this process could inherit locks of OpenMP threads and hang. The fork
    # server is a clean process with torch loaded: slow to start once, fast thereafter.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.pipelining"])
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = (Path(folder) / "rendezvous").as_uri()
        receivers, processes = [], []
        try:
            for rank in range(n_ranks):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=run_rank, daemon=True,
                    args=(sender, rank, n_ranks, meeting_point, function, arguments),
                )
                process.start()
                sender.close()                     # the child's copy is the only one left
                receivers.append(receiver)
                processes.append(process)
            results = collect(receivers, processes, time.monotonic() + timeout)
            for process in processes:
                process.join(GRACE)
            return results
        finally:
            for process in processes:
                process.kill()
            for process, receiver in zip(processes, receivers):
                process.join()
                receiver.close()


def collect(receivers, processes, deadline: float) -> list:
    """Each rank's result; RankFailed at the first failure."""
    answers = {}
    while len(answers) < len(receivers):
        left = [r for rank, r in enumerate(receivers) if rank not in answers]
        ready = wait(left, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            silent = [rank for rank in range(len(receivers)) if rank not in answers]
            raise RankFailed(f"no answer from ranks {silent} in time: they were stopped")
        for receiver in ready:
            rank = receivers.index(receiver)
            answers[rank] = answer(receiver)
            if answers[rank][0] != "returned":
                time.sleep(GRACE)                  # the culprit may be another one
                failures = {rank: answers[rank]}
                for other in set(range(len(receivers))) - answers.keys():
                    if receivers[other].poll():
                        failures[other] = answer(receivers[other])
                raise RankFailed(blame(failures, processes))
    return [answers[rank][1] for rank in range(len(receivers))]


def answer(receiver) -> tuple[str, object]:
    """("returned", value), ("raised", (when, traceback)), ("died", None) without a word."""
    try:
        return receiver.recv()
    except EOFError:
        return "died", None


def blame(failures: dict, processes) -> str:
    """One message, about the rank to look at: one that died, else the first to raise.
    The others then missed it, and report broken connections."""
    for rank, (outcome, _) in sorted(failures.items()):
        if outcome == "died":
            processes[rank].join()
            code = processes[rank].exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else (
                f"exited with code {code}"
            )
            return f"rank {rank} {how}; the other ranks were stopped"
    raised = [(*what, rank) for rank, (how, what) in failures.items() if how == "raised"]
    _, text, rank = min(raised)
    return f"rank {rank} failed; the other ranks were stopped. Its traceback:\n{text}"


def run_rank(sender, rank, n_ranks, meeting_point, function, arguments) -> None:
    """The life of one process."""
    try:
        on_gpus = torch.cuda.device_count() >= n_ranks
        if on_gpus:
            torch.cuda.set_device(rank)
        else:
            torch.set_num_threads(1)
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        backend = "nccl" if on_gpus else "gloo"
        dist.init_process_group(
            backend, init_method=meeting_point, rank=rank, world_size=n_ranks
        )
        value = function(*arguments)
        dist.barrier()                             # nobody leaves while others still talk
        dist.destroy_process_group()
        sender.send(("returned", value))
    except BaseException:
        sender.send(("raised", (time.time(), traceback.format_exc())))


def device() -> torch.device:
    """Where this rank of a process group computes."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
