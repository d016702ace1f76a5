"""KDA, MLA and the mixture of experts: their equalities, alone and under every residual."""

import dataclasses
import json
import math
import statistics
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from attnres_ref import LM, LMConfig, train, two_phase_forward
from attnres_ref.hybrid.kda import KDA, ForgetGate, kda_chunked, kda_recurrent
from attnres_ref.hybrid.layers import MLA, Expert, MoE
from attnres_ref.hybrid.routing import router_statistics
from attnres_ref.inference.cache import CachedMixer, forget, with_cache
from attnres_ref.inference.generation import generate_tokens
from attnres_ref.inference.prefill import prefill
from attnres_ref.model import LAYERS, MIXERS
from attnres_ref.streams import STREAMS
from attnres_ref.training import TrainConfig, Trainer, make_optimizer
from small import corpus, corpus_that, kill
from tiny_data import Corpus

PATTERN = "kda,moe,kda,moe,kda,moe,mla,moe"
SIZE = dict(
    d_model=16, n_layers=8, n_heads=2, context=12, block_size=3, layers=PATTERN, n_experts=4
)
RECIPE = TrainConfig(
    steps=10, batch_size=2, lr=4e-3, warmup_steps=2,
    eval_every=4, eval_windows=3, checkpoint_every=3,
)


def build(residual="block", seed=0, **changes):
    torch.manual_seed(seed)
    return LM(LMConfig(**{**SIZE, "residual": residual, **changes}))


def trained_a_little(residual="block", **changes):
    """In float64, with queries, biases and scores that no longer are what they were."""
    model = build(residual, **changes).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("stream."):
                parameter.normal_(std=0.5)
        for layer in model.layers:
            if isinstance(layer, MoE):
                layer.bias.uniform_(-0.2, 0.2)
    return model


def counting():
    """A corpus that even ten steps can learn something of."""
    return Corpus("0 to 9", (torch.arange(2000) % 10).to(torch.uint8))


def tokens(batch=2, length=12):
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(1))


# ---- KDA -------------------------------------------------------------------------------


def kda_inputs(T, K=4, V=3, strength=1.0, dtype=torch.float64, seed=0):
    """q, k, v, g, beta and a state to start from; exp(g) goes down to exp(-strength)."""
    torch.manual_seed(seed)
    q, k = torch.randn(2, 2, 2, T, K, dtype=dtype)
    v, state = torch.randn(2, 2, T, V, dtype=dtype), torch.randn(2, 2, K, V, dtype=dtype)
    g = -strength * torch.rand(2, 2, T, K, dtype=dtype)
    beta = torch.rand(2, 2, T, dtype=dtype)
    k = F.normalize(k, dim=-1)
    return [x.requires_grad_() for x in (q, k, v, g, beta, state)]


@settings(deadline=None, max_examples=30)
@given(
    T=st.integers(1, 40),
    K=st.integers(1, 6),
    chunk=st.sampled_from([1, 2, 4, 16, 32]),
    strength=st.sampled_from([0.0, 0.1, 3.0, 1000.0]),
    seed=st.integers(0, 99),
)
def test_chunks_give_what_the_loop_gives(T, K, chunk, strength, seed):
    """Values and gradients, also for T that is no multiple of the chunk."""
    inputs = kda_inputs(T, K, strength=strength, seed=seed)
    found, expected = kda_chunked(*inputs, chunk=chunk), kda_recurrent(*inputs)
    weights = [torch.randn_like(x) for x in expected]
    sums = [sum((w * x).sum() for w, x in zip(weights, pair)) for pair in (found, expected)]
    gradients = [torch.autograd.grad(total, inputs) for total in sums]
    for ours, loops in zip((*found, *gradients[0]), (*expected, *gradients[1])):
        torch.testing.assert_close(ours, loops, rtol=0, atol=1e-10)


def test_strong_decay_stays_finite_in_float32():
    """exp(-G) alone would overflow: G falls below -5000 within a chunk."""
    inputs = kda_inputs(70, strength=400.0, dtype=torch.float32)
    o, state = kda_chunked(*inputs)
    gradients = torch.autograd.grad(o.sum() + state.sum(), inputs)
    assert all(x.isfinite().all() for x in (o, state, *gradients))
    exact, _ = kda_recurrent(*(x.double() for x in inputs))
    torch.testing.assert_close(o.double(), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kda", [kda_recurrent, kda_chunked])
def test_without_forgetting_it_is_the_delta_rule(kda):
    """g = 0, beta = 1: what was written last under a key is what the key reads."""
    _, k, v, _, _, state = kda_inputs(9, K=4, V=3)
    with torch.no_grad():
        o, _ = kda(k, k, v, torch.zeros_like(k), torch.ones(2, 2, 9, dtype=k.dtype), state)
    torch.testing.assert_close(o, v.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kda", [kda_recurrent, kda_chunked])
def test_other_keys_keep_what_they_hold(kda):
    key, value = torch.eye(4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    k = key[[0, 1, 2, 1, 0]].expand(1, 1, 5, 4)
    v = value[[0, 1, 2, 3, 0]].expand(1, 1, 5, 3)
    q = key[[0, 0, 0, 2, 1]].expand(1, 1, 5, 4)
    o, _ = kda(q, k, v, torch.zeros_like(k), torch.ones(1, 1, 5, dtype=k.dtype))
    torch.testing.assert_close(o[0, 0], value[[0, 0, 0, 2, 3]])


@pytest.mark.parametrize("kda", [kda_recurrent, kda_chunked])
def test_a_key_channel_forgets_alone(kda):
    """beta = 0 writes nothing: the state only decays, channel by channel."""
    q, k, v, g, _, state = kda_inputs(7)
    _, left = kda(q, k, v, g, torch.zeros(2, 2, 7, dtype=k.dtype), state)
    torch.testing.assert_close(left, g.sum(2).exp().unsqueeze(-1) * state)


def test_a_kda_layer_by_hand():
    """The head's norm divides by the size of a query; without it, the queries show too."""
    layer, h = KDA(LMConfig(**SIZE)).double(), states()
    layer.head_norm = torch.nn.Identity()
    x, heads = layer.norm(h), lambda y: y.unflatten(-1, (2, -1)).transpose(1, 2)
    past = F.pad(layer.qkv(x), (0, 0, 3, 0))                      # nothing came before
    seen = sum(past[:, i : i + 12] * layer.conv[:, i] for i in range(4))
    q, k, v = heads(seen * seen.sigmoid()).split(8, dim=-1)
    q, k = (y / y.norm(dim=-1, keepdim=True) for y in (q, k))
    q, beta, gate = q / 8**0.5, layer.beta(x).mT.sigmoid(), layer.forget
    rate = heads(F.softplus(gate.low_rank(x) + gate.bias))
    o, _ = kda_recurrent(q, k, v, -gate.A.exp().view(2, 1, 1) * rate, beta)
    o = o * heads(layer.gate(x)).sigmoid()
    torch.testing.assert_close(layer(h), layer.out(o.transpose(1, 2).flatten(2)))


def test_kdas_rates_start_where_they_should_and_never_decay():
    model = build()
    layer = model.layers[0]
    gate = layer.forget
    many = ForgetGate(LMConfig(d_model=2048, n_heads=1024))
    log_start, speed = F.softplus(many.bias).log(), many.A.exp()
    for x, low, high in ((log_start, math.log(1e-3), math.log(1e-1)), (speed, 1, 16)):
        found = [x.min().item(), x.max().item()]
        assert found == pytest.approx([low, high], abs=(high - low) / 200)
    groups = make_optimizer(model, RECIPE).param_groups
    by_id = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert by_id[id(gate.A)] == by_id[id(gate.bias)] == 0 < by_id[id(layer.conv)]


def test_an_expert_by_hand():
    f, x = Expert(LMConfig(**SIZE)).double(), states()
    torch.testing.assert_close(f(x), f.out(f.gate(x) * f.gate(x).sigmoid() * f.up(x)))


def test_widths_are_rounded_up():
    config = LMConfig(d_model=22, n_heads=1, experts_per_token=2)
    assert Expert(config).gate.out_features == 24                 # a third of 64 is 21.3
    assert MLA(config).down.out_features == 6                     # a quarter of 22 is 5.5
    layer = KDA(LMConfig(**SIZE))
    assert [maps[0].out_features for maps in (layer.gate, layer.forget.low_rank)] == [8, 8]


# ---- Mixtures --------------------------------------------------------------------------


def mixture(**changes):
    torch.manual_seed(0)
    layer = MoE(LMConfig(**{**SIZE, **changes})).double()
    layer.bias.uniform_(-0.3, 0.3)
    return layer


def states(n=24):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, n // 2, 16, dtype=torch.float64, generator=generator)


@settings(deadline=None, max_examples=20)
@given(E=st.integers(1, 6), seed=st.integers(0, 99))
def test_with_every_expert_chosen_it_is_a_dense_mixture(E, seed):
    layer = mixture(n_experts=E, experts_per_token=E)
    torch.manual_seed(seed)
    h = torch.randn(2, 5, 16, dtype=torch.float64)
    x = layer.norm(h)
    scores = layer.router(x).sigmoid()
    weights = scores / scores.sum(-1, keepdim=True)
    dense = sum(weights[..., e : e + 1] * f(x) for e, f in enumerate(layer.experts))
    torch.testing.assert_close(layer(h), layer.shared(x) + dense, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(E=st.integers(1, 6), data=st.data())
def test_a_sparse_mixture_is_each_tokens_own_experts(E, data):
    k = data.draw(st.integers(1, E))
    layer, h = mixture(n_experts=E, experts_per_token=k), states()
    found = layer(h)
    for b, t in ((0, 0), (1, 7), (1, 11)):
        x = layer.norm(h[b, t])
        scores = layer.router(x).sigmoid()
        chosen = (scores + layer.bias).topk(k).indices
        expected = layer.shared(x) + sum(
            scores[e] / scores[chosen].sum() * layer.experts[e](x) for e in chosen
        )
        torch.testing.assert_close(found[b, t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("crowded", [False, True])
def test_no_token_is_dropped(crowded):
    """Experts that return their input: the weights of a token's k experts and the shared
    one then add up to two, even if all tokens want the same k."""
    layer, h = mixture(), states()
    if crowded:
        layer.bias.copy_(torch.tensor([9.0, 9.0, 0.0, 0.0]))
    layer.experts = torch.nn.ModuleList(torch.nn.Identity() for _ in layer.experts)
    layer.shared = torch.nn.Identity()
    torch.testing.assert_close(layer(h), 2 * layer.norm(h))
    chosen, _ = layer.route(layer.norm(h).flatten(0, 1))
    assert all(len(set(experts)) == 2 for experts in chosen.tolist())
    assert sum(layer.load) == pytest.approx(1.0)
    assert not crowded or layer.load == [0.5, 0.5, 0, 0]


def test_balancing_favours_the_idle_of_all_processes(monkeypatch):
    layer = mixture()
    layer.bias.zero_()
    layer.load = torch.tensor([0.5, 0.25, 0.25, 0.0])
    layer.balance()
    assert layer.bias.tolist() == pytest.approx([-0.01, 0, 0, 0.01])
    others = SimpleNamespace(mean=lambda load: load.flip(0))      # theirs are mine reversed
    monkeypatch.setattr("attnres_ref.hybrid.layers.Processes", lambda: others)
    layer.balance()
    assert layer.bias.tolist() == pytest.approx([0, 0, 0, 0])


def test_only_a_training_step_moves_the_bias():
    trainer = Trainer(LMConfig(**SIZE), RECIPE, corpus())
    bias = trainer.model.layers[1].bias
    trainer.validate()
    assert not bias.any()
    trainer.step()
    assert bias.any()


def test_a_step_that_fp16_skips_does_not_move_the_bias(monkeypatch):
    on_a_t4 = lambda device: torch.float16
    monkeypatch.setattr("attnres_ref.training.trainer.half_precision", on_a_t4)
    trainer = Trainer(LMConfig(**SIZE), RECIPE, corpus())
    trainer.model.head.weight.register_hook(lambda grad: grad * float("inf"))
    assert trainer.step()["grad_norm"] is None
    assert not trainer.model.layers[1].bias.any()


def test_looking_at_a_model_does_not_change_its_training():
    def look(model):
        return router_statistics(model, tokens())

    config = LMConfig(**SIZE)
    often = train(config, dataclasses.replace(RECIPE, eval_every=1), corpus(), observe=look)
    never = train(config, dataclasses.replace(RECIPE, eval_every=99), corpus())
    states = often.model.state_dict(), never.model.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states)))
    assert states[0]["layers.1.bias"].any()


def test_killed_and_resumed_is_the_same_run(tmp_path):
    config = LMConfig(**SIZE)
    whole = train(config, RECIPE, corpus(), tmp_path / "whole")
    with pytest.raises(BaseException, match="^$"):
        train(config, RECIPE, corpus_that(kill, at_step=7), tmp_path / "killed")
    resumed = train(config, RECIPE, corpus(), tmp_path / "killed", resume=True)
    assert [m["loss"] for m in resumed.metrics] == [m["loss"] for m in whole.metrics]
    pairs = zip(resumed.model.state_dict().items(), whole.model.state_dict().items())
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)
    assert whole.model.layers[1].bias.any()


def test_the_load_evens_out_in_training():
    config = LMConfig(**{**SIZE, "n_layers": 2, "layers": "kda,moe", "block_size": 2})
    trainer = Trainer(config, dataclasses.replace(RECIPE, steps=60, batch_size=8), corpus())
    layer = trainer.model.layers[1]
    layer.bias[:2] += 0.15                           # everybody wants these two
    variations = []
    for _ in range(60):
        trainer.step()
        variations.append(stdev(layer.load) / mean(layer.load))
    early, late = sum(variations[:5]) / 5, sum(variations[-5:]) / 5
    assert late < 0.6 * early, (early, late)


# ---- The whole model, under every residual ----------------------------------------------


@pytest.mark.parametrize("residual", STREAMS)
def test_every_residual_trains_the_hybrid(residual):
    small = dict(residual=residual, window=3, n_layers=4, layers="kda,moe,mla,moe")
    config = LMConfig(**{**SIZE, **small})
    trainer = Trainer(config, dataclasses.replace(RECIPE, lr=1e-3), counting())
    before = trainer.validate()["val_loss"]
    for _ in range(6):
        trainer.step()                               # raises Diverged at the first NaN
    assert trainer.validate()["val_loss"] < before
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    trainer.loss(tokens()[:, :-1], tokens()[:, 1:]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in
               trainer.model.layers.parameters())


def test_all_three_residuals_agree_at_initialisation():
    logits = [build(name).double()(tokens()) for name in ("prenorm", "block", "full")]
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(logits[2], logits[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixer", sorted(MIXERS))
@pytest.mark.parametrize("other", ["mlp", "moe"])
def test_no_token_sees_a_later_one(mixer, other):
    model = trained_a_little(layers=f"{mixer},{other}", n_layers=4)
    x, changed = tokens(), tokens()
    changed[:, 7:] = (changed[:, 7:] + 1) % 256
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-12)
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("layers", ["kda,mlp", "mla,mlp", PATTERN])
@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (5, 1, 4, 2)])
@torch.no_grad()
def test_a_cache_gives_the_logits_of_the_whole(layers, pieces):
    model = trained_a_little(layers=layers)
    twin, whole = with_cache(model), model(tokens())
    for _ in range(2):                               # again after forget()
        forget(twin)
        logits = torch.cat([twin(piece) for piece in tokens().split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_cache_keeps_what_it_promises():
    model = trained_a_little()
    twin = with_cache(model)
    twin(tokens())
    mla, kda = twin.step.layers[6], twin.step.layers[0]
    assert mla.past.shape == (2, 12, 4)
    latest, state = kda.past
    assert latest.shape == (2, 3, 48) and state.shape == (2, 2, 8, 8)
    assert [type(layer) is CachedMixer for layer in twin.step.layers] == [True, False] * 4


def test_generation_prefill_and_two_phases_run_on_the_hybrid():
    model = trained_a_little()
    x = tokens()[:, :5]
    torch.testing.assert_close(two_phase_forward(model, x), model(x), rtol=0, atol=1e-10)
    logits, _ = prefill(model, x, n_shards=2, chunk=3)
    torch.testing.assert_close(logits, model(x), rtol=0, atol=1e-10)
    greedy = torch.stack(list(generate_tokens(model, x, 10, temperature=0)), dim=1)
    for step in range(10):                           # past the context of 12, too
        assert torch.equal(model(x[:, -12:])[:, -1].argmax(-1), greedy[:, step])
        x = torch.cat([x, greedy[:, step : step + 1]], dim=1)


@pytest.mark.parametrize("residual", ["prenorm", "block"])
def test_autocast_routes_in_float32(residual):
    model, seen = build(residual), []
    for layer in model.layers[1::2]:
        layer.register_forward_hook(
            lambda f, inputs, output: seen.append(f.scores(f.norm(inputs[0])).dtype)
        )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens())
    assert logits.dtype == torch.bfloat16 and seen == [torch.float32] * 4
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.layers.parameters())


def test_router_statistics_are_json_and_right():
    model = build()
    before = model.state_dict()
    found = json.loads(json.dumps(router_statistics(model, tokens())))
    assert {key: len(values) for key, values in found.items()} == dict(
        expert_load=4, load_variation=4, router_entropy=4, top_weight=4
    )
    assert all(sum(load) == pytest.approx(1) for load in found["expert_load"])
    assert all(0 < share <= 1 for share in found["router_entropy"])
    assert all(0.5 <= weight < 1 for weight in found["top_weight"])
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    even = model.layers[1]
    torch.nn.init.zeros_(even.router.weight)         # all scores are alike
    found = router_statistics(model, tokens())
    assert found["router_entropy"][0] == pytest.approx(1)
    assert found["top_weight"][0] == pytest.approx(0.5)
    load = found["expert_load"][1]
    expected = statistics.pstdev(load) / statistics.mean(load)
    assert found["load_variation"][1] == pytest.approx(expected)


def test_a_pattern_is_repeated_and_cut():
    names = LMConfig(**{**SIZE, "n_layers": 5, "layers": "kda, moe,mla"}).layer_names
    assert names == ("kda", "moe", "mla", "kda", "moe")
    model = build(layers="attention,mlp,kda,moe,mla", n_layers=5)
    assert [type(layer) for layer in model.layers] == [
        LAYERS[name] for name in ("attention", "mlp", "kda", "moe", "mla")
    ]
    assert isinstance(model.layers[2], KDA)
    assert LMConfig().layer_names == ("attention", "mlp") * 8
