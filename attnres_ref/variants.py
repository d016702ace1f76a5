"""The rows of Tables 4 and 5 besides PreNorm, Full and Block: ablations of AttnRes and
other residual connections, each with the same begin / read / write.

What a stream computes from contents, it computes in one place, `attend` or `gate`; the
rest is linear in what was written. So a probe can send marked values along and replace
that one by another that does not see the marks (attnres_ref.study.mixing).
"""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.depth import (
    depth_attention,
    fold,
    no_autocast,
    score,
    score_dtype,
    widened,
)
from attnres_ref.fields import is_whole
from attnres_ref.streams import (
    STREAMS,
    BlockAttnRes,
    Depth,
    FullAttnRes,
    PreNorm,
    in_layer_dtype,
    sources_of,
)


def mix(weights, sources) -> Tensor:
    """sum_i weights[i] v_i, in the sources' dtype. weights: n tensors that broadcast
    against [...], scalars among them; sources: n tensors [..., d]."""
    dtype = score_dtype(sources[0])
    weights = [weight.to(dtype).unsqueeze(-1) for weight in weights]
    mixed = weights[0] * sources[0].to(dtype)                         # [..., d]
    for weight, source in zip(weights[1:], sources[1:]):
        mixed = mixed.addcmul(weight, source.to(dtype))
    return mixed.to(sources[0].dtype)


# ---- AttnRes with one thing changed (Table 4) ------------------------------------------


def sigmoid_attention(query, sources, norm_weight=None, return_weights=False):
    """`depth_attention` with a sigmoid for each source instead of the softmax over all:
    sources no longer compete, and a read may grow."""
    query = fold(query, norm_weight, sources[0])
    with no_autocast(query):
        logits, _ = score(query, sources, eps=1e-5)
    weights = logits.sigmoid()                                        # [n, ...]
    mixed = mix(weights, sources)
    return (mixed, weights) if return_weights else mixed


def raw_key_attention(query, sources, norm_weight=None, return_weights=False):
    """`depth_attention` without the keys' RMSNorm: a large output scores high or low
    because it is large. norm_weight still weighs the channels."""
    query = fold(query, norm_weight, sources[0])
    with no_autocast(query):
        logits = [torch.linalg.vecdot(v.to(query.dtype), query) for v in sources]
    weights = torch.stack(logits).softmax(0)                          # [n, ...]
    mixed = mix(weights, sources)
    return (mixed, weights) if return_weights else mixed


class OtherAttnRes(BlockAttnRes):
    """Block AttnRes (Full with blocks of one) whose `attend` is no softmax over depth. A
    class of its own, because two phases and the pipeline cannot schedule it: they look at
    the class, and refuse this one."""


class SlidingWindow(FullAttnRes):
    """Reads the W latest outputs and the embedding. Raises ValueError for W < 1."""

    def __init__(self, n_layers: int, d_model: int, window: int, attend=depth_attention):
        super().__init__(n_layers, d_model, attend)
        if not is_whole(window, 1):
            raise ValueError(f"window is {window}: it must be at least 1 output")
        self.window = window

    def read(self, state, layer):
        embedding, *outputs = sources_of(state)
        return super().read(Depth((embedding, *outputs[-self.window :])), layer)


class Multihead(FullAttnRes):
    """Depth attention in each of H equal slices of the channels, side by side. Raises
    ValueError unless n_heads divides d_model."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, attend=depth_attention):
        super().__init__(n_layers, d_model, attend)
        if not is_whole(n_heads, 1) or d_model % n_heads:
            raise ValueError(f"depth_heads is {n_heads}: let it divide d_model = {d_model}")
        self.n_heads = n_heads

    def read(self, state, layer):
        norm_weight = 1 + widened(self.queries_norm[layer])
        vectors = self.queries[layer], norm_weight, *sources_of(state)
        heads = zip(*(x.chunk(self.n_heads, dim=-1) for x in vectors))     # [..., d / H]
        reads = [self.attend(query, sources, norm) for query, norm, *sources in heads]
        return torch.cat(reads, dim=-1)                               # [..., d]


class InputDependentQuery(FullAttnRes):
    """Full AttnRes with a query of each token's own: the learned one plus a projection of
    the token's latest source. d^2 more parameters a layer; two phases no longer work."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.projections = nn.Parameter(torch.zeros(n_layers + 1, d_model, d_model))

    def gate(self, sources: tuple[Tensor, ...], layer: int) -> Tensor:
        """Softmax weights [n, ...] of n sources [..., d]."""
        with no_autocast(self.queries):
            keys = [F.rms_norm(widened(v), v.shape[-1:]) for v in sources]
            own = keys[-1] @ widened(self.projections[layer]).T       # [..., d]
            query = (self.queries[layer] + own) * (1 + widened(self.queries_norm[layer]))
            return torch.stack([torch.linalg.vecdot(key, query) for key in keys]).softmax(0)

    def read(self, state, layer):
        sources = sources_of(state)
        return mix(self.gate(sources, layer), sources)


class StaticMixing(nn.Module):
    """Input-independent mixing: softmax over one learned number per read and source."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers + 1, n_layers + 1))

    def begin(self, embedding):
        return Depth((in_layer_dtype(embedding),))

    def weights(self, layer: int, n: int) -> Tensor:
        """Of n sources [n], the same for every token."""
        return widened(self.logits[layer, :n]).softmax(0)

    def read(self, state, layer):
        sources = sources_of(state)
        return mix(self.weights(layer, len(sources)), sources)

    def write(self, state, layer, output):
        return Depth((*state.completed, output))


# ---- Other residual connections (Table 5) ----------------------------------------------


class DenseFormer(StaticMixing):
    """A learned weight per read and source, not normalised; all ones is PreNorm.
    Kept as distances from one, so that it starts at zero like the rest."""

    def weights(self, layer, n):
        return 1 + widened(self.logits[layer, :n])


class LayerScale(PreNorm):
    """PreNorm whose outputs are scaled by a learned vector, small at first."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.scale = nn.Parameter(torch.full((n_layers, d_model), 0.1))

    def write(self, state, layer, output):
        return state + self.scale[layer] * output


class ReZero(PreNorm):
    """LayerScale with one number for all channels, which starts at zero."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.scale = nn.Parameter(torch.zeros(n_layers))

    write = LayerScale.write


class LoudEmbedding(PreNorm):
    """PreNorm whose embedding has RMS one at first, not d^-1/2, so that the outputs of the
    first layers do not drown it. Vaswani et al. (2017) multiply it so, too."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.factor = d_model**0.5

    def begin(self, embedding):
        return embedding * self.factor


class Highway(PreNorm):
    """h <- (1 - g) h + g f(h) with a gate g per token: a convex mix, whose rows sum to
    one. Gates start at 1 / (layer + 2), which makes h the mean of all sources."""

    def __init__(self, n_layers: int, d_model: int):
        super().__init__(n_layers, d_model)
        self.gates = nn.Parameter(torch.zeros(n_layers, d_model))
        start = -torch.arange(1, n_layers + 1).double().log()         # sigmoid: 1/(layer+2)
        self.bias = nn.Parameter(start.float())

    def gate(self, state: Tensor, layer: int) -> Tensor:
        """How much of a layer's output enters, for each token: [..., 1], from 0 to 1."""
        with no_autocast(state):
            content = F.rms_norm(widened(state), state.shape[-1:])    # [..., d]
            logit = content @ widened(self.gates[layer]) + self.bias[layer]
            return logit.sigmoid().unsqueeze(-1)

    def write(self, state, layer, output):
        gate = self.gate(state, layer).to(state.dtype)
        return state + gate * (output - state)


class HyperConnections(nn.Module):
    """mHC: m residual streams, mixed at every layer by a doubly stochastic matrix.

    A layer reads a learned combination of the streams and writes to all of them with
    learned strengths. The matrix is exact, without Sinkhorn's loop (mHC-lite). At first
    layer l reads stream l mod m and all strengths are one, so every stream is PreNorm's.
    Raises ValueError for m outside 1..6: all m! permutations of the streams are listed.
    """

    def __init__(self, n_layers: int, d_model: int, n_streams: int):
        super().__init__()
        if not is_whole(n_streams, 1, 6):
            raise ValueError(f"n_streams is {n_streams}: choose 1 to 6")
        self.n_streams, m = n_streams, n_streams
        # On the CPU whatever the default device is: an index may be, and a fake tensor
        # cannot be indexed by one on "meta".
        orders = torch.tensor(list(permutations(range(m))), device="cpu")     # [m!, m]
        # In checkpoints too: a model made on the meta device knows only what it loads.
        self.register_buffer("permutations", torch.eye(m)[orders])
        # The first permutation is the identity: it starts with nearly all the weight.
        self.mixing_bias = nn.Parameter(torch.zeros(n_layers, len(orders)))
        self.mixing_bias.data[:, 0] = 6.0
        self.mixing = nn.Parameter(torch.zeros(n_layers, d_model, len(orders)))
        self.reads = nn.Parameter(torch.eye(m)[torch.arange(n_layers + 1) % m])
        self.writes = nn.Parameter(torch.ones(n_layers, m))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        # Checkpoints of version 0.1.0 lack the permutations, which are always the same.
        state_dict.setdefault(f"{prefix}permutations", self.permutations)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def begin(self, embedding):
        streams = in_layer_dtype(embedding).unsqueeze(-2)
        return streams.expand(*embedding.shape[:-1], self.n_streams, -1)   # [..., m, d]

    def read(self, state, layer):
        return self.reads[layer].to(state.dtype) @ state              # [..., d]

    def gate(self, state: Tensor, layer: int) -> Tensor:
        """A convex combination of the permutations for each token's streams [..., m, d]:
        [..., m, m], whose rows and columns sum to one."""
        with no_autocast(state):
            content = F.rms_norm(widened(state).mean(-2), state.shape[-1:])   # [..., d]
            logits = content @ widened(self.mixing[layer]) + self.mixing_bias[layer]
            weights = logits.softmax(-1)                              # [..., m!]
            return torch.tensordot(weights, self.permutations.to(weights), dims=1)

    def write(self, state, layer, output):
        strength = self.writes[layer].to(state.dtype).unsqueeze(-1)   # [m, 1]
        mixed = self.gate(state, layer).to(state.dtype) @ state       # [..., m, d]
        return mixed + strength * output.unsqueeze(-2)


# LMConfig.residual -> how to build that stream from the configuration.
VARIANTS = {
    "sigmoid": lambda c, attend: OtherAttnRes(c.n_layers, c.d_model, 1, sigmoid_attention),
    "raw_keys": lambda c, attend: OtherAttnRes(c.n_layers, c.d_model, 1, raw_key_attention),
    "block_raw_keys": lambda c, attend: OtherAttnRes(
        c.n_layers, c.d_model, c.block_size, raw_key_attention
    ),
    "window": lambda c, attend: SlidingWindow(c.n_layers, c.d_model, c.window, attend),
    "multihead": lambda c, attend: Multihead(c.n_layers, c.d_model, c.depth_heads, attend),
    "input_query": lambda c, attend: InputDependentQuery(c.n_layers, c.d_model),
    "static": lambda c, attend: StaticMixing(c.n_layers, c.d_model),
    "denseformer": lambda c, attend: DenseFormer(c.n_layers, c.d_model),
    "layerscale": lambda c, attend: LayerScale(c.n_layers, c.d_model),
    "rezero": lambda c, attend: ReZero(c.n_layers, c.d_model),
    "loud": lambda c, attend: LoudEmbedding(c.n_layers, c.d_model),
    "highway": lambda c, attend: Highway(c.n_layers, c.d_model),
    "mhc": lambda c, attend: HyperConnections(c.n_layers, c.d_model, c.n_streams),
}
STREAMS.update(VARIANTS)
