"""The language model: shapes, causality, initialisation, errors."""

import pytest
import torch

from attnres_ref import LM, LMConfig
from attnres_ref.model import MLP, Attention, RoPE, generate
from attnres_ref.study.probes import trace

SIZE = dict(vocab_size=17, d_model=16, n_layers=5, n_heads=2, context=8, block_size=2)


def build(residual="block", seed=0, **changes):
    torch.manual_seed(seed)
    return LM(LMConfig(**{**SIZE, "residual": residual, **changes}))


def tokens(batch=2, length=8):
    return torch.randint(17, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("residual", ["full", "block"])
def test_every_query_but_the_first_learns_from_the_first_step(residual):
    model = build(residual)
    model(tokens()).logsumexp(-1).sum().backward()
    learns = model.stream.queries.grad.abs().amax(1) > 0
    assert learns.tolist() == [False, True, True, True, True, True]


def test_same_seed_gives_the_same_weights_whatever_the_residual():
    prenorm = build("prenorm").state_dict()
    for residual in ("full", "block"):
        state = build(residual).state_dict()
        assert all(torch.equal(state[name], prenorm[name]) for name in prenorm)
    assert not torch.equal(build(seed=1).head.weight, build(seed=0).head.weight)


def test_initial_standard_deviations():
    """1 / sqrt(inputs) for every matrix; only the way back into the stream is scaled."""
    size = dict(d_model=128, vocab_size=256)
    plain, scaled = (build(scaled_init=scaled, **size) for scaled in (False, True))
    others = dict(scaled.named_parameters())
    for name, weight in plain.named_parameters():
        if weight.dim() == 1:
            assert (weight == 1).all() or "stream" in name
        elif "stream" not in name:
            scale = weight.std().item() * weight.shape[1] ** 0.5
            assert scale == pytest.approx(1, rel=0.02), name
            smaller = 5**-0.5 if name.endswith(".out.weight") else 1
            torch.testing.assert_close(others[name], smaller * weight)


def test_tied_head_is_one_matrix():
    model = build(tied_head=True)
    assert model.head.weight is model.embedding.weight
    n_untied = sum(p.numel() for p in build().parameters())
    assert sum(p.numel() for p in model.parameters()) == n_untied - 17 * 16


def turned(x, base):
    """RoPE in complex numbers: x [..., T, d], its halves the real and imaginary parts."""
    T, d = x.shape[-2:]
    angle = torch.outer(torch.arange(T), base ** (-2 * torch.arange(d // 2) / d)).double()
    z = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], dim=-1)


def test_attention_by_hand():
    layer = Attention(LMConfig(**SIZE, rope_base=100.0)).double()
    h = torch.randn(2, 8, 16, dtype=torch.float64)
    parts = layer.qkv(layer.norm(h)).chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (2, 8)).transpose(1, 2) for x in parts)
    scores = turned(q, 100.0) @ turned(k, 100.0).mT / 8**0.5
    later = torch.ones(8, 8, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
    expected = layer.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(h), expected, rtol=0, atol=1e-6)


def test_late_positions_keep_their_angles_in_half_precision():
    """In bfloat16 itself there is no position 257."""
    x = torch.randn(400, 16).bfloat16()
    ours, exact = RoPE(LMConfig())(x), turned(x.double(), 10_000.0)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).abs().max() < 0.01 * exact.abs().max()


def test_swiglu_by_hand():
    layer, h = MLP(LMConfig(**SIZE)).double(), torch.randn(2, 8, 16).double()
    assert layer.up.out_features == 48                            # 8/3 of 16 is 42.7
    gate, up = layer.gate(layer.norm(h)), layer.up(layer.norm(h))
    torch.testing.assert_close(layer(h), layer.out(gate * gate.sigmoid() * up))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("residual", ["prenorm", "full", "block"])
def test_autocast_keeps_sources_in_one_dtype(residual):
    model = build(residual)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens())
        final = trace(model, tokens()).inputs[-1]
    assert logits.dtype == torch.bfloat16
    # PreNorm's sum is wider than what is added to it; AttnRes reads what layers wrote.
    assert final.dtype == (torch.float32 if residual == "prenorm" else torch.bfloat16)
    torch.testing.assert_close(logits.float(), model(tokens()), atol=0.1, rtol=0.1)


def test_generate_continues_the_prompt_past_the_context():
    model, prompt = build(), tokens(length=3)
    out = generate(model, prompt, n_new=9)
    assert out.shape == (2, 12) and torch.equal(out[:, :3], prompt)
    assert torch.equal(generate(model, prompt, n_new=0), prompt)
    likeliest = model(out[:, -8:])[:, -1].argmax(-1)              # of its last 8 tokens
    assert torch.equal(generate(model, out, 1, temperature=1e-6)[:, -1], likeliest)
    with pytest.raises(ValueError, match="temperature is 0"):
        generate(model, prompt, 1, temperature=0)


def test_generate_samples_from_the_models_distribution():
    model, prompt = build(), tokens(batch=1, length=3)
    chances = (model(prompt)[0, -1] / 0.5).softmax(-1)
    torch.manual_seed(0)
    drawn = generate(model, prompt.expand(4000, 3), n_new=1, temperature=0.5)[:, -1]
    counted = torch.bincount(drawn, minlength=17) / 4000
    assert (counted - chances).abs().max() < 0.04


BAD_CONFIGS = {
    "n_layers is 0": dict(n_layers=0),
    "context is 0": dict(context=0),
    "vocab_size is -1": dict(vocab_size=-1),
    "d_model 18 over n_heads 4": dict(d_model=18, n_heads=4),
    "heads of width 3": dict(d_model=6, n_heads=2),
    "residual is 'postnorm': choose one of .*'prenorm'": dict(residual="postnorm"),
    "block_size is 0": dict(block_size=0),
    "block_size is 6.*n_layers = 5": dict(block_size=6),
    "block_size is 2.5: it must be a whole number": dict(block_size=2.5),
    "window is 0": dict(residual="window", window=0),
    "n_streams is 0": dict(residual="mhc", n_streams=0),
    "n_streams is 7": dict(residual="mhc", n_streams=7),
    "depth_heads is 3": dict(residual="multihead", depth_heads=3),
    r"layers is 'kda,ssm' with \['ssm'\]: choose from \['attention', 'kda'":
        dict(layers="kda,ssm"),
    r"layers is '' with \[''\]": dict(layers=""),
    r"layers is 'mlp,moe' .*no token sees another": dict(layers="mlp,moe"),
    r"layers is 'moe,kda' and n_layers 1: without one of": dict(
        layers="moe,kda", n_layers=1, block_size=1
    ),
    "experts_per_token is 9: choose 1 to n_experts = 8": dict(
        layers="kda,moe", experts_per_token=9
    ),
    "experts_per_token is 0": dict(layers="kda,moe", experts_per_token=0),
    "rope_base is 0.0: it must be above 0": dict(rope_base=0),
    "tied_head is 1: it must be True or False": dict(tied_head=1),
    "residual is None: it must be a string": dict(residual=None),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_bad_configuration_is_named(message):
    with pytest.raises(ValueError, match=message):
        LMConfig(**SIZE | BAD_CONFIGS[message])


@pytest.mark.parametrize("unused", [
    dict(residual="prenorm", block_size=99), dict(layers="kda,mlp", experts_per_token=9),
])
def test_what_is_not_used_may_be_anything(unused):
    assert LMConfig(**SIZE | unused).n_layers == 5


def test_configuration_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field 'n_layers'"):
        LMConfig().n_layers = 3


BAD_TOKENS = {
    "tokens has dtype torch.int32": tokens().int(),
    r"tokens has dtype .* shape \[8\]": tokens()[0],
    "tokens has length 9, the context is 8": torch.zeros(1, 9, dtype=torch.int64),
    "tokens holds values from 0 to 17": torch.tensor([[0, 17]]),
    "tokens holds values from -1 to 0": torch.tensor([[0, -1]]),
}


@pytest.mark.parametrize("message", BAD_TOKENS)
def test_bad_tokens_are_named(message):
    with pytest.raises(ValueError, match=message):
        build()(BAD_TOKENS[message])
