"""Prefill with the sequence sharded over P devices and cut into chunks (sec. 4.2).

Depth attention works on each token alone, so a device can keep the blocks of its own
tokens and no others. Only sequence attention needs the rest: in a tensor-parallel
layer an all-gather brings the shards together before it and a reduce-scatter hands
them out after. Here the P devices are P entries of a tuple in one process; on processes
of their own they are in `tensor_parallel`.
"""

import torch
from torch import Tensor, nn

from attnres_ref.fields import is_whole
from attnres_ref.inference.cache import Cached, with_cache
from attnres_ref.model import LM, check_tokens


class Sharded(nn.Module):
    """Any stream, its state split along the sequence over `n_shards` devices: each entry
    of the state is one device's. Raises ValueError for n_shards < 1.
    """

    def __init__(self, stream: nn.Module, n_shards: int):
        super().__init__()
        if not is_whole(n_shards, 1):
            raise ValueError(f"n_shards is {n_shards}: choose 1 or more")
        self.stream, self.n_shards = stream, n_shards

    def begin(self, embedding: Tensor) -> tuple:
        return tuple(self.stream.begin(shard) for shard in self.scatter(embedding))

    def read(self, states: tuple, layer: int) -> Tensor:
        shards = [self.stream.read(state, layer) for state in states]
        return torch.cat(shards, dim=1)                               # all-gather

    def write(self, states: tuple, layer: int, output: Tensor) -> tuple:
        shards = self.scatter(output)                                 # reduce-scatter
        return tuple(
            self.stream.write(state, layer, shard) for state, shard in zip(states, shards)
        )

    def scatter(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.tensor_split(self.n_shards, dim=1)


class Measured(nn.Module):
    """Any stream. `peak_bytes` is the most that its state, one device's, has held at the
    end of a begin or write, over everything run so far."""

    def __init__(self, stream: nn.Module):
        super().__init__()
        self.stream, self.peak_bytes = stream, 0

    def begin(self, embedding: Tensor):
        return self.weighed(self.stream.begin(embedding))

    def read(self, state, layer: int) -> Tensor:
        return self.stream.read(state, layer)

    def write(self, state, layer: int, output: Tensor):
        return self.weighed(self.stream.write(state, layer, output))

    def weighed(self, state):
        self.peak_bytes = max(self.peak_bytes, held_bytes(state))
        return state


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
    measured = Measured(model.stream if stream is None else stream)
    twin = with_cache(model, Sharded(measured, n_shards))
    return in_chunks(twin, tokens, chunk), measured.peak_bytes


def in_chunks(twin: Cached, tokens: Tensor, chunk: int | None) -> Tensor:
    """What a twin `with_cache` says to tokens [B, T], fed `chunk` at a time (None: all at
    once): logits [B, T, vocab]. Raises ValueError as `prefill` does."""
    check_tokens(tokens, twin.step.config)
    chunk = tokens.shape[1] if chunk is None else chunk
    if not is_whole(chunk, 1):
        raise ValueError(f"chunk is {chunk}: choose 1 or more tokens")
    return torch.cat([twin(piece) for piece in tokens.split(int(chunk), dim=1)], dim=1)


def peak_elements(n_layers: int, block_size: int, n_tokens: int, d_model: int) -> int:
    """What `prefill` keeps for Block read layer by layer, on a device that has
    `n_tokens` of the chunk: b_0 to b_N, where the last one grew from the partial sum.

    The N blocks beside it are the paper's N (T/P) d; PreNorm keeps one tensor too.
    """
    n_blocks = -(-n_layers // block_size)              # the last one may be short
    return (n_blocks + 1) * n_tokens * d_model
