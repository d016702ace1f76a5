"""What depth mixing looks like once trained: ranks against theory, where reads look,
and whether weight says what matters (sec. 6.2, Fig. 8)."""

import math
from collections.abc import Sequence
from statistics import correlation
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnres_ref.study.probes import at_every_read, rms


def vectors_visible(config, n_outputs: int) -> int:
    """Vectors per token that later reads still see after `n_outputs` layers have written.
    config: an LMConfig, whose residual says how much a stream forgets."""
    match config.residual:
        case "prenorm" | "layerscale" | "rezero" | "highway":
            return 1
        case "mhc":
            return config.n_streams
        case "block" | "block_raw_keys":
            return 1 + math.ceil(n_outputs / config.block_size)
        case "window":
            return 1 + min(n_outputs, config.window)
        case _:
            return 1 + n_outputs


def rank_bound(config) -> int:
    """What `semiseparable_rank` cannot exceed: at every depth, the vectors that pass it
    or the reads still to come, whichever are fewer."""
    L = config.n_layers
    return max(min(vectors_visible(config, j), L + 1 - j) for j in range(L + 1))


def reads(model: nn.Module, tokens: Tensor) -> list[dict]:
    """Every depth read of tokens [B, T], L + 1 of them, averaged over tokens:

    weights: [n], as `probes.depth_weights`
    shares:  [n], RMS of alpha_i v_i, what a source brings into the read
    spread:  entropy of a token's weights over log n; 1: even, 0: one source only (and
             nan where there is only one)
    Raises ValueError for a model without depth attention.
    """
    def look(weights, sources):
        n, entropy = len(sources), -torch.xlogy(weights, weights).sum(0)      # [B, T]
        return dict(
            weights=weights.flatten(1).mean(1).tolist(),
            shares=[rms(w.unsqueeze(-1) * v) for w, v in zip(weights, sources)],
            spread=entropy.mean().item() / math.log(n) if n > 1 else math.nan,
        )

    return at_every_read(model, tokens, look)


def relative(reads: Sequence[dict]) -> list[list[float]]:
    """The weights of `reads`, in units of the plain mean 1/n of their read."""
    rows = [read["weights"] for read in reads]
    return [[weight * len(row) for weight in row] for row in rows]


class Lost(NamedTuple):
    """One source taken from one read."""

    read: int                      # L for the final read
    source: int                    # 0: the embedding
    weight: float                  # in units of the read's plain mean
    share: float                   # RMS of alpha_i v_i
    increase: float                # of the loss, nats per byte


def lost_sources(reads: Sequence[dict], increases: Sequence[Sequence[float]]) -> list[Lost]:
    """`reads` and `mixing.source_ablation` of one model, entry by entry; a read with one
    source, which it cannot lose, is left out."""
    rows = relative(reads)
    return [
        Lost(layer, source, rows[layer][source], read["shares"][source], float(increase))
        for layer, (read, row) in enumerate(zip(reads, increases)) if len(row) > 1
        for source, increase in enumerate(row)
    ]


def agreement(lost: Sequence[Lost], what: str) -> float:
    """Spearman's rank correlation of the loss increase with "weight" or "share": 1 if
    it orders the sources as the increase does."""
    values, increases = [getattr(x, what) for x in lost], [x.increase for x in lost]
    return correlation(ranks(values), ranks(increases))


def ranks(values: Sequence[float]) -> list[int]:
    """The rank of each value, 0 for the smallest, where no two are alike. (Python 3.12
    has statistics.correlation(method="ranked"); the course runs on 3.11.)"""
    ordered = sorted(values)
    return [ordered.index(value) for value in values]
