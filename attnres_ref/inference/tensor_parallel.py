"""Tensor parallelism on real processes, with the residual whole or sharded (sec. 4.2).

A layer is split over P ranks as Megatron-LM does it (Shoeybi et al. 2019): each has some
of the heads, or some of the hidden channels, and what the P ranks put out must be added
up. An all-reduce does that; it is a reduce-scatter, after which each rank has the sum for
T / P of the tokens, and an all-gather, after which each has it for all:

    tensor_parallel     layer, reduce-scatter, all-gather, write, read, norm, next layer
    sequence_parallel   layer, reduce-scatter, write, read, norm, all-gather, next layer

Writing, reading and the norm work on each token alone, so they may as well come between
the two. The same tensors travel, but a rank keeps the depth state of T / P tokens only
and reads no others (Korthikanti et al. 2022, for dropout and norms). Attention and MLP
are split; embedding and head are whole on every rank. For the prefill of a model as it is:
the collectives do not carry gradients, the parts are copies that do not follow the model
when it is trained, cast or moved, and a single token is one rank's alone.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.inference.cache import Cached, with_cache
from attnres_ref.inference.prefill import Measured, in_chunks
from attnres_ref.model import LM, MLP, Attention
from attnres_ref.views import with_parts

# ---- One rank's part of a layer --------------------------------------------------------


def part_of(layer: nn.Module, rank: int, n_ranks: int) -> nn.Module:
    """A layer that has this rank's heads or hidden channels, and no norm: it is given what
    the norm put out, [B, T, d]. The outputs of all ranks' parts add up to the layer's.

    Raises ValueError for another layer than Attention or MLP, and where the ranks do not
    divide what they are to share.
    """
    layer = getattr(layer, "_orig_mod", layer)         # what torch.compile has wrapped
    share = rank, n_ranks
    if type(layer) is Attention:
        check_shared("n_heads", layer.n_heads, n_ranks)
        qkv = some_outputs(layer.qkv, *share, n_groups=3)
        own = dict(n_heads=layer.n_heads // n_ranks, qkv=qkv)
    elif type(layer) is MLP:
        check_shared("d_hidden", layer.up.out_features, n_ranks)
        gate, up = (some_outputs(linear, *share) for linear in (layer.gate, layer.up))
        own = dict(gate=gate, up=up)
    else:
        raise ValueError(
            f"layer is a {type(layer).__name__}: only Attention and MLP can be split over "
            "ranks; build the model with layers='attention,mlp'"
        )
    out = some_inputs(layer.out, *share)
    return with_parts(layer, norm=nn.Identity(), out=out, **own)


def check_shared(name: str, value: int, n_ranks: int) -> None:
    if value % n_ranks:
        raise ValueError(
            f"{name} is {value}, which {n_ranks} ranks cannot share equally: choose a "
            f"number of ranks that divides {value}"
        )


def some_outputs(linear: nn.Linear, rank: int, n_ranks: int, n_groups=1) -> nn.Linear:
    """Megatron's column-parallel: of each group of outputs (q, k and v) this rank's."""
    groups = linear.weight.unflatten(0, (n_groups, -1))               # [n_groups, n, n_in]
    return linear_of(groups.chunk(n_ranks, dim=1)[rank].flatten(0, 1))


def some_inputs(linear: nn.Linear, rank: int, n_ranks: int) -> nn.Linear:
    """Megatron's row-parallel: what it puts out is this rank's term of a sum."""
    return linear_of(linear.weight.chunk(n_ranks, dim=1)[rank])


def linear_of(weight: Tensor) -> nn.Linear:
    """x -> x weight^T for a copy of weight [n_out, n_in]."""
    n_out, n_in = weight.shape
    linear = nn.Linear(n_in, n_out, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return linear


# ---- The collectives -------------------------------------------------------------------


class Ranks:
    """The P ranks of the process group, of which this is one. `sent` counts the bytes that
    it sends: P - 1 shards in either collective, or (P - 1) / P of the whole tensor."""

    def __init__(self):
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.n_tokens, self.sent = 0, 0                # T of the piece under way; bytes

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, T, ...] -> P shards [B, t, ...]: t = ceil(T / P), the end filled with 0.

        Remembers T, so that `joined` can leave out what was filled.
        """
        self.n_tokens = x.shape[1]
        other_dims = (0, 0) * (x.dim() - 2)
        filled = F.pad(x, (*other_dims, 0, -self.n_tokens % self.size))
        return filled.chunk(self.size, dim=1)

    def all_gather(self, shard: Tensor) -> Tensor:
        """The shards [B, t, d] of all ranks in a row, [B, T, d]. Each goes round a ring."""
        self.sent += (self.size - 1) * shard.nbytes
        return self.joined(shard)

    def reduce_scatter(self, x: Tensor) -> Tensor:
        """The sum over ranks of x [B, T, d], for this rank's tokens: [B, t, d].

        Sent directly to the rank that adds it up: gloo's own reduce_scatter is an
        all-reduce of which most is thrown away, and sends twice as much.
        """
        shards = torch.stack(self.split(x))            # [P, B, t, d], one for each rank
        self.sent += (self.size - 1) * shards[0].nbytes
        received = torch.empty_like(shards)            # everyone's shard for this rank
        dist.all_to_all_single(received, shards)
        return received.sum(0)

    def joined(self, shard: Tensor) -> Tensor:
        shards = [torch.empty_like(shard) for _ in range(self.size)]
        dist.all_gather(shards, shard.contiguous())
        return torch.cat(shards, dim=1)[:, : self.n_tokens]


# ---- Two places for the read -----------------------------------------------------------


class RankModule(nn.Module):
    """A module that this rank runs, between collectives."""

    def __init__(self, ranks: Ranks, module: nn.Module, norm: nn.Module | None = None):
        super().__init__()
        self.ranks, self.module, self.norm = ranks, module, norm


class AllReduced(RankModule):
    """A layer where the residual is whole on every rank: [B, T, d] -> [B, T, d]."""

    def forward(self, h: Tensor) -> Tensor:
        shard = self.ranks.reduce_scatter(self.module(self.norm(h)))
        return self.ranks.all_gather(shard)


class Gathered(RankModule):
    """A layer where a rank has the residual of its tokens: [B, t, d] -> [B, t, d]."""

    def forward(self, h: Tensor) -> Tensor:
        x = self.ranks.all_gather(self.norm(h))        # the layer's input, [B, T, d]
        return self.ranks.reduce_scatter(self.module(x))


class OwnTokens(RankModule):
    """The embedding of this rank's tokens: [B, T] -> [B, t, d]."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.module(self.ranks.split(tokens)[self.ranks.rank])


class Joined(RankModule):
    """The head. Every rank has the logits of its tokens; to compare them with one process
    they are put together, which an engine would not do, and which is not counted."""

    def forward(self, hidden: Tensor) -> Tensor:
        return self.ranks.joined(self.module(hidden))


def tensor_parallel(model: LM, ranks: Ranks, stream: nn.Module) -> Cached:
    """This rank's twin of `model`, with a cache for its heads: tokens [B, T] -> logits
    [B, T, vocab], the same on every rank. The residual of all tokens is on every rank.

    stream: as for `with_cache`. Raises ValueError as `part_of` does.
    """
    return twin_of(AllReduced, model, ranks, stream)


def sequence_parallel(model: LM, ranks: Ranks, stream: nn.Module) -> Cached:
    """As `tensor_parallel`, with the residual sharded along the sequence: the stream runs
    on this rank's tokens, between a reduce-scatter and the next all-gather."""
    embedding, head = OwnTokens(ranks, model.embedding), Joined(ranks, model.head)
    return twin_of(Gathered, model, ranks, stream, embedding=embedding, head=head)


def twin_of(wrap, model: LM, ranks: Ranks, stream: nn.Module, **others) -> Cached:
    parts = [part_of(layer, ranks.rank, ranks.size) for layer in model.layers]
    twin = with_cache(with_parts(model, layers=nn.ModuleList(parts)), stream)
    pairs = zip(twin.step.layers, model.layers)
    layers = nn.ModuleList(wrap(ranks, part, layer.norm) for part, layer in pairs)
    twin.step = with_parts(twin.step, layers=layers, **others)
    return twin


# ---- Prefill ---------------------------------------------------------------------------


class Prefilled(NamedTuple):
    """What one rank has after a prompt."""

    logits: Tensor         # [B, T, vocab], the same on every rank
    sent_bytes: int        # by this rank, in the layers' collectives
    peak_bytes: int        # the most that its residual stream held between layers


@torch.no_grad()
def prefill_on_ranks(
    parallel, model: LM, tokens: Tensor, chunk: int | None = None, stream=None
) -> Prefilled:
    """`attnres_ref.inference.prefill.prefill` on every rank of a process group, for
    instance launch(prefill_on_ranks, 4, sequence_parallel, model, tokens).

    parallel: `tensor_parallel` or `sequence_parallel`; the rest, and what is raised, as in
    `prefill` and `part_of`. T and chunk need not be multiples of P.
    """
    ranks, measured = Ranks(), Measured(model.stream if stream is None else stream)
    logits = in_chunks(parallel(model, ranks, measured), tokens, chunk)
    return Prefilled(logits, ranks.sent, measured.peak_bytes)


def sent_elements(n_layers: int, n_ranks: int, n_tokens: int, d_model: int) -> int:
    """What a rank sends in one pass, either way, where a shard has `n_tokens` (rows times
    ceil(T / P)): two collectives for each layer, (P - 1) shards in each.

    With whole shards that is 2 L (P - 1) / P of [B, T, d].
    """
    return 2 * n_layers * (n_ranks - 1) * n_tokens * d_model
