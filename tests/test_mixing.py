"""The mixing matrix reproduces every read; ranks and ablations mean what they say."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import frozen
import mixing as record_mixing
import small
from attnres_ref.streams import STREAMS
from attnres_ref.study.mixing import (
    mixing_matrix,
    source_ablation,
    with_mean_weights,
)
from attnres_ref.study.probes import depth_weights, trace
from attnres_ref.study.sweep import Trial
from attnres_ref.training import train
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


@pytest.mark.parametrize("residual, block_size", [("full", 1), ("block", 4), ("block", 3)])
def test_mean_weights_are_constants_in_every_read(residual, block_size):
    model, others = build(residual, 0.5, block_size=block_size), TOKENS.roll(3, 1)
    constant, rows = with_mean_weights(model, others), depth_weights(model, others)
    outputs = []

    def read(layer):
        """By hand: constants times the embedding and the sums of blocks."""
        starts = range(0, len(outputs), block_size)
        blocks = [sum(outputs[start : start + block_size]) for start in starts]
        sources = [model.embedding(TOKENS), *blocks]
        return sum(w * v for w, v in zip(rows[layer].tolist(), sources, strict=True))

    for layer, f in enumerate(model.layers):
        outputs.append(f(read(layer)))
    expected = model.head(model.norm(read(len(model.layers))))
    for _ in range(2):                     # the second pass is no other than the first
        torch.testing.assert_close(constant(TOKENS), expected, rtol=0, atol=1e-12)
    assert (model(TOKENS) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("residual", ["full", "block", "window", "sigmoid", "raw_keys"])
def test_mean_weights_cost_nothing_where_no_token_changes_them(residual):
    model = build(residual)                # zero queries: all weights of a read are alike
    constant = with_mean_weights(model, TOKENS.roll(3, 1))
    torch.testing.assert_close(constant(TOKENS), model(TOKENS), rtol=0, atol=1e-12)
    with torch.no_grad():
        model.stream.queries += torch.linspace(-1, 1, model.config.d_model)
    logits, constant = model(TOKENS), with_mean_weights(model, TOKENS)(TOKENS)
    assert (logits - constant).abs().max() > 1e-2


def test_the_recorder_writes_json_without_nan():
    rounded = record_mixing.rounded([math.nan, 0.123456, dict(rows=[[1e-56]])])
    assert rounded == [None, 0.1235, dict(rows=[[1e-56]])]
    record = record_mixing.matrix_and_ranks(build("block", 0.5, block_size=4), TOKENS)
    assert [len(row) for row in record["matrix"]] == list(range(1, 10))
    assert set(record["rank"]) == {3} and record["rank_bound"] == 3
    json.loads(json.dumps(record, allow_nan=False))


def test_frozen_losses_are_of_the_judging_half_by_means_of_the_tuning_half(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen, "WINDOWS", 3)
    judging, tuning = (small.corpus().validated_on(half) for half in ("judging", "tuning"))
    trial = Trial("full", small.MODEL, replace(small.RECIPE, lr=0.1))
    run = train(trial.model, trial.train, judging, tmp_path)
    record = frozen.measured(trial, tmp_path, small.corpus())
    assert record["data"] == judging.fingerprint
    assert record["loss"] == pytest.approx(run.val_loss, abs=1e-6)

    inputs, targets = judging.validation_windows(3, 8)
    tokens, _ = tuning.validation_windows(3, 8)
    without = with_mean_weights(run.model, tokens)(inputs)
    expected = F.cross_entropy(without.flatten(0, 1), targets.flatten()).item()
    assert record["frozen_loss"] == pytest.approx(expected, abs=1e-6)
    assert abs(record["frozen_loss"] - record["loss"]) > 1e-4
