"""Attention over depth: the operator of Eq. 2-4.

    h = sum_i alpha_i v_i        alpha = softmax_i( w . RMSNorm(v_i) )

One learned query w scores every source v_i through its normalised key, and the
raw sources are mixed. Tokens never meet here: each position attends over its
own n sources.

The operator stands here twice: `stacked_depth_attention` as the equations are written,
`depth_attention` without the copies that this makes. They compute the same up to rounding;
of half-precision sources the second is more exact, because it works in float32.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from attnres_ref.fields import is_real


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
    float64 for float64 sources. Differentiable twice in every tensor argument; fit for
    torch.compile and for torch.func's grad, jacrev and vmap (not forward mode).
    Raises ValueError for empty or mixed sources, for a query or norm_weight that does
    not match them, and for what is no tensor or no eps.
    """
    check_sources(sources, eps, query=query, norm_weight=norm_weight)
    folded = fold(query, norm_weight, sources[0])
    read = LeanDepthAttention.apply if torch.is_grad_enabled() else lean_read
    with no_autocast(folded):
        mixed, weights, *_ = read(folded, eps, *sources)
    return (mixed, weights) if return_weights else mixed


def lean_read(query, eps, *sources):
    """Eq. 2-4 as loops over the sources, never a stacked [n, ..., d] copy. Returns the read
    [..., d], its weights, and what they were made of: [n, ...] each, in query's dtype."""
    logits, inverse_rms = score(query, sources, eps)
    weights = logits.softmax(0)
    mixed = weights[0].unsqueeze(-1) * sources[0].to(query.dtype)
    for weight, source in zip(weights[1:], sources[1:]):
        mixed.addcmul_(weight.unsqueeze(-1), source.to(query.dtype))
    return mixed.to(sources[0].dtype), weights, logits, inverse_rms


class LeanDepthAttention(torch.autograd.Function):
    """`lean_read`, whose backward needs the sources, which the model holds anyway, and
    three numbers per token and source."""

    generate_vmap_rule = True              # for torch.func.vmap: per-sample gradients
    forward = staticmethod(lean_read)

    @staticmethod
    def setup_context(ctx, inputs, output):
        query, ctx.eps, *sources = inputs
        _, weights, logits, inverse_rms = output
        ctx.mark_non_differentiable(logits, inverse_rms)
        ctx.set_materialize_grads(False)      # an unused output has gradient None
        ctx.save_for_backward(query, weights, logits, inverse_rms, *sources)

    @staticmethod
    def backward(ctx, d_mixed, d_weights, *_):
        query, weights, logits, inverse_rms, *sources = ctx.saved_tensors
        with no_autocast(query):
            if torch.is_grad_enabled():    # a second derivative needs where they came from
                logits, inverse_rms = score(query, sources, ctx.eps)
                weights = logits.softmax(0)
            d_mixed = torch.zeros_like(sources[0]) if d_mixed is None else d_mixed
            d_query, d_sources = gradients(
                query, sources, weights, logits, inverse_rms, d_mixed, d_weights
            )
        return d_query, None, *d_sources


def gradients(query, sources, weights, logits, inverse_rms, d_mixed, d_weights_outside):
    """Of query [d] and every source [..., d], from those of what `lean_read` returned: the
    read and, where they were used, the weights."""
    # d_x is the gradient of the loss in x. Through the mix, alpha_i gets v_i . d_mixed;
    # through the softmax, logit_i gets alpha_i (d_alpha_i - sum_j alpha_j d_alpha_j).
    d_mixed = d_mixed.to(query.dtype)
    d_weights = [torch.linalg.vecdot(v.to(query.dtype), d_mixed) for v in sources]
    d_weights = torch.stack(d_weights)                               # [n, ...]
    if d_weights_outside is not None:
        d_weights = d_weights + d_weights_outside
    d_logits = weights * (d_weights - (weights * d_weights).sum(0))

    # With r_i = 1 / rms(v_i), logit_i = r_i (w . v_i) and dr_i/dv_i = -r_i^3 v_i / d,
    # so dlogit_i/dw = r_i v_i and dlogit_i/dv_i = r_i w - (logit_i r_i^2 / d) v_i.
    along_query = (d_logits * inverse_rms).unsqueeze(-1)             # [n, ..., 1]
    per_logit = (logits * inverse_rms / query.shape[0]).unsqueeze(-1)
    along_source = -along_query * per_logit
    d_sources = []
    for i, source in enumerate(sources):
        v = source.to(query.dtype)
        d_v = weights[i].unsqueeze(-1) * d_mixed
        d_v.addcmul_(along_query[i], query).addcmul_(along_source[i], v)
        d_sources.append(d_v.to(source.dtype))
        if i == 0:
            d_query = along_query[i] * v                  # by token, summed at the end
        else:
            d_query.addcmul_(along_query[i], v)
    return d_query.reshape(-1, len(query)).sum(0), d_sources


def fold(query: Tensor, norm_weight: Tensor | None, source: Tensor) -> Tensor:
    """Query and norm weight only ever meet as a product, here in the dtype that this source
    is scored in; autograd shares its gradient out between the two."""
    query = query.to(score_dtype(source))
    return query if norm_weight is None else query * norm_weight.to(query.dtype)


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


def widened(tensor: Tensor) -> Tensor:
    """In float32, or in float64 where that is what it has."""
    return tensor.to(score_dtype(tensor))


def no_autocast(tensor: Tensor):
    """Autocast would compute the dot products in half precision, however wide we made
    their operands. On the meta device there is none."""
    device = tensor.device.type
    if device == "meta":               # torch.compile of 2.11 traces no
        return nullcontext()           # torch.amp.is_autocast_available
    return torch.autocast(device, enabled=False)


def check_sources(
    sources: Sequence[Tensor], eps: float = 1e-5, **vectors: Tensor | None
) -> None:
    """Raise ValueError unless the sources agree, every vector ends in their width, and
    eps can stand under a root."""
    if not isinstance(sources, list | tuple):
        raise ValueError(
            f"sources is a {type(sources).__name__}: pass a list or tuple of tensors"
        )
    if not sources:
        raise ValueError("sources is empty: pass at least one tensor of shape [..., d]")
    if not is_real(eps, 0):
        raise ValueError(f"eps is {eps}: it must be a finite number, at least 0")
    given = {name: vector for name, vector in vectors.items() if vector is not None}
    first = sources[0]
    for i, tensor in enumerate((*sources, *given.values())):
        name = [*given][i - len(sources)] if i >= len(sources) else f"sources[{i}]"
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}: pass a tensor")
        if tensor.dim() == 0 or not tensor.is_floating_point():
            raise ValueError(
                f"{name} has shape {list(tensor.shape)} and dtype {tensor.dtype}: "
                "pass floating-point tensors whose last dimension is d"
            )
    for i, source in enumerate(sources[1:], start=1):
        for attribute in ("shape", "dtype", "device"):
            got, expected = getattr(source, attribute), getattr(first, attribute)
            if got != expected:
                raise ValueError(
                    f"sources[{i}] has {attribute} {got}, sources[0] has {expected}: "
                    f"bring all sources to one {attribute}"
                )
    for name, vector in given.items():
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
