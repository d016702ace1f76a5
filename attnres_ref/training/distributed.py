"""Data parallel training: the same run, its batches shared out between processes.

    python -m torch.distributed.run --standalone --nproc-per-node 2 \\
        -m attnres_ref.training --preset ci --checkpoint-dir OUT

Every process draws the same batch and computes its own rows of it; gradients are
averaged. Seeds, batches, metrics and files are those of one process. Without a process
group each function here does what one process needs: mostly nothing.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attnres_ref.training.run_directory import RunDirectory


@contextmanager
def process_group():
    """Within, the processes that torch.distributed.run started form a group: nccl where
    each of them has a GPU, else gloo. Started on its own, a process stays on its own."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()       # not after an error: the others might not answer


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def data_parallel(model: nn.Module) -> nn.Module:
    """`model`, or a wrapper that averages its gradients over the processes.

    A parameter may go without a gradient, as long as it does in every step (a layer with
    a single source has no use for a query): static_graph lets the wrapper find out.
    """
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, static_graph=True)


def own_rows(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """This process's share of each tensor [B, ...]. Raises ValueError if shares differ:
    the mean of their means would not be the batch's."""
    size, processes = len(batch[0]), world_size()
    if size % processes:
        raise ValueError(
            f"batch_size is {size}: {processes} processes need a multiple of {processes}"
        )
    share = size // processes
    return tuple(rows[rank() * share : (rank() + 1) * share] for rows in batch)


def mean(value: Tensor) -> Tensor:
    """The tensor's mean over the processes, the same numbers in each."""
    if world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world_size()


def any_of(flag: bool) -> bool:
    """Whether it is set in any process. All stop after the same step, or none: one that
    went on alone would wait for ever."""
    if world_size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return mean(torch.tensor(float(flag), device=device)).item() > 0


def run_directory(folder: str | Path, identity: dict, resume: bool):
    """A RunDirectory that belongs to all processes together."""
    if world_size() == 1:
        return RunDirectory(folder, identity, resume)
    return SharedDirectory(folder, identity, resume)


class SharedDirectory:
    """A RunDirectory on rank 0, which alone touches the disk. What it reads there, or
    the error it meets, every process gets."""

    def __init__(self, folder: str | Path, identity: dict, resume: bool):
        self.disk = from_rank_0(lambda: RunDirectory(folder, identity, resume))

    @contextmanager
    def locked(self):
        if rank() == 0:
            with self.disk.locked():
                yield
        else:
            yield                      # its first question waits for rank 0, and the lock

    def restore(self):
        return from_rank_0(self.disk.restore)

    def read_metrics(self):
        return from_rank_0(self.disk.read_metrics)

    def read_result(self):
        return from_rank_0(self.disk.read_result)

    def last_good(self):
        return from_rank_0(self.disk.last_good)

    def save(self, state: dict) -> None:
        if rank() == 0:
            self.disk.save(state)

    def append(self, line: dict) -> None:
        if rank() == 0:
            self.disk.append(line)

    def write_result(self, result: dict) -> None:
        if rank() == 0:
            self.disk.write_result(result)


def from_rank_0(function):
    """What function() returns on rank 0, in every process; also what it raises."""
    found = [None, None]
    if rank() == 0:
        try:
            found[0] = function()
        except Exception as error:     # the others must not wait for an answer for ever
            found[1] = error
    dist.broadcast_object_list(found)
    value, error = found
    if error is not None:
        raise error
    return value
