"""Prefill with the sequence sharded over P devices and cut into chunks (sec. 4.2).

Depth attention works on each token alone, so a device can keep the blocks of its own
tokens and no others. Only sequence attention needs the rest: in a tensor-parallel
layer an all-gather brings the shards together before it and a reduce-scatter hands
them out after. Here the P devices are P entries of a tuple in one process.
"""

import torch
from torch import Tensor, nn

from attnres_ref.fields import is_whole
from attnres_ref.inference.cache import with_cache
from attnres_ref.model import LM, check_tokens


class Sharded(nn.Module):
    """Any stream, its state split along the sequence over `n_shards` devices.

    Each entry of the state is one device's. `peak_bytes` is the most that a device
    has kept at the end of a begin or write, over everything run so far.
    Raises ValueError for n_shards < 1.
    """

    def __init__(self, stream: nn.Module, n_shards: int):
        super().__init__()
        if not is_whole(n_shards, 1):
            raise ValueError(f"n_shards is {n_shards}: choose 1 or more")
        self.stream, self.n_shards, self.peak_bytes = stream, n_shards, 0

    def begin(self, embedding: Tensor) -> tuple:
        return self.measured(self.stream.begin(shard) for shard in self.scatter(embedding))

    def read(self, states: tuple, layer: int) -> Tensor:
        shards = [self.stream.read(state, layer) for state in states]
        return torch.cat(shards, dim=1)                               # all-gather

    def write(self, states: tuple, layer: int, output: Tensor) -> tuple:
        shards = self.scatter(output)                                 # reduce-scatter
        return self.measured(
            self.stream.write(state, layer, shard) for state, shard in zip(states, shards)
        )

    def scatter(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.tensor_split(self.n_shards, dim=1)

    def measured(self, states) -> tuple:
        states = tuple(states)
        self.peak_bytes = max(self.peak_bytes, *(held_bytes(state) for state in states))
        return states


def held_bytes(state) -> int:
    """Bytes of the tensors in a stream's state, however it is nested. Two-phase queries
    [L + 1, d] belong to no token, and do not count."""
    if isinstance(state, Tensor):
        return state.nbytes if state.dim() > 2 else 0
    if isinstance(state, tuple | list):
        return sum(held_bytes(part) for part in state)
    return 0                               # None, a layer's number


@torch.no_grad()
def prefill(
    model: LM, tokens: Tensor, n_shards: int = 1, chunk: int | None = None, stream=None
) -> tuple[Tensor, int]:
    """Run a prompt [B, T] chunk by chunk, each sharded: (logits [B, T, vocab], peak bytes).

    The peak is one device's, of what the residual stream keeps between layers; keys
    and values of the sequence attention are not in it. stream: the model's own, or a
    `TwoPhase` of it. chunk: tokens at a time, None for all.
    Raises ValueError for n_shards or chunk below 1, and for tokens as the model does.
    """
    check_tokens(tokens, model.config)
    chunk = tokens.shape[1] if chunk is None else chunk
    if not is_whole(chunk, 1):
        raise ValueError(f"chunk is {chunk}: choose 1 or more tokens")
    sharded = Sharded(model.stream if stream is None else stream, n_shards)
    twin = with_cache(model, sharded)
    logits = torch.cat([twin(piece) for piece in tokens.split(int(chunk), dim=1)], dim=1)
    return logits, sharded.peak_bytes


def peak_elements(n_layers: int, block_size: int, n_tokens: int, d_model: int) -> int:
    """What `prefill` keeps for Block read layer by layer, on a device that has
    `n_tokens` of the chunk: b_0 to b_N, where the last one grew from the partial sum.

    The N blocks beside it are the paper's N (T/P) d; PreNorm keeps one tensor too.
    """
    n_blocks = -(-n_layers // block_size)              # the last one may be short
    return (n_blocks + 1) * n_tokens * d_model
