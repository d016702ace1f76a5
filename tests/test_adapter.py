"""Decoders written the usual way, moved onto a residual stream; or refused."""

import copy
import inspect
import pickle
from functools import partial

import pytest
import torch
from torch import nn

import usual as decoders
from attnres_ref import LM, BlockAttnRes, FullAttnRes, LMConfig, PreNorm
from attnres_ref.adapter import convert
from attnres_ref.depth import depth_attention
from attnres_ref.study import probes
from attnres_ref.training import TrainConfig, make_optimizer
from attnres_ref.variants import HyperConnections
from usual import REFUSED, UNDERSTOOD, UsualDecoder, usual

TOKENS = torch.arange(10).reshape(2, 5)
ATTNRES = [FullAttnRes, *(partial(BlockAttnRes, block_size=s) for s in (2, 4, 6))]


@pytest.mark.parametrize("kind", UNDERSTOOD.values(), ids=UNDERSTOOD)
@pytest.mark.parametrize("training", [False, True])
def test_on_prenorm_every_kind_of_block_computes_the_same_bits(kind, training):
    decoder = usual(block=kind).train(training)
    before, after = decoder, convert(copy.deepcopy(decoder), PreNorm)
    results = []
    for model in (before, after):
        torch.manual_seed(1)                           # of the dropout in one of them
        out = model(TOKENS)
        out.square().mul(torch.arange(16)).sum().backward()
        results.append([out, *(parameter.grad for parameter in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("kind", UNDERSTOOD.values(), ids=UNDERSTOOD)
@pytest.mark.parametrize("residual", ATTNRES, ids=["full", "2", "4", "6"])
def test_the_function_stays_while_the_queries_are_zero(kind, residual):
    n_blocks = 6 if kind is UNDERSTOOD["OneLayer"] else 3
    decoder = usual(block=kind, n_blocks=n_blocks).eval()
    before = decoder(TOKENS)
    after = convert(decoder, residual)(TOKENS)
    assert decoder.stream.queries.shape == (7, 16)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_is_not_a_row_of_sums_is_refused_and_left_as_it_was(kind):
    decoder = usual()
    decoder.layers[2] = kind(16).double()
    state, types = dict(vars(decoder)), [type(block) for block in decoder.layers]
    generator = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=REFUSED[kind]) as refused:
        convert(decoder, FullAttnRes)
    said = str(refused.value)
    assert kind.__name__ in said and "h = h + k f(norm(h))" in said
    assert [type(block) for block in decoder.layers] == types
    assert vars(decoder) == state and not hasattr(decoder, "stream")
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_every_kind_of_block_is_tried():
    kinds = {
        cls for _, cls in inspect.getmembers(decoders, inspect.isclass)
        if issubclass(cls, decoders.UsualBlock)
    }
    assert kinds <= {*UNDERSTOOD.values(), *REFUSED, decoders.Positional, decoders.Packing}


def test_arguments_go_where_the_block_sends_them():
    mask = torch.ones(5, 5, dtype=torch.bool)
    block = decoders.Positional(16).double()
    h = torch.randn(2, 5, 16, dtype=torch.float64)
    decoder = nn.Module()
    decoder.layers = nn.ModuleList([block])
    masked, before = block(h, mask), block(h, None)
    convert(decoder, FullAttnRes)
    assert (masked - before).abs().max() > 1e-3
    for args, names in (((h, mask), {}), ((h,), dict(attention_mask=mask)),
                        ((), dict(h=h, attention_mask=mask, scale=2.0))):
        torch.testing.assert_close(block(*args, **names), masked, rtol=0, atol=1e-12)
    for args, names in (((h,), {}), ((h, mask, 1.0, None), {}), ((h, mask), dict(cache=1))):
        with pytest.raises(TypeError, match="its forward takes h, attention_mask, scale"):
            block(*args, **names)


def test_arguments_that_travel_together_are_filled_in():
    block, h = decoders.Packing(16).double(), torch.randn(2, 5, 16, dtype=torch.float64)
    decoder = nn.Module()
    decoder.layers = nn.ModuleList([block])
    before = block(h, 0.3, sin=0.9)
    convert(decoder, FullAttnRes)
    torch.testing.assert_close(block(h, 0.3, sin=0.9), before, rtol=0, atol=1e-12)


def test_arguments_that_a_block_does_not_name_reach_what_it_gives_them_to():
    mask = torch.ones(5, 5, dtype=torch.bool)
    decoder = usual()
    before = decoder(TOKENS, mask=mask)
    torch.testing.assert_close(
        convert(decoder, FullAttnRes)(TOKENS, mask=mask), before, rtol=0, atol=1e-10
    )
    assert (before - decoder(TOKENS)).abs().max() > 1e-3
    with pytest.raises(TypeError, match="unexpected keyword argument 'mast'"):
        decoder(TOKENS, mast=mask)


@pytest.mark.parametrize("eps", [1e-6, 1e-12])
def test_small_hidden_states_do_not_feel_the_eps_more_than_before(eps):
    """Hugging Face starts embeddings at 0.02, where a mean of seven sources would feel an
    eps that their sum does not: the adapter reads n times the mean."""
    decoder = usual(eps=eps)
    decoder.embed_tokens.weight.data.mul_(0.02)
    before = decoder(TOKENS)
    after = convert(decoder, FullAttnRes)(TOKENS)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("residual", ATTNRES)
def test_queries_choose_and_learn(residual):
    decoder = convert(usual(), residual)
    before = decoder(TOKENS)
    before.square().mul(torch.arange(16)).sum().backward()
    gradient = decoder.stream.queries.grad.abs().sum(-1)
    assert gradient[1:].min() > 0                      # read 0 has one source, so none
    with torch.no_grad():
        decoder.stream.queries.copy_(torch.linspace(-1, 1, 7 * 16).reshape(7, 16))
    assert (decoder(TOKENS) - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [decoders.UsualBlock, decoders.Multiplied])
def test_every_layer_reads_what_a_loop_over_the_parts_reads(kind):
    decoder = usual(block=kind)
    blocks = list(decoder.layers)
    convert(decoder, partial(BlockAttnRes, block_size=4))
    stream, factors = decoder.stream, (1, 1)
    with torch.no_grad():
        stream.queries.normal_(generator=torch.Generator().manual_seed(1))
    if kind is decoders.Multiplied:
        factors = (0.22, -0.3)
    parts = [
        f for block in blocks for f in (
            lambda h, b=block: factors[0] * b.self_attn(b.input_layernorm(h))[0],
            lambda h, b=block: factors[1] * b.mlp(b.post_attention_layernorm(h)),
        )
    ]
    state = stream.begin(decoder.embed_tokens(TOKENS))
    for layer, f in enumerate(parts):
        h = len(state.sources) * stream.read(state, layer)
        state = stream.write(state, layer, f(h))
    expected = decoder.norm(len(state.sources) * stream.read(state, len(parts)))
    torch.testing.assert_close(decoder(TOKENS), expected, rtol=0, atol=1e-15)


def test_any_stream_fits():
    decoder = convert(usual(), partial(HyperConnections, n_streams=2))
    assert decoder(TOKENS).isfinite().all()


def test_old_checkpoints_fit_and_copies_have_their_own_stream():
    decoder = usual()
    checkpoint = decoder.state_dict()
    convert(decoder, FullAttnRes)
    for copied in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        missing, unexpected = copied.load_state_dict(checkpoint, strict=False)
        assert sorted(missing) == ["stream.queries", "stream.queries_norm"]
        assert not unexpected and copied.stream.queries.dtype == torch.float64
        torch.testing.assert_close(copied(TOKENS), decoder(TOKENS), rtol=0, atol=0)
        copied.stream.queries.data.fill_(1.0)
        assert (copied(TOKENS) - decoder(TOKENS)).abs().max() > 1e-3


def test_a_stream_put_in_later_is_used():
    decoder = usual()
    before = decoder(TOKENS)
    convert(decoder, FullAttnRes)
    decoder.stream.queries.data.fill_(1.0)
    assert (decoder(TOKENS) - before).abs().max() > 1e-3
    decoder.stream = PreNorm(6, 16)
    torch.testing.assert_close(decoder(TOKENS), before, rtol=0, atol=0)
    seen = decoder.stream = probes.Trace(FullAttnRes(6, 16).double())
    decoder(TOKENS)
    assert len(seen.inputs) == 7 and len(seen.outputs) == 6


def test_a_probe_that_puts_its_stream_into_a_view_says_that_it_saw_nothing():
    decoder = convert(usual(), FullAttnRes)
    with pytest.raises(ValueError, match="model has 3 layers, 0 wrote"):
        probes.magnitudes(decoder, TOKENS)
    with pytest.raises(ValueError, match="calls attend 0 times"):
        probes.depth_weights(decoder, TOKENS)


def test_an_operator_is_swapped_in_the_stream():
    decoder, weights = convert(usual(), FullAttnRes), []

    def watched(query, sources, norm_weight):
        h, alpha = depth_attention(query, sources, norm_weight, return_weights=True)
        weights.append(alpha)
        return h

    before = decoder(TOKENS)
    decoder.stream.attend = watched
    torch.testing.assert_close(decoder(TOKENS), before, rtol=0, atol=0)
    assert [len(alpha) for alpha in weights] == [1, 2, 3, 4, 5, 6, 7]


def test_a_block_that_stands_there_twice_is_read_twice():
    decoder = usual(n_blocks=1)
    decoder.layers.append(decoder.layers[0])
    before = decoder(TOKENS)
    convert(decoder, FullAttnRes)
    assert decoder.stream.queries.shape == (5, 16)
    torch.testing.assert_close(decoder(TOKENS), before, rtol=0, atol=1e-10)


def test_the_list_of_blocks_may_have_another_name():
    decoder = nn.ModuleDict(dict(h=usual().layers))    # as in nanoGPT
    h = torch.randn(2, 5, 16, dtype=torch.float64)
    before = h
    for block in decoder.h:
        before = block(before)
    convert(decoder, FullAttnRes)
    for block in decoder.h:
        h = block(h)
    torch.testing.assert_close(h, before, rtol=0, atol=1e-10)


def test_what_looks_for_blocks_of_a_class_finds_them():
    decoder = convert(usual(), FullAttnRes)
    for block in decoder.layers:
        assert isinstance(block, decoders.UsualBlock)
        assert type(block).__name__ == "UsualBlock" == type(block).__qualname__


def test_hooks_of_a_block_and_its_parts_stay():
    decoder, called = usual(), []
    decoder.layers[1].register_forward_hook(lambda *_: called.append("block"))
    decoder.layers[1].mlp.register_forward_hook(lambda *_: called.append("mlp"))
    convert(decoder, FullAttnRes)(TOKENS)
    assert called == ["mlp", "block"]


def test_the_training_recipe_knows_the_stream_of_a_decoder_inside_a_model():
    model = nn.Module()
    model.decoder = convert(usual(), FullAttnRes)
    recipe = TrainConfig(weight_decay=0.1, query_lr_scale=4.0)
    matrices, vectors, stream = make_optimizer(model, recipe).param_groups
    assert {*stream["params"]} == {*model.decoder.stream.parameters()}
    assert (stream["weight_decay"], stream["lr_scale"]) == (0.0, 4.0)
    assert len(matrices["params"]) == 13 and len(vectors["params"]) == 3 * 6 + 1


@pytest.mark.parametrize("residual", [PreNorm, *ATTNRES])
def test_a_part_that_autocast_leaves_in_float32_is_written_as_the_others(residual):
    class Mixture(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.expert = nn.Linear(d, d)

        def forward(self, x):
            return self.expert(x) * torch.ones(1)      # float32, as a router's weights

    decoder = usual().float()
    for block in decoder.layers:
        block.mlp = Mixture(16)
    with torch.autocast("cpu", torch.bfloat16):
        before = decoder(TOKENS)
        after = convert(decoder, residual)(TOKENS)
        after.float().sum().backward()
    if residual is PreNorm:
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    else:
        torch.testing.assert_close(after.float(), before.float(), rtol=0, atol=0.1)
    assert all(p.grad is not None for p in decoder.layers.parameters())


@pytest.mark.parametrize(
    "decoder, residual, message",
    [
        (nn.Linear(2, 2), FullAttnRes, "Linear has no ModuleList `layers`.*model.model"),
        (UsualDecoder(n_blocks=0), FullAttnRes, "UsualDecoder has no ModuleList"),
        (convert(usual(), FullAttnRes), FullAttnRes, "UsualDecoder is on a stream"),
        (usual().to("meta"), FullAttnRes, "UsualDecoder is on the meta device.*load its"),
        (usual(), FullAttnRes(6, 16), "residual is FullAttnRes.*pass what builds a stream"),
        (usual(), "full", "residual is 'full': pass what builds a stream"),
        (usual(), lambda n, d: nn.Linear(d, n), r"built a Linear without \['begin'"),
        (LM(LMConfig(n_layers=4, d_model=8, n_heads=2)), FullAttnRes, "Attention cannot"),
    ],
)
def test_refuses_what_it_cannot_convert(decoder, residual, message):
    with pytest.raises(ValueError, match=message):
        convert(decoder, residual)


def test_a_width_that_nobody_tells_is_asked_for():
    class Bare(nn.Module):
        def forward(self, x):
            return x / x.square().mean(-1, keepdim=True).sqrt()

    decoder = usual()
    for block in decoder.layers:
        block.input_layernorm = Bare()
    with pytest.raises(ValueError, match="Bare has no weight.*no config.hidden_size"):
        convert(decoder, PreNorm)
    decoder.config = nn.Module()
    decoder.config.hidden_size = 16
    before = decoder(TOKENS)
    torch.testing.assert_close(convert(decoder, FullAttnRes)(TOKENS), before)
