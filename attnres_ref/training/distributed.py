"""Data parallel training: the same run, its batches shared out between processes.

    python -m torch.distributed.run --standalone --nproc-per-node 2 \\
        -m attnres_ref.training --preset ci --checkpoint-dir OUT

Every process draws the same batch and computes its own rows of it; gradients are
averaged. Seeds, batches, metrics and files are those of one process. The training loop asks
`Processes` and does not know how many there are.
"""

import os
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attnres_ref.training.run_directory import RunDirectory

TIMEOUT = timedelta(minutes=5)         # for the other processes to answer


@contextmanager
def process_group():
    """Within, the processes that torch.distributed.run or another launcher started form a
    group: nccl where each of them has a GPU, else gloo. Started on its own, a process stays
    on its own. Raises ValueError where a variable of the launcher's is missing, and
    ConnectionError when another process has ended or not answered for TIMEOUT."""
    rank = os.environ.get("RANK")
    alone = os.environ.get("WORLD_SIZE") == "1" and "LOCAL_RANK" not in os.environ
    if not rank or alone or dist.is_initialized():
        yield
        return
    size = os.environ.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise ValueError(
            f"RANK is {rank!r}, WORLD_SIZE {size!r}: start with torch.distributed.run, or "
            "unset both to train alone"
        )
    backend, n_gpus = "gloo", torch.cuda.device_count()
    if n_gpus and n_gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        backend = "nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", int(rank) % n_gpus)))
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
        yield
    except RuntimeError as error:
        ours = type(error) is RuntimeError or isinstance(error, dist.DistError)
        silent = "timed out" in str(error).lower() or "by peer" in str(error)
        if not (ours and silent):
            raise
        raise ConnectionError(
            f"another process has ended, or not answered for {TIMEOUT}: end all of them, "
            "then start again"
        ) from error
    dist.destroy_process_group()       # not after an error: the others might not answer


class Processes:
    """The processes that train together: this one alone, or all of the process group.
    Each method gives the same answer in all of them."""

    def __init__(self):
        together = dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """What to call in the model's place: a wrapper that averages gradients.

        A parameter may go without a gradient, as long as it does in every step (a layer
        with a single source has no use for a query): static_graph lets it find out.
        """
        alone = self.size == 1
        return model if alone else DistributedDataParallel(model, static_graph=True)

    def own_rows(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """This process's share of each tensor [B, ...]. Raises ValueError if shares differ:
        the mean of their means would not be the batch's."""
        if len(batch[0]) % self.size:
            raise ValueError(
                f"batch_size is {len(batch[0])}: {self.size} processes need a multiple of "
                f"{self.size}"
            )
        return tuple(rows.chunk(self.size)[self.rank] for rows in batch)

    def mean(self, value: Tensor) -> Tensor:
        """The tensor's mean over the processes."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.size

    def any_of(self, flag: bool) -> bool:
        """Whether it is set in any process. All stop after the same step, or none: one
        that went on alone would wait for ever."""
        on_gpu = self.size > 1 and dist.get_backend() == "nccl"
        flag = torch.tensor(float(flag), device="cuda" if on_gpu else "cpu")
        return self.mean(flag).item() > 0

    def run_directory(self, folder: str | Path, identity: dict, resume: bool):
        """A RunDirectory that belongs to all processes together."""
        kind = RunDirectory if self.size == 1 else SharedDirectory
        return kind(folder, identity, resume)


def from_rank_0(function):
    """What function() returns on rank 0, in every process; also what it raises."""
    value, error = None, None
    if dist.get_rank() == 0:
        try:
            value = function()
        except Exception as caught:    # the others must not wait for an answer for ever
            error = caught
    answer = [value, error]
    dist.broadcast_object_list(answer)
    value, error = answer
    if error is not None:
        raise error
    return value


def on_rank_0(name: str):
    """RunDirectory's method `name`, called on rank 0 and answered in every process."""

    def method(self, *arguments):
        return from_rank_0(lambda: getattr(self.disk, name)(*arguments))

    return method


class SharedDirectory:
    """A RunDirectory on rank 0, which alone touches the disk. What it reads there, or the
    error it meets, is broadcast to every process: none goes on where another stopped."""

    restore = on_rank_0("restore")
    read_result = on_rank_0("read_result")
    last_good = on_rank_0("last_good")
    append = on_rank_0("append")
    save = on_rank_0("save")
    write_result = on_rank_0("write_result")

    def __init__(self, folder: str | Path, identity: dict, resume: bool):
        self.disk = from_rank_0(lambda: RunDirectory(folder, identity, resume))
        self.checkpoint = self.disk.checkpoint

    @contextmanager
    def locked(self):
        if dist.get_rank() > 0:
            yield                      # its first question waits for rank 0, and the lock
            return
        with self.disk.locked():
            yield
