"""The mixing matrix reproduces every read; ranks and ablations mean what they say."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

import mixing as record_mixing
from attnres_ref.streams import STREAMS
from attnres_ref.study.mixing import mixing_matrix, source_ablation
from attnres_ref.study.probes import trace
from test_variants import TOKENS, build


@pytest.mark.parametrize("residual", sorted(STREAMS))
def test_a_read_is_its_row_of_the_matrix_times_the_sources(residual):
    model = build(residual, 0.5)
    stream, before = model.stream, set(vars(model.stream))
    M = mixing_matrix(model, TOKENS)
    assert model.stream is stream and set(vars(stream)) == before
    seen = trace(model, TOKENS)
    sources = torch.stack([model.embedding(TOKENS), *seen.outputs])   # [L + 1, B, T, d]
    reads = torch.einsum("li...,i...->l...", M, sources)
    torch.testing.assert_close(reads, torch.stack(seen.inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", sorted(STREAMS))
def test_half_precision_has_a_matrix_too(residual):
    model = build(residual, 0.1)
    M = mixing_matrix(model.bfloat16(), TOKENS).mean((2, 3, 4)).float()
    exact = mixing_matrix(model.double(), TOKENS).mean((2, 3, 4)).float()
    torch.testing.assert_close(M, exact, rtol=0, atol=0.05)


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
