"""Decoders written the usual way, moved onto a residual stream; or refused."""

import copy
import inspect
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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
    assert kinds <= {*UNDERSTOOD.values(), *REFUSED, decoders.Positional, decoders.Packing,
                     decoders.Choosing, decoders.ByKind}


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
    for args, names in (((h,), {}), ((h, mask, 1.0, None), {}), ((h, mask), dict(cache=1)),
                        ((h, mask), dict(attention_mask=None))):
        with pytest.raises(TypeError, match="its forward takes h, attention_mask, scale"):
            block(*args, **names)


def test_an_argument_that_would_change_the_way_stays_at_its_default():
    decoder, mask = usual(block=decoders.Choosing), torch.ones(5, 5, dtype=torch.bool)
    before = decoder(TOKENS, mask=mask)
    convert(decoder, FullAttnRes)
    torch.testing.assert_close(decoder(TOKENS, mask=mask, encoder=None), before)
    with pytest.raises(TypeError, match="a block got encoder: convert knows what it does"):
        decoder(TOKENS, encoder=mask)
    decoder = convert(usual(block=decoders.ByKind), FullAttnRes)
    with pytest.raises(TypeError, match="where kind is 'full', and no more"):
        decoder(TOKENS, kind="causal")


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
        (LM(LMConfig(n_layers=4, d_model=8, n_heads=2)), FullAttnRes,
         "LM has an attribute `stream`"),
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


# ---- Around the blocks -------------------------------------------------------------------


def loss_of(model):
    return model(TOKENS).square().mul(torch.arange(16)).sum()


def test_a_forward_of_the_objects_own_and_backward_hooks_are_refused():
    """They would go on, or cease, without a word."""
    decoder = usual()
    block = decoder.layers[1]
    block.forward = block.forward
    with pytest.raises(ValueError, match="UsualBlock has a forward of its own"):
        convert(decoder, FullAttnRes)
    del block.forward
    hook = block.register_full_backward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="UsualBlock has backward hooks"):
        convert(decoder, FullAttnRes)
    hook.remove()
    convert(decoder, FullAttnRes)


def test_nothing_is_half_converted_where_a_class_cannot_be_made():
    class Registered(decoders.UsualBlock):
        seen = set()

        def __init_subclass__(cls):
            assert cls.__name__ not in Registered.seen, "registered twice"
            Registered.seen.add(cls.__name__)

    class Once(Registered):
        pass

    decoder = usual()
    decoder.layers[2] = Once(16).double()
    before = decoder(TOKENS)
    with pytest.raises(AssertionError, match="registered twice"):
        convert(decoder, FullAttnRes)
    assert not hasattr(decoder, "stream")
    torch.testing.assert_close(decoder(TOKENS), before, rtol=0, atol=0)
    decoder.layers[2] = decoders.UsualBlock(16).double()
    convert(decoder, FullAttnRes)


def test_names_that_are_taken_are_not_overwritten():
    decoder = usual()
    decoder.stream = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="UsualDecoder has an attribute `stream`"):
        convert(decoder, FullAttnRes)
    del decoder.stream
    decoder.layers[0].fitting = "mine"
    with pytest.raises(ValueError, match="UsualBlock has an attribute `fitting`"):
        convert(decoder, FullAttnRes)


@pytest.mark.parametrize("context", [
    torch.inference_mode, torch.no_grad, lambda: torch.device("meta"),
    lambda: torch.autocast("cpu", torch.bfloat16),
])
def test_queries_learn_wherever_the_decoder_was_converted(context):
    decoder = usual()
    with context():
        convert(decoder, FullAttnRes)
    loss_of(decoder).backward()
    assert decoder.stream.queries.grad[1:].abs().sum(-1).min() > 0


def test_evaluation_where_the_embedding_wants_gradients_all_the_same():
    """As transformers' `enable_input_require_grads` has it."""
    decoder = usual()
    before = decoder(TOKENS)
    convert(decoder, FullAttnRes)
    decoder.embed_tokens.register_forward_hook(lambda *args: args[-1].requires_grad_(True))
    with torch.no_grad():
        torch.testing.assert_close(decoder(TOKENS), before)


@pytest.mark.parametrize("first, last", [(0, 3), (2, 3), (0, 2)])
def test_reentrant_checkpointing_of_some_blocks_is_refused(first, last):
    decoder = convert(usual(), FullAttnRes)
    h = decoder.embed_tokens(TOKENS)
    with pytest.raises(ValueError, match="would lose the gradients of its sources.*use_re"):
        for i, block in enumerate(decoder.layers):
            inside = first <= i < last
            h = checkpoint(block, h, use_reentrant=True) if inside else block(h)


def test_recomputing_draws_the_same_dropout():
    gradients = []
    for recompute in (False, True):
        decoder = usual()
        for block in decoder.layers:
            weight = block.input_layernorm.weight
            block.input_layernorm = nn.Sequential(nn.Dropout(0.5), block.input_layernorm)
            block.input_layernorm.weight = weight
        convert(decoder.eval(), FullAttnRes, recompute=recompute).train()
        torch.manual_seed(1)
        loss_of(decoder).backward()
        gradients.append([p.grad for p in decoder.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_takes_a_state_for_a_hidden_state_is_told():
    decoder = convert(usual(), FullAttnRes)
    handed = decoder.layers[0](decoder.embed_tokens(TOKENS))
    for wrong in (lambda: handed.dtype, lambda: handed * 2.0, lambda: handed[0] + 1.0,
                  lambda: handed[0].shape, lambda: decoder.norm(handed)):
        with pytest.raises(AttributeError, match="travels a stream's state, no tensor"):
            wrong()
    # A decoder may take the first of what a block returned, as of (hidden, weights).
    for block in decoder.layers[1:]:
        handed = block(handed[0])
    torch.testing.assert_close(decoder.norm(handed), decoder(TOKENS))


def test_hidden_states_that_a_decoder_collects_itself_are_read():
    class Collecting(UsualDecoder):
        form = dict

        def forward(self, tokens):
            h, states = self.embed_tokens(tokens), []
            for block in self.layers:
                states += [h]
                h = block(h)
            h = self.norm(h)
            return dict(h=h, hidden_states=states) if self.form is dict else (h, (*states,))

    torch.manual_seed(0)
    decoder = Collecting().double()
    before = decoder(TOKENS)["hidden_states"]
    convert(decoder, FullAttnRes)
    for form in (dict, tuple):
        decoder.form = form
        found = decoder(TOKENS)
        for ours, theirs in zip([*(found.values() if form is dict else found)][1], before):
            torch.testing.assert_close(ours, theirs)


def test_a_fixed_argument_may_be_given_as_it_is_by_default():
    class Flag(decoders.UsualBlock):
        def forward(self, h, p=0.5):
            k = 0.5 if p > 0 else 1.0
            h = h + k * self.self_attn(self.input_layernorm(h))[0]
            return h + self.mlp(self.post_attention_layernorm(h))

    decoder = usual(block=Flag)
    before = decoder(TOKENS)
    convert(decoder, PreNorm)
    torch.testing.assert_close(decoder(TOKENS, p=float("0.5")), before, rtol=0, atol=0)
    for p in (0.25, 0.0, None):
        with pytest.raises(TypeError, match="where p is 0.5, and no more"):
            decoder(TOKENS, p=p)


def test_blocks_in_a_sequential_and_a_compiled_decoder():
    decoder = usual()
    before = decoder(TOKENS)
    decoder.layers = nn.Sequential(*decoder.layers)
    convert(torch.compile(decoder), FullAttnRes)
    torch.testing.assert_close(decoder(TOKENS), before)
    assert decoder.stream.queries.shape == (7, 16)
    for other in (nn.ModuleDict(dict(layers=nn.ModuleDict(dict(a=usual().layers[0])))),
                  nn.ModuleDict(dict(blocks=nn.Sequential(*usual().layers[:1])))):
        assert convert(other, FullAttnRes).stream.queries.shape == (3, 16)


def test_a_decoder_without_a_floating_parameter_is_refused():
    decoder = nn.Module()
    decoder.layers = nn.ModuleList([decoders.Weightless(16)])
    for part in (decoder.layers[0].self_attn, decoder.layers[0].mlp):
        for p in part.parameters():
            p.requires_grad_(False).data = p.data.to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="Module has no parameter of a floating dtype"):
        convert(decoder, FullAttnRes)
