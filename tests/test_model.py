"""The language model: shapes, causality, initialisation, errors."""

import dataclasses

import pytest
import torch

from attnres_ref import LM, LMConfig
from attnres_ref.model import RoPE, generate
from attnres_ref.study.probes import trace

SIZE = dict(vocab_size=17, d_model=16, n_layers=5, n_heads=2, context=8, block_size=2)


def build(residual="block", seed=0, **changes):
    torch.manual_seed(seed)
    return LM(LMConfig(**{**SIZE, "residual": residual, **changes}))


def tokens(batch=2, length=8):
    return torch.randint(17, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("residual", ["prenorm", "full", "block"])
@pytest.mark.parametrize("n_layers", [2, 5])
def test_every_parameter_gets_a_gradient(residual, n_layers):
    model = build(residual, n_layers=n_layers)
    logits = model(tokens())
    assert logits.shape == (2, 8, 17)
    logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("residual", ["full", "block"])
def test_every_query_but_the_first_learns_from_the_first_step(residual):
    model = build(residual)
    model(tokens()).logsumexp(-1).sum().backward()
    learns = model.stream.queries.grad.abs().amax(1) > 0
    assert learns.tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize("residual", ["prenorm", "full", "block"])
def test_no_token_sees_a_later_one(residual):
    model, x = build(residual).double(), tokens()
    changed = x.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 17
    before, after = model(x), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_same_seed_gives_the_same_weights_whatever_the_residual():
    prenorm = build("prenorm").state_dict()
    for residual in ("full", "block"):
        state = build(residual).state_dict()
        assert all(torch.equal(state[name], prenorm[name]) for name in prenorm)
    assert not torch.equal(build(seed=1).head.weight, build(seed=0).head.weight)


def test_initial_standard_deviations():
    plain, scaled = (build(d_model=128, scaled_init=s).layers[1] for s in (False, True))
    assert plain.up.weight.std().item() == pytest.approx(128**-0.5, rel=0.02)
    torch.testing.assert_close(scaled.out.weight, plain.out.weight / 5**0.5)
    assert torch.equal(scaled.up.weight, plain.up.weight)


def test_tied_head_is_one_matrix():
    model = build(tied_head=True)
    assert model.head.weight is model.embedding.weight
    n_untied = sum(p.numel() for p in build().parameters())
    assert sum(p.numel() for p in model.parameters()) == n_untied - 17 * 16


def test_rope_scores_depend_on_the_distance_only():
    rope = RoPE(LMConfig(d_model=16, n_heads=2, context=32)).double()
    q, k = torch.randn(
        2, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    turned_q, turned_k = rope(q.expand(32, 8)), rope(k.expand(32, 8))
    scores = turned_q @ turned_k.T
    for distance in (0, 1, 7):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(
            diagonal, diagonal[:1].expand_as(diagonal), atol=1e-6, rtol=0
        )
    assert scores[1, 0] != pytest.approx(scores[0, 0].item(), abs=1e-3)


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


@pytest.mark.parametrize("residual", ["full", "block"])
def test_compiles_into_one_graph(residual):
    model, x = build(residual), tokens()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    gradients = []
    for forward in (model, compiled):
        model.zero_grad()
        forward(x).logsumexp(-1).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_generate_continues_the_prompt_past_the_context():
    model, prompt = build(), tokens(length=3)
    out = generate(model, prompt, n_new=9)
    assert out.shape == (2, 12) and torch.equal(out[:, :3], prompt)
    assert torch.equal(generate(model, prompt, n_new=0), prompt)


def test_generate_samples_from_the_models_distribution():
    model, prompt = build(), tokens(batch=1, length=3)
    chances = (model(prompt)[0, -1] / 0.5).softmax(-1)
    torch.manual_seed(0)
    drawn = generate(model, prompt.expand(4000, 3), n_new=1, temperature=0.5)[:, -1]
    counted = torch.bincount(drawn, minlength=17) / 4000
    assert (counted - chances).abs().max() < 0.04


@pytest.mark.parametrize("bad", [dict(n_new=-1), dict(n_new=1, temperature=0.0)])
def test_generate_names_bad_arguments(bad):
    with pytest.raises(ValueError, match="n_new is .* temperature is"):
        generate(build(), tokens(), **bad)


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
    "block_size is '4'": dict(block_size="4"),
    "rope_base is 0.0: it must be above 0": dict(rope_base=0),
    "tied_head is 1: it must be True or False": dict(tied_head=1),
    "residual is None: it must be a string": dict(residual=None),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_bad_configuration_is_named(message):
    with pytest.raises(ValueError, match=message):
        LMConfig(**{**SIZE, **BAD_CONFIGS[message]})


def test_prenorm_does_not_mind_the_block_size():
    assert LMConfig(**{**SIZE, "residual": "prenorm", "block_size": 99}).block_size == 99


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
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
