"""What a decode step moves, and how much of it are the reads over depth (notebook 08).

Depth reads are counted in *passes* of d numbers per token, by one convention for notebooks
08 and 09, **one fused pass**:

    a read of n sources     n + 1: each source once, and the result
    phase 1 for S layers    its sources, and S results
    phase 2                 phase 1's result, the fresh sources, and its own result
    adding up a block       its first output 0: it is the partial sum
                            an inner output 2: the output in, the sum out, because the
                            next read loads the old sum anyway
                            the last output 3: no kernel of notebook 09 fuses this addition

The final read is left out, as in Table 1. That table's own convention, keys and values
apart and no additions, is that of `io_counts`.
"""

from typing import NamedTuple

from attnres_ref.fields import is_whole
from attnres_ref.model import LMConfig

# L and S are the paper's "typical" ones (Table 1). d is not in the table: 7168 gives the
# 15 GB of sec. 4.2. Heads and vocabulary are ours and matter little.
TYPICAL = LMConfig(
    n_layers=128, block_size=16, d_model=7168, n_heads=64, vocab_size=2**17, context=2**17,
)


def additions(n_layers: int, block_size: int) -> int:
    """Passes that keep the partial sum, over all layers."""
    places = [layer % block_size for layer in range(n_layers)]
    return sum((3 if place == block_size - 1 else 2) for place in places if place)


def layer_wise(n_layers: int, block_size: int) -> int:
    """Passes of all layers, each of which reads all its sources; block_size 1 is Full."""
    sources = sum(1 + -(-layer // block_size) for layer in range(n_layers))
    return sources + n_layers + additions(n_layers, block_size)


def two_phases(n_layers: int, block_size: int, group_size: int) -> int:
    """Passes of all layers by Algorithm 1, a phase 1 for every `group_size` of them."""
    passes = additions(n_layers, block_size)
    for first in range(0, n_layers, group_size):
        group = range(first, min(first + group_size, n_layers))
        seen = 1 + first // block_size                       # b_0 and the finished blocks
        fresh = [1 + -(-layer // block_size) - seen for layer in group]
        passes += seen + len(group) + sum(2 + n for n in fresh if n)
    return passes


def depth_passes(n_layers: int, block_size: int) -> dict[str, float]:
    """Passes per layer and token of each residual and schedule. Full's groups in two
    phases are of `block_size` layers."""
    L, S = n_layers, block_size
    totals = {
        "PreNorm": 3 * L,                                    # h and the output in, h out
        "Block AttnRes, two phases": two_phases(L, S, S),
        "Block AttnRes, layer by layer": layer_wise(L, S),
        "Full AttnRes, two phases": two_phases(L, 1, S),
        "Full AttnRes, layer by layer": layer_wise(L, 1),
    }
    return {name: passes / L for name, passes in totals.items()}


class Step(NamedTuple):
    """Bytes that one decode step moves for the whole batch."""

    weights: float
    kv: float
    depth: float


def decode_step(
    config: LMConfig, passes: float, batch: int, n_tokens: int, sharing: int = 1,
    n_bytes: int = 2,
) -> Step:
    """One new token for each of `batch` sequences that have `n_tokens` in the cache.

    passes: per layer, from `depth_passes`; sharing: query heads that share one head of keys
    and values (grouped-query attention; `LM` has 1); n_bytes: of one number. Weights are
    read once for the batch. Left out are activations inside the layers, logits, and the
    new token's own keys and values. An engine's attention skips what is not in the cache
    yet; `CachedAttention` reads as many rows as the context has, n_tokens = context.
    Raises ValueError where heads cannot share like that, and as `weights` does.
    """
    depth = batch * passes * config.n_layers * config.d_model
    kv = batch * kv_numbers(config, n_tokens, sharing)
    return Step(*(n_bytes * part for part in (weights(config, sharing), kv, depth)))


def one_rank(step: Step, n_ranks: int) -> Step:
    """The same step on one of P ranks of plain tensor parallelism. It has its part of the
    weights and the heads, but the residual of the whole batch, and reads depth for all of
    it. (Norms and queries, whole on every rank, are taken for split: d beside d^2. P goes
    up to the number of heads of keys and values; beyond, ranks would keep copies.)

    Where the residual is sharded as well, depth is divided too, and its share is that of
    one device. Raises ValueError for n_ranks < 1.
    """
    if not is_whole(n_ranks, 1):
        raise ValueError(f"n_ranks is {n_ranks}: choose 1 or more")
    return Step(step.weights / n_ranks, step.kv / n_ranks, step.depth)


def weights(config: LMConfig, sharing: int = 1) -> float:
    """Parameters that a step reads: all but the embedding's table, of which it reads one
    row for each token. Raises ValueError for layers other than attention and MLP, and for
    another residual than PreNorm, Block and Full."""
    d, names = config.d_model, config.layer_names
    per_layer = {                                            # the first d is the norm's
        "attention": d + 2 * d * d + 2 * d * kv_width(config, sharing),
        "mlp": d + 3 * d * config.d_hidden,
    }
    if other := set(names) - per_layer.keys():
        raise ValueError(f"layers has {sorted(other)}: only attention and mlp are counted")
    own = dict(prenorm=0, block=2, full=2)                   # queries and key norms
    if config.residual not in own:
        raise ValueError(f"residual is {config.residual!r}: choose one of {sorted(own)}")
    queries = own[config.residual] * (len(names) + 1) * d
    return sum(per_layer[name] for name in names) + queries + d + config.vocab_size * d


def kv_numbers(config: LMConfig, n_tokens: int, sharing: int = 1) -> float:
    """Keys and values of one sequence's `n_tokens` tokens, over all layers."""
    n_attention = config.layer_names.count("attention")
    return 2 * n_attention * n_tokens * kv_width(config, sharing)


def kv_width(config: LMConfig, sharing: int) -> int:
    """Numbers in the keys of one token in one layer."""
    if not is_whole(sharing, 1) or config.n_heads % sharing:
        raise ValueError(
            f"sharing is {sharing}: choose a divisor of n_heads = {config.n_heads}"
        )
    return config.d_model // sharing
