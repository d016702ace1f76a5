"""Chained reads: an AttnRes stream, made for training, in which a source has one reader.

Every source of a deep model has many readers, and its gradient is a sum over them. Left to
itself, autograd makes one gradient [B, T, d] for each source at each read, and adds it to
what it has: per read of n sources about 5 n tensors are read or written. Two facts help.

A pseudo-query does not depend on the input. So a source is scored once, when it is
complete, against the queries of all reads that are still to come: one matrix product, and
one more for its gradient, in the place of one small product per read.

A read may hand its sources on to the next one. Then each source has one reader, the
gradient that comes back along this chain is the sum over all later reads, and the read
adds its own part to it in place: 3 n tensors in the place of 5 n.

    train(model_config, config, corpus, schedule=chained)
    loss_of(chained(model)(tokens)).backward()           # the model's own gradients
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnres_ref.depth import fold, no_autocast, widened
from attnres_ref.inference.two_phase import can_schedule
from attnres_ref.streams import BlockAttnRes, Depth
from attnres_ref.views import with_parts


def chained(model: nn.Module) -> nn.Module:
    """A view of the model: the same parameters, its depth reads chained. Raises ValueError
    for a model whose stream is not a BlockAttnRes or FullAttnRes by depth_attention."""
    return with_parts(model, stream=Chained(model.stream))


class Chain(NamedTuple):
    """The wrapped stream's state, the read of the layer that comes next, and the scores."""

    depth: Depth
    h: Tensor                          # [B, T, d], what `layer` reads
    layer: int
    queries: Tensor                    # [L + 1, d], key-norm weights folded in
    logits: tuple[tuple[Tensor, ...], ...]     # [B, T] by completed source and read to come
    sums: dict[int, Tensor]            # source -> the gradient under way; see `Mix`


class Chained(nn.Module):
    """The same reads as `stream`, each made when its last source is written.

    stream: a BlockAttnRes or FullAttnRes that reads by `depth_attention`, which is not
    called. Gradients equal those of the stream up to rounding, and two passes give the
    same bits. Keeps nothing but the sources and a few numbers per token and source.
    Differentiable once, not by torch.func. What backward hands along for the sources in a
    state is a sum that it goes on adding to, so for their gradients run `stream` itself.
    Raises ValueError for another stream, and for a read at another layer than the next.
    """

    def __init__(self, stream: BlockAttnRes):
        super().__init__()
        if not can_schedule(stream):
            raise ValueError(
                f"stream is {type(stream).__name__}, attend "
                f"{getattr(stream, 'attend', None)}: chained reads are those of "
                "BlockAttnRes and FullAttnRes by depth_attention; train any other model "
                "as it is"
            )
        self.stream = stream

    def begin(self, embedding: Tensor) -> Chain:
        norm_weights = 1 + widened(self.stream.queries_norm)          # [L + 1, d]
        queries = fold(self.stream.queries, norm_weights, embedding)
        return self.next_read(self.stream.begin(embedding), 0, queries, (), {})

    def read(self, state: Chain, layer: int) -> Tensor:
        if layer != state.layer:
            raise ValueError(
                f"layer is {layer}, but this state holds the read of layer {state.layer}: "
                "a chained stream is read once for every write, in order"
            )
        return state.h

    def write(self, state: Chain, layer: int, output: Tensor) -> Chain:
        depth = self.stream.write(state.depth, layer, output)
        return self.next_read(depth, layer + 1, state.queries, state.logits, state.sums)

    def next_read(self, depth: Depth, layer: int, queries, logits, sums) -> Chain:
        with no_autocast(queries):
            n_scored, n_completed = len(logits), len(depth.completed)
            if n_scored < n_completed:
                new = Score.apply(queries[layer:], depth.completed[-1])
                logits = (*logits, new.unbind(0))
            now = [scores[layer - len(queries)] for scores in logits]   # from the end
            if depth.partial is not None:
                now.append(Score.apply(queries[layer : layer + 1], depth.partial)[0])
            weights = torch.stack(now).softmax(0)                       # [n, B, T]
            if torch.compiler.is_compiling():      # it fuses the sums by itself
                h = mix(weights, depth.sources)
            else:
                h, *sources = Mix.apply(sums, weights, *depth.sources)
                depth = Depth(tuple(sources[:n_completed]), *sources[n_completed:])
        return Chain(depth, h, layer, queries, logits, sums)


def mix(weights, sources):
    """sum_i weights_i v_i, [..., d] in the sources' dtype; weights [n, ...]."""
    mixed = weights[0].unsqueeze(-1) * sources[0].to(weights.dtype)
    for weight, source in zip(weights[1:], sources[1:]):
        mixed.addcmul_(weight.unsqueeze(-1), source.to(weights.dtype))
    return mixed.to(sources[0].dtype)


class Score(torch.autograd.Function):
    """Logits w . v / rms(v) of queries [R, d] over one source [..., d]: [R, ...]."""

    @staticmethod
    def forward(ctx, queries, source, eps=1e-5):
        v = source.to(queries.dtype).reshape(-1, source.shape[-1])      # [N, d]
        length = torch.linalg.vector_norm(v, dim=-1)
        inverse_rms = (length.square() / v.shape[-1] + eps).rsqrt()     # [N]
        logits = (v @ queries.T).T * inverse_rms
        ctx.save_for_backward(queries, source, inverse_rms, logits)
        return logits.view(len(queries), *source.shape[:-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_logits):
        # As in `depth.gradients`, summed over the queries.
        queries, source, inverse_rms, logits = ctx.saved_tensors
        v = source.to(queries.dtype).reshape(-1, source.shape[-1])
        d_logits = d_logits.reshape(logits.shape)
        along_query = d_logits * inverse_rms                            # [R, N]
        along_source = -(along_query * logits).sum(0) * inverse_rms / v.shape[-1]
        d_source = (along_query.T @ queries).addcmul_(along_source.unsqueeze(-1), v)
        return along_query @ v, d_source.view_as(source).to(source.dtype), None


class Mix(torch.autograd.Function):
    """sum_i weights_i v_i, [..., d] in the sources' dtype, and the sources, handed on.

    weights [n, ...]. Backward gets from the next read, for every source, the gradient
    that later reads have summed, and adds its own part to it in place. It may do so only
    if that tensor is the sum that a read has made, and nothing else of the graph
    has: `sums` knows them. A gradient from elsewhere, as where a loss uses a source
    itself, is left as it is, and a new sum begins.
    """

    @staticmethod
    def forward(ctx, sums, weights, *sources):
        ctx.sums = sums
        ctx.set_materialize_grads(False)   # the last read gets no sums: None
        ctx.save_for_backward(weights, *sources)
        handed_on = [source.view_as(source) for source in sources]
        return mix(weights, sources), *handed_on

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_mixed, *so_far):
        weights, *sources = ctx.saved_tensors
        if d_mixed is None:
            return None, None, *so_far
        wide = d_mixed.to(weights.dtype)
        d_weights, product = torch.empty_like(weights), torch.empty_like(wide)
        totals = []
        for i, (source, total) in enumerate(zip(sources, so_far)):
            torch.mul(source, wide, out=product)
            torch.sum(product, -1, out=d_weights[i])
            weight, ours = weights[i].unsqueeze(-1), ctx.sums.pop(i, None)
            if total is None:
                total = (weight * wide).to(source.dtype)
            elif total is ours:
                total.addcmul_(weight, d_mixed)
            else:
                total = torch.addcmul(total, weight, d_mixed).to(source.dtype)
            totals.append(total)
        # The last source was written just before this read. Its sum is complete and leaves
        # the chain, for the layer that wrote it.
        ctx.sums.update(enumerate(totals[:-1]))
        return None, d_weights, *totals
