"""What test_tensor_parallel runs on several processes: importable, as `launch` wants it."""

import os
import signal
import socket
import struct
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist

from attnres_ref.inference import tensor_parallel
from attnres_ref.inference.tensor_parallel import Ranks, prefill_on_ranks
from attnres_ref.inference.two_phase import TwoPhase


class NoSum(Ranks):
    """Wrong: its own slice in the place of the sum."""

    def reduce_scatter(self, x):
        super().reduce_scatter(x)
        return self.split(x)[self.rank]


class NextShard(Ranks):
    """Wrong: a rank writes and reads for the tokens of its neighbour."""

    def reduce_scatter(self, x):
        first, *others = self.split(x)
        rotated = torch.cat((*others, first), dim=1)
        return super().reduce_scatter(rotated[:, : x.shape[1]])


def prefill_all(cases, wrong=()):
    """A Prefilled for each case, and of the last case for each class in `wrong`."""
    found = [prefill_on_ranks(*case) for case in cases]
    for mistake in wrong:
        with patch.object(tensor_parallel, "Ranks", mistake):
            found.append(prefill_on_ranks(*cases[-1]))
    return found


def collectives():
    """The sum and the parts by torch's own collectives, and by ours; bytes counted beside
    those that the kernel saw leave (Linux)."""
    ranks, generator = Ranks(), torch.Generator().manual_seed(dist.get_rank())
    x = torch.randn(2, 1024, 64, dtype=torch.float64, generator=generator)     # 1 MiB
    whole = x.clone()
    dist.all_reduce(whole)
    found = []

    def counted(collective, x):
        dist.barrier()
        sent, at_sockets = ranks.sent, bytes_at_sockets()
        result = collective(x)
        dist.barrier()                                 # the others have received it all
        found.append((ranks.sent - sent, bytes_at_sockets() - at_sockets))
        return result

    gathered = counted(ranks.all_gather, counted(ranks.reduce_scatter, x))
    return (gathered - whole).abs().max().item(), x.nbytes, found


def bytes_at_sockets() -> int:
    """What the kernel has sent for this process: tcpi_bytes_sent of its TCP sockets."""
    total = 0
    for file in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(file.name))) as end:
                info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            total += struct.unpack_from("<Q", info, 200)[0]
        except (OSError, struct.error):                # a file, or a socket of another kind
            continue
    return total


def rank_one_is_killed(parallel, model, tokens, chunk):
    """In the middle of the second chunk, while the others wait for its shard."""
    calls, gather = [], Ranks.all_gather

    def all_gather(ranks, shard):
        calls.append(shard)
        if ranks.rank == 1 and len(calls) == len(model.layers) + 3:
            signal.raise_signal(signal.SIGKILL)
        return gather(ranks, shard)

    with patch.object(Ranks, "all_gather", all_gather):
        return prefill_on_ranks(parallel, model, tokens, chunk, TwoPhase(model.stream))
