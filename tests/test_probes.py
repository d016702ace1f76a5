"""Probes measure what they say and leave the model as it was."""

import math

import pytest
import torch

from attnres_ref import LM, LMConfig, depth_attention, two_phase_forward
from attnres_ref.inference.io_counts import count_layer_wise
from attnres_ref.study.mixing import mixing_matrix, reads, source_ablation
from attnres_ref.study.probes import (
    depth_weights,
    gradient_norms,
    magnitudes,
    rms,
    saved_bytes,
    trace,
    unevenness,
)
from attnres_ref.variants import raw_key_attention, sigmoid_attention

SIZE = dict(vocab_size=17, d_model=16, n_layers=5, n_heads=2, context=8, block_size=2)
TOKENS = torch.randint(17, (2, 8), generator=torch.Generator().manual_seed(1))


def build(residual):
    torch.manual_seed(0)
    model = LM(LMConfig(residual=residual, **SIZE))
    if residual != "prenorm":
        model.stream.queries.data.normal_()
    return model


@pytest.mark.parametrize("residual", ["prenorm", "full", "block"])
def test_trace_sees_every_read_and_write(residual):
    model = build(residual)
    stream = model.stream
    seen = trace(model, TOKENS)
    assert len(seen.inputs) == 6 and len(seen.outputs) == 5
    for layer, f in enumerate(model.layers):
        torch.testing.assert_close(f(seen.inputs[layer]), seen.outputs[layer])
    torch.testing.assert_close(model.head(model.norm(seen.inputs[-1])), model(TOKENS))
    assert model.stream is stream


def test_prenorm_magnitudes_are_those_of_running_sums():
    model = build("prenorm")
    seen = trace(model, TOKENS)
    inputs, outputs = magnitudes(model, TOKENS)
    assert outputs == [rms(v) for v in seen.outputs]
    total = seen.inputs[0] + sum(seen.outputs)
    assert inputs[-1] == pytest.approx(total.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("residual", ["prenorm", "block"])
def test_gradient_norms_are_those_of_each_layers_parameters(residual):
    model, targets = build(residual), TOKENS.roll(-1, 1)
    found = gradient_norms(model, TOKENS, targets)
    assert all(p.grad is None for p in model.parameters())
    logits = model(TOKENS)                                # [B, T, vocab]
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets).backward()
    for norm, layer in zip(found, model.layers, strict=True):
        squares = sum(p.grad.square().sum().item() for p in layer.parameters())
        assert norm == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_at_initialisation_the_gradients_of_all_three_agree():
    norms = []
    for residual in ("prenorm", "block", "full"):
        torch.manual_seed(0)
        model = LM(LMConfig(residual=residual, **SIZE))
        norms.append(gradient_norms(model, TOKENS, TOKENS.roll(-1, 1)))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert norms[2] == pytest.approx(norms[0], rel=1e-3)


def test_unevenness_is_one_and_zero_for_equals():
    assert unevenness([3.0, 3.0, 3.0]) == (1, 0)
    ratio, variation = unevenness([1.0, 2.0, 3.0])
    assert ratio == 3 and variation == pytest.approx(1 / 2)
    assert unevenness([10.0, 20.0, 30.0]) == (ratio, pytest.approx(variation))


def test_depth_weights_are_the_means_of_each_reads_weights():
    model = build("block")
    rows = depth_weights(model, TOKENS)
    assert [len(row) for row in rows] == [1, 2, 2, 3, 3, 4]
    assert all(row.sum().item() == pytest.approx(1, abs=1e-5) for row in rows)
    assert model.stream.attend is depth_attention


@pytest.mark.parametrize("look", [
    two_phase_forward, depth_weights, magnitudes, mixing_matrix, count_layer_wise,
])
def test_others_may_use_the_model_meanwhile(look):
    """A thread that comes in the middle meets the model as it is."""
    model, seen = build("block"), []
    right, stream, attend = model(TOKENS), model.stream, model.stream.attend

    def come_in_the_middle(layer, inputs):
        if not seen:
            seen.append(None)
            seen[0] = model(TOKENS)

    model.layers[1].register_forward_pre_hook(come_in_the_middle)
    look(model, TOKENS)
    assert torch.equal(seen[0], right)
    assert model.stream is stream and stream.attend is attend


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def with_a_forward_of_its_own(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


@pytest.mark.parametrize("compiled", [
    lambda model: torch.compile(model, backend="eager"), compiled_in_place,
    with_a_forward_of_its_own,
])
def test_a_compiled_model_can_be_looked_at(compiled):
    weights = depth_weights(compiled(build("full")), TOKENS)
    for one, other in zip(weights, depth_weights(build("full"), TOKENS), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("residual, attend", [
    ("block", depth_attention), ("sigmoid", sigmoid_attention),
    ("raw_keys", raw_key_attention),
])
def test_weights_are_those_that_the_model_reads_with(residual, attend):
    model = build(residual)
    sources = [model.embedding(TOKENS), trace(model, TOKENS).outputs[0]]
    query, weight = model.stream.queries[1], 1 + model.stream.queries_norm[1]
    _, expected = attend(query, sources, weight, return_weights=True)
    torch.testing.assert_close(depth_weights(model, TOKENS)[1], expected.mean((1, 2)))
    assert all(0 <= read["spread"] <= 1.000001 for read in reads(model, TOKENS)[1:])


@pytest.mark.parametrize("residual, message", [
    ("multihead", "calls attend 24 times for 6 reads"),
    ("input_query", "calls attend 0 times for 6 reads"),
    ("prenorm", "stream PreNorm, which has no depth attention"),
])
def test_reads_without_one_row_of_weights_are_refused(residual, message):
    for look in (depth_weights, reads, lambda *both: source_ablation(*both, TOKENS)):
        with pytest.raises(ValueError, match=message):
            look(build(residual), TOKENS)


def test_gradients_that_are_there_stay():
    model, targets = build("block"), TOKENS.roll(-1, 1)
    clean = gradient_norms(model, TOKENS, targets)
    model.head.weight.requires_grad_(False)
    model(TOKENS).sum().backward()
    mine = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    assert gradient_norms(model, TOKENS, targets) == clean
    for parameter, gradient in zip(model.parameters(), mine):
        assert gradient is None or torch.equal(parameter.grad, gradient)


def test_saved_bytes_count_each_storage_once():
    layer = torch.nn.Linear(4, 4, bias=False)
    x = torch.ones(8, 4)
    assert saved_bytes(layer, lambda: layer(x)) == 8 * 4 * 4
    assert saved_bytes(layer, lambda: layer(x) + layer(x)) == 8 * 4 * 4
    assert saved_bytes(layer, lambda: layer(x).exp()) == 2 * 8 * 4 * 4
