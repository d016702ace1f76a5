"""The property that defines each variant."""

import pytest
import torch
import torch.nn.functional as F

from attnres_ref import LM, LMConfig, depth_attention
from attnres_ref.streams import STREAMS, Depth
from attnres_ref.study.mixing import mixing_matrix
from attnres_ref.study.probes import trace
from attnres_ref.variants import mix, raw_key_attention, sigmoid_attention

SIZE = dict(
    vocab_size=17, d_model=16, n_layers=8, n_heads=2, context=8, window=3, n_streams=3
)
TOKENS = torch.randint(17, (2, 6), generator=torch.Generator().manual_seed(1))
OTHER_STARTS = {"window", "layerscale", "rezero", "loud"}
LIKE_PRENORM = sorted(set(STREAMS) - {"prenorm"} - OTHER_STARTS)


def build(residual, noise=0.0, **changes):
    """A float64 model; with `noise` the stream is away from its initialisation."""
    torch.manual_seed(0)
    model = LM(LMConfig(residual=residual, **SIZE | changes)).double()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.stream.parameters():
        random = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += noise * random
    return model


def mean_matrix(residual, noise=0.5, **changes):
    """M [L + 1, L + 1], averaged over tokens and channels."""
    return mixing_matrix(build(residual, noise, **changes), TOKENS).mean((2, 3, 4))


@pytest.mark.parametrize("residual", LIKE_PRENORM)
def test_starts_as_prenorms_function(residual):
    expected = build("prenorm")(TOKENS)
    # Highway's first gates are float32 numbers.
    limit = 1e-5 if residual == "highway" else 1e-10
    assert (build(residual)(TOKENS) - expected).abs().max() <= limit
    assert (build(residual, noise=0.5)(TOKENS) - expected).abs().max() > 1e-2


def test_a_window_as_long_as_the_depth_is_full_attnres():
    full, window = build("full", 0.5), build("window", window=8)
    window.load_state_dict(full.state_dict())
    assert torch.equal(window(TOKENS), full(TOKENS))


def test_a_window_reads_the_latest_outputs_and_the_embedding():
    M = mean_matrix("window")
    for layer, row in enumerate(M):
        read = {0, *range(max(1, layer - 2), layer + 1)}
        assert {i for i in range(9) if row[i] != 0} == read


def test_sigmoid_weights_do_not_compete():
    generator = torch.Generator().manual_seed(0)
    query, *sources = torch.randn(5, 1, 16, generator=generator)
    query = query[0]
    mixed, weights = sigmoid_attention(query, sources, return_weights=True)
    key = F.rms_norm(sources[2], (16,), eps=1e-5)
    torch.testing.assert_close(weights[2], (key @ query).sigmoid())
    _, fewer = sigmoid_attention(query, sources[1:], return_weights=True)
    assert torch.equal(fewer, weights[1:])
    torch.testing.assert_close(mixed, sum(w[:, None] * v for w, v in zip(weights, sources)))


def test_raw_keys_feel_the_size_of_a_source():
    generator = torch.Generator().manual_seed(0)
    query, small, other = torch.randn(3, 16, generator=generator) / 4
    for attend, differs in ((depth_attention, False), (raw_key_attention, True)):
        _, before = attend(query, [10 * small, other], return_weights=True)
        _, after = attend(query, [50 * small, other], return_weights=True)
        assert ((before - after).abs().max() > 1e-3) == differs
    scores = torch.stack([small @ query, other @ query])
    _, weights = raw_key_attention(query, [small, other], return_weights=True)
    torch.testing.assert_close(weights, scores.softmax(0))


def test_one_depth_head_is_full_attnres_and_more_attend_apart():
    full, one = build("full", 0.5), build("multihead", depth_heads=1)
    one.load_state_dict(full.state_dict())
    assert torch.equal(one(TOKENS), full(TOKENS))
    M = mixing_matrix(build("multihead", 0.5, depth_heads=4), TOKENS)[-1, 2, 0, 0]
    heads = M.unflatten(0, (4, 4))                                    # [H, d / H]
    assert (heads == heads[:, :1]).all() and len(heads[:, 0].unique()) == 4


def test_an_input_dependent_query_is_the_learned_one_plus_a_projection():
    stream, sources = build("input_query", 0.5).stream, torch.randn(3, 2, 16).double()
    keys, layer = F.rms_norm(sources, (16,)), 2
    query = stream.queries[layer] + F.linear(keys[-1], stream.projections[layer])
    scores = (keys * query * (1 + stream.queries_norm[layer])).sum(-1, keepdim=True)
    expected = (scores.softmax(0) * sources).sum(0)
    torch.testing.assert_close(stream.read(Depth(tuple(sources)), layer), expected)


def test_a_mix_is_stored_as_its_sources_are():
    sources = torch.tensor([[1.0], [1 / 256]], dtype=torch.bfloat16)
    mixed = mix(torch.ones(2), [sources, sources])
    assert mixed.dtype == torch.bfloat16 and torch.equal(mixed, 2 * sources)


@pytest.mark.parametrize("residual, shape", [("highway", (16,)), ("mhc", (3, 16))])
def test_a_gate_feels_the_direction_of_its_content_not_the_size(residual, shape):
    gate = build(residual, 0.5).stream.gate
    state = torch.randn(2, 5, *shape, dtype=torch.float64)
    torch.testing.assert_close(gate(100 * state, 3), gate(state, 3))
    assert (gate(-state, 3) - gate(state, 3)).abs().max() > 1e-3


def test_static_mixing_is_the_same_for_every_token():
    for residual, rows_sum_to_one in (("static", True), ("denseformer", False)):
        M = mixing_matrix(build(residual, 0.5), TOKENS)
        assert (M == M[..., :1, :1, :1]).all()
        sums = M[..., 0, 0, 0].sum(1)
        assert torch.allclose(sums, torch.ones_like(sums)) == rows_sum_to_one


def test_denseformer_weighs_each_output_by_one_plus_its_number():
    model = build("denseformer", 0.5)
    M = mixing_matrix(model, TOKENS)[..., 0, 0, 0]
    torch.testing.assert_close(M, (1 + model.stream.logits).tril())


def test_rezero_starts_as_the_embedding():
    model = build("rezero")
    assert torch.equal(trace(model, TOKENS).inputs[-1], model.embedding(TOKENS))


def test_a_loud_embedding_is_prenorm_of_an_embedding_whose_rms_is_one():
    loud, prenorm = build("loud", d_model=64), build("prenorm", d_model=64)
    square = loud.stream.begin(loud.embedding.weight).square().mean().item()
    assert square == pytest.approx(1, abs=0.2)
    prenorm.embedding.weight.data *= 64**0.5
    torch.testing.assert_close(loud(TOKENS), prenorm(TOKENS))
    assert (loud(TOKENS) - build("prenorm", d_model=64)(TOKENS)).abs().max() > 0.1


@pytest.mark.parametrize("residual", ["layerscale", "rezero"])
def test_a_scale_of_one_is_prenorm(residual):
    model = build(residual)
    model.stream.scale.data.fill_(1.0)
    torch.testing.assert_close(model(TOKENS), build("prenorm")(TOKENS), rtol=0, atol=1e-12)


def test_layerscale_weighs_an_output_by_its_scale():
    assert (build("layerscale").stream.scale - 0.1).abs().max() < 1e-8
    model = build("layerscale", 0.5)
    M = mixing_matrix(model, TOKENS)
    assert torch.equal(M[-1, 1:, 0, 0], model.stream.scale)           # [L, d]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_highway_rows_sum_to_one(noise):
    M = mixing_matrix(build("highway", noise), TOKENS)
    assert (M.sum(1) - 1).abs().max() < 1e-12 and (M >= 0).all()
    spread = M[-1, 0, :, :, 0].std()                                  # over tokens
    assert (spread > 1e-3) == (noise > 0)


@pytest.mark.parametrize("n_streams", [1, 2, 4])
def test_mhc_transitions_are_doubly_stochastic(n_streams):
    stream = build("mhc", 0.5, n_streams=n_streams).stream
    state = torch.randn(2, 5, n_streams, 16, dtype=torch.float64)
    matrices = stream.gate(state, 3)
    torch.testing.assert_close(stream.gate(state.flip(2), 3), matrices)    # of their mean
    assert matrices.shape == (2, 5, n_streams, n_streams) and (matrices >= 0).all()
    assert (matrices.sum(-1) - 1).abs().max() < 1e-12
    assert (matrices.sum(-2) - 1).abs().max() < 1e-12


def test_mhc_loads_a_checkpoint_of_version_0_1_0():
    model = build("mhc", noise=0.5)
    state = model.state_dict()
    del state["stream.permutations"]
    other = build("mhc")
    other.load_state_dict(state)
    assert torch.equal(other.stream.permutations, model.stream.permutations)


def test_mhc_starts_near_the_identity_and_breaks_the_symmetry_of_its_streams():
    model = build("mhc")
    stream = model.stream
    start = stream.gate(torch.randn(1, 3, 16, dtype=torch.float64), 0)
    assert (start - torch.eye(3)).abs().max() < 0.05
    assert stream.reads.argmax(1).tolist() == [layer % 3 for layer in range(9)]
    F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    assert len(stream.writes.grad[2].unique()) == 3


@pytest.mark.parametrize("residual", sorted(STREAMS))
def test_all_that_learns_gets_a_gradient(residual):
    model = build(residual, 0.3)
    F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
