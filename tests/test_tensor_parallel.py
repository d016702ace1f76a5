"""Layers split over processes, residual whole or sharded: same logits, bytes counted."""

import sys

import pytest
import torch

import tensor_ranks
from attnres_ref.inference.prefill import peak_elements, prefill
from attnres_ref.inference.tensor_parallel import (
    part_of,
    sent_elements,
    sequence_parallel,
    tensor_parallel,
)
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.pipeline.launch import RankFailed, launch
from test_streams import build
from test_two_phase import model_of, tokens_of

L, S, T, ROWS, D = 6, 4, 16, 2, 16
SIZE = dict(n_layers=L, d_model=D, n_heads=4, context=T)


def with_norms(model):
    """Norm weights away from one, or a norm on the wrong side could not be seen."""
    generator = torch.Generator().manual_seed(4)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            noise = torch.rand(weight.shape, generator=generator, dtype=weight.dtype)
            weight.data = 0.5 + noise
    return model


def model_like(S):
    size = dict(d=D, T=T, n_heads=4)
    return with_norms(build("prenorm", **SIZE) if S is None else model_of(L, S, **size))


CASES = [
    (parallel, model, tokens_of(T, ROWS), chunk, stream and stream(model.stream))
    for model, streams in (
        (model_like(None), [None]), (model_like(0), [None, TwoPhase]),
        (model_like(S), [None, TwoPhase]),
    )
    for stream in streams
    for parallel in (tensor_parallel, sequence_parallel)
    for chunk in (None, 5)                                   # no multiple of 2 or 4
]
MISTAKES = [tensor_ranks.NoSum, tensor_ranks.NextShard]


@pytest.fixture(scope="module", params=[2, 4])
def on_ranks(request):
    """P, and by rank a Prefilled for each case and each mistake in the last one."""
    return request.param, launch(tensor_ranks.prefill_all, request.param, CASES, MISTAKES)


def test_logits_equal_one_process_on_every_rank(on_ranks):
    for rank in on_ranks[1]:
        for (_, model, tokens, *_), result in zip(CASES, rank):
            with torch.no_grad():
                expected = model(tokens)
            torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-12)


def test_bytes_by_formula_are_the_bytes_counted_whole_or_sharded(on_ranks):
    P, by_rank = on_ranks
    for rank in by_rank:
        for (_, _, _, chunk, _), result in zip(CASES, rank):
            pieces = [len(piece) for piece in torch.zeros(T).split(chunk or T)]
            longest = [ROWS * -(-piece // P) for piece in pieces]
            sent = sum(sent_elements(L, P, n_tokens, D) for n_tokens in longest)
            assert result.sent_bytes == 8 * sent
            if chunk is None:                    # 2 (P - 1) / P of [B, T, d] for each layer
                assert result.sent_bytes * P == 2 * (P - 1) * L * ROWS * T * D * 8


def test_a_sharded_residual_keeps_a_pth_of_the_bytes(on_ranks):
    P, by_rank = on_ranks
    for rank in by_rank:
        for (parallel, model, tokens, chunk, stream), result in zip(CASES, rank):
            n_shards = P if parallel is sequence_parallel else 1
            _, peak = prefill(model, tokens, n_shards, chunk, stream)
            assert result.peak_bytes == peak             # one device of those in a tuple
            if chunk is None:
                _, whole = prefill(model, tokens, 1, None, stream)
                assert result.peak_bytes * n_shards == whole
            if stream is None and model.config.residual == "block":
                n_tokens = ROWS * -(-(chunk or T) // n_shards)
                assert peak == 8 * peak_elements(L, S, n_tokens, D)


def test_mistakes_show_in_the_logits(on_ranks):
    for rank in on_ranks[1]:
        for mistake, result in zip(MISTAKES, rank[len(CASES) :], strict=True):
            wrong = (result.logits - rank[len(CASES) - 1].logits).abs().max()
            assert wrong > 1e-3, mistake.__doc__


def test_a_collective_sends_what_is_counted():
    for difference, whole, found in launch(tensor_ranks.collectives, 4):
        assert difference < 1e-12
        for counted, at_sockets in found:
            assert counted == whole * 3 / 4
            if sys.platform == "linux":
                assert counted <= at_sockets < 1.05 * counted


def test_a_rank_killed_in_a_chunk_is_named():
    case = sequence_parallel, model_like(S), tokens_of(T), 8
    with pytest.raises(RankFailed, match="rank 1 failed; the other.*SIGKILL"):
        launch(tensor_ranks.rank_one_is_killed, 2, *case, timeout=120)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_parts_add_up_to_the_layer_and_share_its_weights(layer):
    layer = build("prenorm", **SIZE).layers[layer]
    h = torch.randn(2, 5, D, dtype=torch.float64)
    parts = [part_of(layer, rank, 4) for rank in range(4)]
    total = sum(part(layer.norm(h)) for part in parts)
    torch.testing.assert_close(total, layer(h), rtol=0, atol=1e-12)
    matrices = sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
    for part in parts:
        assert sum(weight.numel() for weight in part.parameters()) == matrices / 4


@pytest.mark.parametrize("size, layer, n_ranks, message", [
    ({}, 0, 3, "n_heads is 4, which 3 ranks cannot share .* choose .* divides 4"),
    ({}, 1, 5, "d_hidden is 48, which 5 ranks cannot share .* choose .* divides 48"),
    (dict(layers="kda,attention"), 0, 2, "layer is a KDA: only Attention and MLP"),
])
def test_what_cannot_be_split_is_named(size, layer, n_ranks, message):
    model = build("prenorm", **SIZE | size)
    with pytest.raises(ValueError, match=message):
        part_of(model.layers[layer], 0, n_ranks)
