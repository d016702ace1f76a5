"""Cached, two-phase generation equals the plain model token by token; sharded prefill."""


import pytest
import torch

from attnres_ref.inference.generation import (
    generate_text,
    generate_tokens,
    sample,
)
from attnres_ref.inference.prefill import peak_elements, prefill
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.streams import STREAMS
from test_streams import build
from test_two_phase import model_of, tokens_of


def seeded():
    return torch.Generator().manual_seed(3)


@torch.no_grad()
def plain(model, tokens, n_new, temperature, top_k):
    """The whole window through the whole model, for every token."""
    generator = seeded()
    for _ in range(n_new):
        logits = model(tokens[:, -model.config.context :])[:, -1]
        drawn = sample(logits, temperature, top_k, generator)
        tokens = torch.cat([tokens, drawn.unsqueeze(1)], dim=1)
    return tokens[:, tokens.shape[1] - n_new :]


MODELS = {
    "prenorm": lambda: build("prenorm", n_layers=7, context=10),
    "block": lambda: model_of(7, 3, T=10),
    "full": lambda: model_of(7, 0, T=10),
}


@pytest.mark.parametrize("residual", MODELS)
@pytest.mark.parametrize("length", [1, 6, 10, 13])         # 10 is the context
@pytest.mark.parametrize("temperature, top_k", [(0, None), (1.0, None), (0.7, 4)])
def test_equals_the_uncached_layer_wise_model(residual, length, temperature, top_k):
    model, tokens = MODELS[residual](), tokens_of(length)
    options = dict(temperature=temperature, top_k=top_k, generator=seeded())
    cached = list(generate_tokens(model, tokens, 14, **options))
    expected = plain(model, tokens, 14, temperature, top_k)
    assert len(expected.unique()) > 2                       # not one token for ever
    assert torch.equal(torch.stack(cached, dim=1), expected)


@pytest.mark.parametrize("residual", sorted(STREAMS))
def test_every_residual_generates_the_plain_models_tokens(residual):
    model, prompt = build(residual, context=10), tokens_of(4)
    drawn = torch.stack(list(generate_tokens(model, prompt, 3, temperature=0)), dim=1)
    assert torch.equal(drawn, plain(model, prompt, 3, 0, None))


# --- sampling -----------------------------------------------------------------------


def test_greedy_takes_the_largest_and_top_1_is_greedy():
    logits = torch.randn(50, 17)
    assert torch.equal(sample(logits, 0), logits.argmax(-1))
    assert torch.equal(sample(logits, 1.0, top_k=1), logits.argmax(-1))
    assert torch.equal(sample(logits, 1e-30), logits.argmax(-1))      # no overflow


def test_samples_follow_the_softmax_of_the_kept():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(20_000, 4)
    drawn = sample(logits, 0.5, 3, seeded()).bincount(minlength=4) / 20_000
    expected = torch.tensor([4.0, 2.0, 0.0]).softmax(0)
    torch.testing.assert_close(drawn[:3], expected, rtol=0, atol=0.015)
    assert drawn[3] == 0


def test_text_comes_whole_characters_at_a_time():
    model = build("prenorm", vocab_size=256, context=16)
    pieces = list(generate_text(model, "é\n", 40, generator=seeded()))
    prompt = torch.tensor([[0xC3, 0xA9, 10]])
    drawn = torch.cat([*generate_tokens(model, prompt, 40, generator=seeded())])
    assert "".join(pieces) == bytes(drawn.tolist()).decode(errors="replace")
    assert all(pieces)


def test_no_new_tokens_is_an_empty_answer():
    assert list(generate_tokens(model_of(4, 2), tokens_of(3), 0)) == []


BAD = {
    "tokens has shape .2, 0.: .*at least one token": dict(tokens=tokens_of(0)),
    "tokens has shape .3.": dict(tokens=tokens_of(3)[0, :3]),
    "tokens has dtype torch.int32": dict(tokens=tokens_of(3).int()),
    "tokens holds values from 0 to 99": dict(tokens=torch.tensor([[0] * 9 + [99]])),
    "top_k is 18: choose 1 to the vocabulary's 17": dict(top_k=18),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named_at_the_call(message):
    arguments = dict(tokens=tokens_of(3), n_new=2) | BAD[message]
    with pytest.raises(ValueError, match=message):
        generate_tokens(model_of(4, 2), **arguments)        # never iterated


def test_an_empty_prompt_is_named():
    with pytest.raises(ValueError, match="at least one token"):
        generate_text(build("prenorm", vocab_size=256), "", 3)


# --- prefill ----------------------------------------------------------------------------


@pytest.mark.parametrize("L, S", [(8, 4), (8, 1), (6, 6), (11, 4), (5, 4)])
@pytest.mark.parametrize("n_shards, chunk", [(1, None), (2, None), (4, 8), (3, 5), (1, 1)])
def test_prefill_in_shards_and_chunks_is_the_plain_model(L, S, n_shards, chunk):
    model, tokens = model_of(L, S, T=16), tokens_of(16)
    peaks = []
    for stream in (model.stream, TwoPhase(model.stream, S)):
        logits, peak = prefill(model, tokens, n_shards, chunk, stream)
        torch.testing.assert_close(logits, model(tokens), rtol=0, atol=1e-12)
        peaks.append(peak)
    per_device = -(-(chunk or 16) // n_shards)              # the largest shard
    assert peaks[0] == 8 * peak_elements(L, S, 2 * per_device, 8)    # 2 rows, d = 8
    if chunk is None and 16 % n_shards == 0:                # phase 1's results wait too
        alone = prefill(model, tokens, 1, None, TwoPhase(model.stream, S))[1]
        assert alone == n_shards * peaks[1] and peaks[1] > peaks[0]


class Wrapped(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, h):
        return self.layer(h)


def test_a_layer_that_may_need_a_past_is_not_passed_over():
    model, prompt = build("full", n_layers=4, context=10), tokens_of(4)
    expected = plain(model, prompt, 3, 0, None)
    model.layers[0] = torch.compile(model.layers[0], backend="eager")
    drawn = torch.stack(list(generate_tokens(model, prompt, 3, temperature=0)), dim=1)
    assert torch.equal(drawn, expected)
    model.layers[2] = Wrapped(model.layers[2])
    with pytest.raises(ValueError, match="layer is a Wrapped: a cache knows"):
        generate_tokens(model, prompt, 3)


def test_prenorm_keeps_one_tensor_and_a_prompt_is_checked():
    model = build("prenorm", context=16)
    _, peak = prefill(model, tokens_of(16), n_shards=4)
    assert peak == 8 * 2 * 4 * 8
    with pytest.raises(ValueError, match=r"tokens has .* shape \[3\]"):
        prefill(model_of(4, 2), tokens_of(3)[0])
