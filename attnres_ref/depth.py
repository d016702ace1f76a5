"""Attention over depth: the operator of Eq. 2-4 and its online-softmax parts.

    h = sum_i alpha_i v_i        alpha = softmax_i( w . RMSNorm(v_i) )

One learned query w scores every source v_i through its normalised key, and the
raw sources are mixed. Tokens never meet here: each position attends over its
own n sources.

The operator stands here twice: `stacked_depth_attention` as the equations are written,
`depth_attention` without the copies that this makes. They compute the same up to rounding;
of half-precision sources the second is more exact, because it works in float32.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def stacked_depth_attention(query, sources, norm_weight=None, eps=1e-5):
    """The read as the equations are written: stack, normalise, score, mix. Autograd keeps
    several copies of all sources for it. Arguments as for `depth_attention`, all of one
    dtype, and not checked."""
    values = torch.stack(tuple(sources))                          # [n, ..., d]
    keys = F.rms_norm(values, values.shape[-1:], norm_weight, eps)
    weights = (keys @ query).softmax(0)                           # [n, ...]
    return torch.einsum("n...,n...d->...d", weights, values)


def depth_attention(
    query: Tensor,
    sources: Sequence[Tensor],
    norm_weight: Tensor | None = None,
    eps: float = 1e-5,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Read one layer's input from what earlier layers wrote (Eq. 2-4).

    query:       [d], the layer's pseudo-query w
    sources:     n >= 1 tensors [..., d] of one shape, dtype and device
    norm_weight: [d], weight of the keys' RMSNorm; None means ones
    Returns [..., d] in the sources' dtype, with `return_weights` also the
    weights alpha [n, ...]. Scores, softmax and mix are computed in float32, in
    float64 for float64 sources. Differentiable once in every tensor argument.
    Raises ValueError for empty or mixed sources and for a query or norm_weight
    that does not match them.
    """
    check_sources(sources, query=query, norm_weight=norm_weight)
    # Weight and query only ever meet as a product: fold them here, and autograd
    # shares the gradient out between the two.
    folded = query if norm_weight is None else query * norm_weight
    with no_autocast(folded):
        mixed, weights = LeanDepthAttention.apply(folded, eps, *sources)
    return (mixed, weights) if return_weights else mixed


class LeanDepthAttention(torch.autograd.Function):
    """Eq. 2-4 as loops over the sources, never a stacked [n, ..., d] copy.

    Backward needs the sources, which the model holds anyway, and three numbers
    per token and source.
    """

    @staticmethod
    def forward(ctx, query, eps, *sources):
        dtype = score_dtype(sources[0])
        query = query.to(dtype)
        logits, inverse_rms = score(query, sources, eps)             # [n, ...] each
        weights = logits.softmax(0)
        mixed = weights[0].unsqueeze(-1) * sources[0].to(dtype)      # [..., d]
        for weight, source in zip(weights[1:], sources[1:]):
            mixed.addcmul_(weight.unsqueeze(-1), source.to(dtype))
        ctx.save_for_backward(query, logits, inverse_rms, weights, *sources)
        ctx.set_materialize_grads(False)      # an unused output has gradient None
        return mixed.to(sources[0].dtype), weights

    @staticmethod
    @once_differentiable
    def backward(ctx, d_mixed, d_weights_outside):
        query, logits, inverse_rms, weights, *sources = ctx.saved_tensors
        d_mixed = torch.zeros_like(sources[0]) if d_mixed is None else d_mixed
        d_mixed = d_mixed.to(query.dtype)

        # d_x is the gradient of the loss in x. Through the mix, alpha_i gets v_i . d_mixed;
        # through the softmax, logit_i gets alpha_i (d_alpha_i - sum_j alpha_j d_alpha_j).
        d_weights = [torch.linalg.vecdot(v.to(query.dtype), d_mixed) for v in sources]
        d_weights = torch.stack(d_weights)                           # [n, ...]
        if d_weights_outside is not None:
            d_weights = d_weights + d_weights_outside
        d_logits = weights * (d_weights - (weights * d_weights).sum(0))

        # With r_i = 1 / rms(v_i), logit_i = r_i (w . v_i) and dr_i/dv_i = -r_i^3 v_i / d,
        # so dlogit_i/dw = r_i v_i and dlogit_i/dv_i = r_i w - (logit_i r_i^2 / d) v_i.
        along_query = (d_logits * inverse_rms).unsqueeze(-1)         # [n, ..., 1]
        per_logit = (logits * inverse_rms / query.shape[0]).unsqueeze(-1)
        along_source = -along_query * per_logit
        d_sources = []
        for i, source in enumerate(sources):
            v = source.to(query.dtype)
            d_v = weights[i].unsqueeze(-1) * d_mixed
            d_v.addcmul_(along_query[i], query).addcmul_(along_source[i], v)
            d_sources.append(d_v.to(source.dtype))
            if i == 0:
                d_query = along_query[i] * v              # by token, summed at the end
            else:
                d_query.addcmul_(along_query[i], v)
        return d_query.reshape(-1, len(query)).sum(0), None, *d_sources


def score(query, sources, eps):
    """Logits w . v_i / rms(v_i) and 1 / rms(v_i), [n, ...] each, in query's dtype."""
    # vector_norm widens as it reduces, so no wide copy of a half-precision source is made.
    lengths = [torch.linalg.vector_norm(v, dim=-1, dtype=query.dtype) for v in sources]
    squares = torch.stack(lengths).square()
    inverse_rms = (squares / query.shape[0] + eps).rsqrt()
    products = [torch.linalg.vecdot(v.to(query.dtype), query) for v in sources]
    return torch.stack(products) * inverse_rms, inverse_rms


def score_dtype(source: Tensor) -> torch.dtype:
    """float32 for float32 and below, float64 for float64."""
    return torch.promote_types(source.dtype, torch.float32)


def no_autocast(tensor: Tensor):
    """Autocast would compute the dot products in half precision, however wide we made
    their operands."""
    return torch.autocast(tensor.device.type, enabled=False)


# ---- The same with the softmax left open, for two-phase inference (notebook 08) --------


def attend_with_stats(
    queries: Tensor,
    sources: Sequence[Tensor],
    norm_weights: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Several queries over the same sources, softmax left open (Alg. 1, phase 1).

    queries: [S, d]; sources as in `depth_attention`; norm_weights: [S, d] or None
    Returns o [S, ..., d] = sum_i exp(s_i - m) v_i, m [S, ...] = max_i s_i and
    l [S, ...] = sum_i exp(s_i - m), in float32 or wider. The read is o / l.
    Raises ValueError as `depth_attention` does.
    """
    check_sources(sources, queries=queries, norm_weights=norm_weights)
    dtype = score_dtype(sources[0])
    folded = (queries if norm_weights is None else queries * norm_weights).to(dtype)
    with no_autocast(folded):
        logits = torch.stack([score(query, sources, eps)[0] for query in folded])
    m = logits.amax(1)                                   # [S, ...] of [S, n, ...]
    unnormalised = (logits - m.unsqueeze(1)).exp()
    o = sum(
        weight.unsqueeze(-1) * source.to(dtype)                      # [S, ..., d]
        for weight, source in zip(unnormalised.unbind(1), sources)
    )
    return o, m, unnormalised.sum(1)


Stats = tuple[Tensor, Tensor, Tensor]      # o, m, l of `attend_with_stats`


def merge(first: Stats, second: Stats) -> Stats:
    """Online softmax: the stats over the union of two sets of sources (Alg. 1).

    Both are brought to the larger maximum, so no exponential exceeds one.
    """
    (o1, m1, l1), (o2, m2, l2) = first, second
    m = torch.maximum(m1, m2)
    scale1, scale2 = (m1 - m).exp(), (m2 - m).exp()
    o = scale1.unsqueeze(-1) * o1 + scale2.unsqueeze(-1) * o2
    return o, m, scale1 * l1 + scale2 * l2


def check_sources(sources: Sequence[Tensor], **vectors: Tensor | None) -> None:
    """Raise ValueError unless the sources agree and every vector ends in their width."""
    if len(sources) == 0:
        raise ValueError("sources is empty: pass at least one tensor of shape [..., d]")
    first = sources[0]
    if first.dim() == 0 or not first.is_floating_point():
        raise ValueError(
            f"sources[0] has shape {tuple(first.shape)} and dtype {first.dtype}: "
            "pass floating-point tensors of shape [..., d]"
        )
    for i, source in enumerate(sources[1:], start=1):
        for attribute in ("shape", "dtype", "device"):
            got, expected = getattr(source, attribute), getattr(first, attribute)
            if got != expected:
                raise ValueError(
                    f"sources[{i}] has {attribute} {got}, sources[0] has {expected}: "
                    f"bring all sources to one {attribute}"
                )
    for name, vector in vectors.items():
        if vector is None:
            continue
        rank = 2 if name in ("queries", "norm_weights") else 1
        if vector.dim() != rank or vector.shape[-1] != first.shape[-1]:
            expected = f"[{first.shape[-1]}]" if rank == 1 else f"[S, {first.shape[-1]}]"
            raise ValueError(
                f"{name} has shape {list(vector.shape)}: "
                f"sources of width {first.shape[-1]} need {expected}"
            )
        if vector.device != first.device:
            raise ValueError(
                f"{name} is on {vector.device}, sources on {first.device}: move one of them"
            )
