"""The mixing matrix reproduces every read; ranks and ablations mean what they say."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

import mixing as record_mixing
from attnres_ref.streams import STREAMS
from attnres_ref.study.mixing import mixing_matrix, semiseparable_rank, source_ablation
from attnres_ref.study.probes import depth_weights, trace
from test_variants import TOKENS, build


@pytest.mark.parametrize("residual", ["prenorm", "full", "highway", "input_query"])
def test_a_probe_leaves_the_stream_as_it_was(residual):
    model = build(residual)
    stream, before = model.stream, set(vars(model.stream))
    mixing_matrix(model, TOKENS)
    assert model.stream is stream and set(vars(stream)) == before


@pytest.mark.parametrize("residual", sorted(STREAMS))
def test_a_read_is_its_row_of_the_matrix_times_the_sources(residual):
    model = build(residual, 0.5)
    stream = model.stream
    M = mixing_matrix(model, TOKENS)
    seen = trace(model, TOKENS)
    sources = torch.stack([model.embedding(TOKENS), *seen.outputs])   # [L + 1, B, T, d]
    reads = torch.einsum("li...,i...->l...", M, sources)
    torch.testing.assert_close(reads, torch.stack(seen.inputs), rtol=0, atol=1e-12)
    assert model.stream is stream                      # and the model is as it was
    assert torch.equal(trace(model, TOKENS).inputs[-1], seen.inputs[-1])


def test_blind_to_the_marks():
    """Seen marks would change the scores: the probe must not."""
    model = build("full", 0.5)
    row = depth_weights(model, TOKENS)[5]
    torch.testing.assert_close(mixing_matrix(model, TOKENS)[5, :6].mean((1, 2, 3)), row)


@pytest.mark.parametrize(
    "residual, changes, expected",
    [
        ("prenorm", {}, 1),
        ("rezero", {}, 1),
        ("layerscale", {}, 1),
        ("highway", {}, 1),
        ("mhc", dict(n_streams=2), 2),
        ("mhc", dict(n_streams=3), 3),
        ("window", dict(window=2), 3),                 # the window and the embedding
        ("block", dict(block_size=8), 2),              # the embedding and one sum
        ("block", dict(block_size=4), 3),
        ("block", dict(block_size=2), 4),              # after v_5: b_0, b_1, b_2 and a sum
        ("full", {}, 5),                               # (L + 2) // 2: as high as it can be
        ("denseformer", {}, 5),
    ],
)
def test_semiseparable_ranks(residual, changes, expected):
    M = mixing_matrix(build(residual, 0.5, **changes), TOKENS)
    assert semiseparable_rank(M[..., 0, 0, 0]) == expected


def test_source_ablation_is_the_loss_of_a_model_that_cannot_see_the_source():
    model, targets = build("block", 0.5, block_size=4), TOKENS.roll(-1, 1)
    rows = source_ablation(model, TOKENS, targets)
    assert [len(row) for row in rows] == [1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert rows[0].isnan().all() and not torch.cat(rows[1:]).isnan().any()

    stream = model.stream

    def loss():
        return F.cross_entropy(model(TOKENS).flatten(0, 1), targets.flatten()).item()

    whole, plain = loss(), stream.read

    def read_without_the_embedding(state, layer):
        if layer == 6:
            state = state._replace(completed=state.completed[1:])
        return plain(state, layer)

    stream.read = read_without_the_embedding
    assert rows[6][0].item() == pytest.approx(loss() - whole, abs=1e-6)


def test_the_recorder_writes_json_without_nan():
    rounded = record_mixing.rounded([math.nan, 0.123456, dict(rows=[[1e-56]])])
    assert rounded == [None, 0.1235, dict(rows=[[1e-56]])]
    record = record_mixing.matrix_and_ranks(build("block", 0.5, block_size=4), TOKENS)
    assert [len(row) for row in record["matrix"]] == list(range(1, 10))
    assert set(record["rank"]) == {3} and record["rank_bound"] == 3
    json.loads(json.dumps(record, allow_nan=False))
