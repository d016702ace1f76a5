"""The rows of Tables 4 and 5 besides PreNorm, Full and Block: ablations of AttnRes and
other residual connections, each with the same begin / read / write.

What a stream computes from contents, it computes in one function, `attend` or `gate`; the
rest is linear in what was written. So a probe can send marked values along and replace
that function by one that does not see the marks (attnres_ref.study.mixing).
"""

import math
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import depth_attention, no_autocast, score, score_dtype
from attnres_ref.streams import (
    STREAMS,
    BlockAttnRes,
    Depth,
    FullAttnRes,
    PreNorm,
    in_layer_dtype,
)


def mix(weights, sources) -> Tensor:
    """sum_i weights[i] v_i, in the sources' dtype. weights: n tensors that broadcast
    against [...], scalars among them; sources: n tensors [..., d]."""
    dtype = score_dtype(sources[0])
    mixed = weights[0].unsqueeze(-1) * sources[0].to(dtype)           # [..., d]
    for weight, source in zip(weights[1:], sources[1:]):
        mixed = mixed.addcmul(weight.unsqueeze(-1), source.to(dtype))
    return mixed.to(sources[0].dtype)


# ---- AttnRes with one thing changed (Table 4) ------------------------------------------


def sigmoid_attention(query, sources, norm_weight=None, eps=1e-5, return_weights=False):
    """`depth_attention` with a sigmoid for each source instead of the softmax over all:
    sources no longer compete, and a read may grow."""
    folded = query if norm_weight is None else query * norm_weight
    with no_autocast(folded):
        logits, _ = score(folded.to(score_dtype(sources[0])), sources, eps)
        weights = logits.sigmoid()                                    # [n, ...]
        mixed = mix(weights, sources)
    return (mixed, weights) if return_weights else mixed


def raw_key_attention(query, sources, norm_weight=None, return_weights=False):
    """`depth_attention` without the keys' RMSNorm: a large output scores high or low
    because it is large. norm_weight still weighs the channels."""
    folded = query if norm_weight is None else query * norm_weight
    dtype = score_dtype(sources[0])
    with no_autocast(folded):
        logits = [torch.linalg.vecdot(v.to(dtype), folded.to(dtype)) for v in sources]
        weights = torch.stack(logits).softmax(0)                      # [n, ...]
        mixed = mix(weights, sources)
    return (mixed, weights) if return_weights else mixed


class SigmoidAttnRes(FullAttnRes):
    """Full AttnRes read by `sigmoid_attention`."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model, sigmoid_attention)


class RawKeyAttnRes(BlockAttnRes):
    """Block AttnRes, Full with blocks of one, read by `raw_key_attention`."""

    def __init__(self, n_layers: int, d_model: int, block_size: int):
        super().__init__(n_layers, d_model, block_size, raw_key_attention)


class SlidingWindow(FullAttnRes):
    """Reads the W latest outputs and the embedding.

    Raises ValueError for window W < 1.
    """

    def __init__(self, n_layers: int, d_model: int, window: int, attend=depth_attention):
        super().__init__(n_layers, d_model, attend)
        if window < 1:
            raise ValueError(f"window is {window}: it must be at least 1 output")
        self.window = window

    def read(self, state, layer):
        embedding, *outputs = state.sources
        norm_weight = 1 + self.queries_norm[layer]
        sources = (embedding, *outputs[-self.window :])
        return self.attend(self.queries[layer], sources, norm_weight)


class MultiheadAttnRes(FullAttnRes):
    """Depth attention in each of H equal slices of the channels, side by side.

    Raises ValueError unless n_heads divides d_model.
    """

    def __init__(self, n_layers: int, d_model: int, n_heads: int, attend=depth_attention):
        super().__init__(n_layers, d_model, attend)
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(
                f"depth_heads is {n_heads}: it must divide the width d_model = {d_model}"
            )
        self.n_heads = n_heads

    def read(self, state, layer):
        heads = zip(
            self.queries[layer].chunk(self.n_heads),                  # [d / H] each
            (1 + self.queries_norm[layer]).chunk(self.n_heads),
            zip(*(source.chunk(self.n_heads, dim=-1) for source in state.sources)),
        )
        reads = [self.attend(query, sources, norm) for query, norm, sources in heads]
        return torch.cat(reads, dim=-1)                               # [..., d]


def input_weights(sources, query, projection, norm_weight) -> Tensor:
    """Softmax weights [n, ...] of n sources [..., d] for a query that each token makes:
    query [d] plus `projection` [d, d] of the latest source, times norm_weight [d]."""
    with no_autocast(query):
        keys = [F.rms_norm(v.to(score_dtype(v)), v.shape[-1:]) for v in sources]
        query = (query + keys[-1] @ projection.T) * norm_weight       # [..., d]
        return torch.stack([torch.linalg.vecdot(key, query) for key in keys]).softmax(0)


class InputDependentQuery(FullAttnRes):
    """Full AttnRes whose queries depend on the input, by `input_weights`: d^2 more
    parameters a layer, and two phases no longer work."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.projections = nn.Parameter(torch.zeros(n_layers + 1, d_model, d_model))
        self.gate = input_weights

    def read(self, state, layer):
        query, norm_weight = self.queries[layer], 1 + self.queries_norm[layer]
        weights = self.gate(state.sources, query, self.projections[layer], norm_weight)
        return mix(weights, state.sources)


class StaticMixing(nn.Module):
    """Input-independent mixing: softmax over one learned number per read and source."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers + 1, n_layers + 1))

    def begin(self, embedding):
        return Depth(completed=(in_layer_dtype(embedding),))

    def write(self, state, layer, output):
        return Depth(completed=(*state.completed, output))

    def read(self, state, layer):
        sources = state.sources
        return mix(self.logits[layer, : len(sources)].softmax(0), sources)


# ---- Other residual connections (Table 5) ----------------------------------------------


class DenseFormer(StaticMixing):
    """A learned weight per read and source, not normalised; all ones is PreNorm.
    Kept as distances from one, so that it starts at zero like the rest."""

    def read(self, state, layer):
        return mix(1 + self.logits[layer, : len(state.sources)], state.sources)


class LayerScale(PreNorm):
    """PreNorm whose outputs are scaled by a learned vector, small at first."""

    def __init__(self, n_layers: int, d_model: int, start: float = 0.1):
        super().__init__(n_layers, d_model)
        self.scale = nn.Parameter(torch.full((n_layers, d_model), start))

    def write(self, state, layer, output):
        return state + self.scale[layer] * output


class ReZero(PreNorm):
    """PreNorm whose outputs are scaled by a learned number that starts at zero."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.scale = nn.Parameter(torch.zeros(n_layers))

    def write(self, state, layer, output):
        return state + self.scale[layer] * output


def highway_gate(state, weight, bias) -> Tensor:
    """How much of a layer's output enters, for each token: [..., 1], from 0 to 1.
    state: [..., d]; weight: [d]; bias: a number."""
    with no_autocast(state):
        content = F.rms_norm(state.to(score_dtype(state)), state.shape[-1:])
        return (content @ weight + bias).sigmoid().unsqueeze(-1)


class Highway(PreNorm):
    """h <- (1 - g) h + g f(h) with a gate g per token: a convex mix, whose rows sum to
    one. Gates start at 1 / (layer + 2), which makes h the mean of all sources."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.gates = nn.Parameter(torch.zeros(n_layers, d_model))
        start = [-math.log(layer + 1) for layer in range(n_layers)]  # sigmoid: 1/(layer+2)
        self.bias = nn.Parameter(torch.tensor(start))
        self.gate = highway_gate

    def write(self, state, layer, output):
        gate = self.gate(state, self.gates[layer], self.bias[layer])  # [B, T, 1]
        return state + gate.to(state.dtype) * (output - state)


def doubly_stochastic(streams, weight, bias, permutations) -> Tensor:
    """A convex combination of `permutations` [m!, m, m] for each token: [..., m, m], whose
    rows and columns sum to one. streams: [..., m, d]; weight: [d, m!]; bias: [m!]."""
    with no_autocast(streams):
        mean = streams.to(score_dtype(streams)).mean(-2)              # [..., d]
        logits = F.rms_norm(mean, mean.shape[-1:]) @ weight + bias
        return torch.tensordot(logits.softmax(-1), permutations, dims=1)


class HyperConnections(nn.Module):
    """mHC: m residual streams, mixed at every layer by a doubly stochastic matrix.

    A layer reads a learned combination of the streams and writes to all of them with
    learned strengths. The matrix is `doubly_stochastic`: exactly, without Sinkhorn's loop
    (mHC-lite). At first layer l reads stream l mod m and all strengths are one, so
    every stream is PreNorm's.
    Raises ValueError for a number of streams outside 1..6.
    """

    def __init__(self, n_layers: int, d_model: int, n_streams: int):
        super().__init__()
        if not 1 <= n_streams <= 6:
            raise ValueError(
                f"n_streams is {n_streams}: choose 1 to 6 (all permutations are listed)"
            )
        self.n_streams, m = n_streams, n_streams
        orders = torch.tensor(list(permutations(range(m))))           # [m!, m]
        self.register_buffer("permutations", F.one_hot(orders, m).float(), persistent=False)
        # The first permutation is the identity: it starts with nearly all the weight.
        start = torch.zeros(n_layers, len(orders))
        start[:, 0] = 6.0
        self.mixing_bias = nn.Parameter(start)
        self.mixing = nn.Parameter(torch.zeros(n_layers, d_model, len(orders)))
        turns = torch.arange(n_layers + 1) % m
        self.reads = nn.Parameter(F.one_hot(turns, m).float())        # [L + 1, m]
        self.writes = nn.Parameter(torch.ones(n_layers, m))
        self.gate = doubly_stochastic

    def begin(self, embedding):
        streams = in_layer_dtype(embedding).unsqueeze(-2)
        return streams.expand(*embedding.shape[:-1], self.n_streams, -1)   # [..., m, d]

    def read(self, state, layer):
        return self.reads[layer].to(state.dtype) @ state              # [..., d]

    def write(self, state, layer, output):
        transition = self.transition(state, layer).to(state.dtype)
        strength = self.writes[layer].to(state.dtype).unsqueeze(-1)   # [m, 1]
        return transition @ state + strength * output.unsqueeze(-2)

    def transition(self, state: Tensor, layer: int) -> Tensor:
        """Doubly stochastic matrices [B, T, m, m] for streams [B, T, m, d]."""
        weights = self.mixing[layer], self.mixing_bias[layer]
        return self.gate(state, *weights, self.permutations)


# LMConfig.residual -> how to build that stream from the configuration.
VARIANTS = {
    "sigmoid": lambda c, attend: SigmoidAttnRes(c.n_layers, c.d_model),
    "raw_keys": lambda c, attend: RawKeyAttnRes(c.n_layers, c.d_model, block_size=1),
    "block_raw_keys": lambda c, attend: RawKeyAttnRes(c.n_layers, c.d_model, c.block_size),
    "window": lambda c, attend: SlidingWindow(c.n_layers, c.d_model, c.window, attend),
    "multihead": lambda c, attend: MultiheadAttnRes(
        c.n_layers, c.d_model, c.depth_heads, attend
    ),
    "input_query": lambda c, attend: InputDependentQuery(c.n_layers, c.d_model),
    "static": lambda c, attend: StaticMixing(c.n_layers, c.d_model),
    "denseformer": lambda c, attend: DenseFormer(c.n_layers, c.d_model),
    "layerscale": lambda c, attend: LayerScale(c.n_layers, c.d_model),
    "rezero": lambda c, attend: ReZero(c.n_layers, c.d_model),
    "highway": lambda c, attend: Highway(c.n_layers, c.d_model),
    "mhc": lambda c, attend: HyperConnections(c.n_layers, c.d_model, c.n_streams),
}
STREAMS.update(VARIANTS)
