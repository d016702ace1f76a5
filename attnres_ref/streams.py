"""Residual connections: where a layer reads its input and writes its output.

    state = stream.begin(embedding)                      # embedding [B, T, d]
    for layer, f in enumerate(layers):
        state = stream.write(state, layer, f(stream.read(state, layer)))
    hidden = stream.read(state, len(layers))             # the final read

That loop is the whole model. The classes below differ in what they remember
(the state) and in how a layer looks at it (`read`). States are plain immutable
values: they can be kept, compared, or shipped to another process. Other residual
connections join STREAMS from attnres_ref.variants.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnres_ref.depth import depth_attention, widened
from attnres_ref.fields import is_whole


class PreNorm(nn.Module):
    """The standard residual: one running sum, every output with weight one."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__()             # nothing to learn, whatever the size

    def begin(self, embedding: Tensor) -> Tensor:
        return embedding

    def read(self, state: Tensor, layer: int) -> Tensor:
        return state

    def write(self, state: Tensor, layer: int, output: Tensor) -> Tensor:
        return state + output


class Depth(NamedTuple):
    """What the layers so far have left behind for later ones to read."""

    completed: tuple[Tensor, ...]      # b_0 (the embedding), b_1, ...: each [B, T, d]
    partial: Tensor | None = None      # sum of the open block's outputs, [B, T, d]

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors a read attends to (Eq. 6). An empty sum is not a source:
        a tensor of zeros would score zero and take weight from the others."""
        return self.completed if self.partial is None else (*self.completed, self.partial)


def sources_of(state: Depth) -> tuple[Tensor, ...]:
    """`state.sources`. Raises ValueError for a state that has lost them."""
    if not hasattr(state, "sources"):
        raise ValueError(
            f"state is a {type(state).__name__} in the place of a Depth: activation "
            "checkpointing needs use_reentrant=False, or gradients of the sources are lost"
        )
    return state.sources


def in_layer_dtype(embedding: Tensor) -> Tensor:
    """The embedding in the dtype that layers write. Under autocast that is half precision,
    while the embedding is float32, and all sources of a read must share one dtype."""
    device = embedding.device.type
    on = device != "meta" and torch.is_autocast_enabled(device)
    return embedding.to(torch.get_autocast_dtype(device)) if on else embedding


class BlockAttnRes(nn.Module):
    """Attention over the embedding, the finished blocks and the open one (Eq. 5-6).

        b_0 = embedding        b_k = sum of the outputs of layers (k-1) S, ..., k S - 1
        a layer of block k reads  b_0, ..., b_(k-1)  and the sum so far of block k, if any

    n_layers: L; block_size: S, layers per block, 1 <= S <= L, the last block may
    be shorter; attend: called as attend(query, sources, norm_weight) at every read.
    There are L + 1 reads: one per layer, and the final one before the output head.
    Raises ValueError for a block_size outside 1..L.
    """

    def __init__(
        self, n_layers: int, d_model: int, block_size: int, attend=depth_attention
    ):
        super().__init__()
        if not is_whole(block_size, 1, n_layers):
            raise ValueError(
                f"block_size is {block_size}: choose 1 (Full AttnRes) to n_layers ="
                f" {n_layers}"
            )
        self.block_size = block_size
        self.attend = attend
        # With zero queries a read is the mean of its sources: PreNorm's sum over their
        # number, which the RMSNorm of every layer removes. So PreNorm, Full and Block start
        # as one function. The keys' norm weight, kept as its distance from 1, starts at 0.
        self.queries = nn.Parameter(torch.zeros(n_layers + 1, d_model))
        self.queries_norm = nn.Parameter(torch.zeros(n_layers + 1, d_model))

    def begin(self, embedding: Tensor) -> Depth:
        return Depth(completed=(in_layer_dtype(embedding),))

    def read(self, state: Depth, layer: int) -> Tensor:
        norm_weight = 1 + widened(self.queries_norm[layer])     # 1 + x would lose x in bf16
        return self.attend(self.queries[layer], sources_of(state), norm_weight)

    def write(self, state: Depth, layer: int, output: Tensor) -> Depth:
        output = output.to(state.completed[0].dtype)    # autocast leaves some in float32
        block = output if state.partial is None else state.partial + output
        if (layer + 1) % self.block_size == 0:                   # the block is complete
            return Depth(completed=(*state.completed, block))
        return Depth(state.completed, partial=block)


class FullAttnRes(BlockAttnRes):
    """Attention over the embedding and every earlier output (Eq. 1-4): blocks of one."""

    def __init__(self, n_layers: int, d_model: int, attend=depth_attention):
        super().__init__(n_layers, d_model, block_size=1, attend=attend)


# LMConfig.residual -> how to build that stream from an LMConfig and the depth operator.
STREAMS = {
    "prenorm": lambda c, attend: PreNorm(c.n_layers, c.d_model),
    "full": lambda c, attend: FullAttnRes(c.n_layers, c.d_model, attend),
    "block": lambda c, attend: BlockAttnRes(c.n_layers, c.d_model, c.block_size, attend),
}
