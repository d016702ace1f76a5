"""A model fed piece by piece: the logits of the whole, one graph for every token, and a
twin that follows its model."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from attnres_ref.inference.cache import Cached, CachedAttention, forget, with_cache
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.model import RoPE
from attnres_ref.streams import STREAMS
from test_streams import build
from test_two_phase import model_of, tokens_of

EXACT = dict(rtol=0, atol=1e-12)


def fed(twin, tokens, *pieces):
    return torch.cat([twin(piece) for piece in tokens.split(pieces, dim=1)], dim=1)


@pytest.mark.parametrize("schedule", [TwoPhase, lambda stream: stream])
@pytest.mark.parametrize("pieces", [(10,), (1,) * 10, (4, 1, 3, 2)])
def test_pieces_give_the_logits_of_the_whole(schedule, pieces):
    model, tokens = model_of(7, 3, T=10), tokens_of(10)
    twin = with_cache(model, schedule(model.stream))
    with torch.no_grad():
        for _ in range(2):                                  # again after forget()
            forget(twin)
            torch.testing.assert_close(fed(twin, tokens, *pieces), model(tokens), **EXACT)


def test_a_stale_position_is_caught(monkeypatch):
    """Mutation: rotations that start at 0 for every piece."""
    model, tokens = model_of(6, 3, T=10), tokens_of(10)
    twin, turn = with_cache(model), RoPE.forward
    monkeypatch.setattr(RoPE, "forward", lambda rope, x, start=0: turn(rope, x))
    with torch.no_grad():
        twin(tokens[:, :4])
        assert (twin(tokens[:, 4:]) - model(tokens)[:, 4:]).abs().max() > 1e-3


def test_the_twin_shares_weights_and_leaves_the_model_alone():
    model = model_of(6, 3)
    names, state = list(model.state_dict()), torch.get_rng_state()
    twin = with_cache(model)
    own = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in twin.parameters()} <= own
    assert list(model.state_dict()) == names
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(twin.step.stream, TwoPhase)
    prenorm = build("prenorm", n_layers=7, context=10)
    assert with_cache(prenorm).step.stream is prenorm.stream


@pytest.mark.parametrize("S", [0, 3])
def test_the_twin_follows_its_model(S):
    """Through training and loading: it keeps nothing that was made of old weights."""
    model, later = model_of(6, S), model_of(6, S, seed=5)
    twin = with_cache(model)
    copied = copy.deepcopy(twin)
    with torch.no_grad():
        before = model(tokens_of(5))
        twin(tokens_of(5))
        model.load_state_dict(later.state_dict())
        forget(twin)
        for ours, right in ((twin, later(tokens_of(5))), (copied, before)):
            torch.testing.assert_close(ours(tokens_of(5)), right, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_cache_refuses_another_batch_and_more_than_its_context():
    twin = with_cache(model_of(6, 3, T=10))
    twin(tokens_of(8))
    with pytest.raises(ValueError, match=r"has 1 sequences, the cache holds 2: forget"):
        twin(tokens_of(1, batch=1))
    with pytest.raises(ValueError, match="holds 8 tokens and 3 more pass the context of"):
        twin(tokens_of(3))
    forget(twin)
    assert len(twin(tokens_of(1, batch=1))) == 1


# --- static shapes ----------------------------------------------------------------------


@pytest.mark.parametrize("how, residual", [
    ("the twin", "block"), *(("the step", residual) for residual in sorted(STREAMS)),
])
@torch.no_grad()
def test_one_graph_serves_every_token(how, residual):
    """One graph for a prompt and one for tokens, whatever the residual and whether the twin
    or its step is compiled, and logits of the layer-wise model."""
    n_new = 64 if residual == "block" else 4
    torch._dynamo.reset()
    counters.clear()
    model = build(residual, n_layers=4, context=74)
    tokens = tokens_of(10 + n_new, batch=1)
    twin = run = with_cache(model)
    if how == "the step":
        twin.step.compile(backend="eager", fullgraph=True)
    else:
        run = torch.compile(twin, backend="eager", fullgraph=True)
    compiled = fed(run, tokens, 10, *(1,) * n_new)
    assert counters["stats"]["unique_graphs"] == 2
    for logits in (fed(with_cache(model), tokens, 10, *(1,) * n_new), model(tokens)):
        torch.testing.assert_close(compiled, logits, **EXACT)


@torch.no_grad()
def test_another_prompt_needs_no_new_graph():
    torch._dynamo.reset()
    counters.clear()
    twin = with_cache(build("block", n_layers=4, context=12))
    twin.step.compile(backend="eager", fullgraph=True)
    for seed in range(3):
        fed(twin, tokens_of(7, seed=seed), 5, 1, 1)
        forget(twin)
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("begins", ["is made", "is fed", "is cast"])
def test_a_twin_may_begin_in_inference_mode_and_go_on_without(begins):
    model, tokens = model_of(6, 3, T=10).float(), tokens_of(10)
    with torch.inference_mode(begins == "is made"):
        twin = with_cache(model)
    with torch.inference_mode(begins == "is fed"):
        twin(tokens[:, :2])
    if begins == "is cast":
        model.double()                                 # the cast of the cache comes with
    with torch.inference_mode(begins == "is cast"):    # the next piece
        twin(tokens[:, 2:4])
    with torch.no_grad():
        expected = model(tokens)[:, 4:]
        torch.testing.assert_close(twin(tokens[:, 4:]), expected, rtol=0, atol=1e-5)


def test_autocast_gives_what_the_model_gives_under_it():
    model, tokens = model_of(6, 3, T=10).float(), tokens_of(10)
    twin = with_cache(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = fed(twin, tokens, 4, *(1,) * 6)
        torch.testing.assert_close(logits, model(tokens), rtol=0, atol=0.05)


@torch.no_grad()
def test_a_real_compiler_gives_the_same_logits():
    torch._dynamo.reset()
    model, tokens = model_of(4, 2, T=12), tokens_of(12)
    twin = with_cache(model)
    twin.step.compile(backend="inductor", dynamic=False)
    torch.testing.assert_close(fed(twin, tokens, 4, *(1,) * 8), model(tokens), **EXACT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: no CUDA graphs")
@torch.no_grad()
def test_one_captured_graph_serves_every_token():
    model, tokens = model_of(4, 2, T=12).cuda(), tokens_of(12).cuda()
    twin, token = with_cache(model), torch.zeros(2, 1, dtype=torch.int64, device="cuda")
    twin(tokens[:, :4])
    twin.step(token)                                    # warm up; the position stays
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = twin.step(token)
    for place in range(4, 12):
        token.copy_(tokens[:, place : place + 1])
        graph.replay()
        twin.advance(1)
        torch.testing.assert_close(captured, model(tokens)[:, place : place + 1], **EXACT)


@torch.no_grad()
def test_memory_lies_still():
    """What a captured graph needs: no step, and no forget, gives a tensor another place."""
    twin = with_cache(model_of(6, 3, T=10))
    twin(tokens_of(4))
    memories = [m for m in twin.memories if isinstance(m, CachedAttention)]
    places = [memory.keys.data_ptr() for memory in memories]
    start = twin.position.start.data_ptr()
    twin(tokens_of(1))
    forget(twin)
    twin(tokens_of(3))
    assert [memory.keys.data_ptr() for memory in memories] == places
    assert twin.position.start.data_ptr() == start and twin.position.start == 3
    assert all(memory.keys.shape[2] == 10 for memory in memories)


@torch.no_grad()
def test_what_is_forgotten_cannot_poison_what_follows():
    """A NaN behind the mask has weight zero, and zero times NaN is NaN."""
    model, tokens = model_of(6, 3, T=10), tokens_of(10)
    twin = with_cache(model)
    saved = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.embedding.weight.fill_(torch.nan)
    assert twin(tokens).isnan().all()
    model.load_state_dict(saved)
    forget(twin)
    torch.testing.assert_close(fed(twin, tokens, 4, *(1,) * 6), model(tokens), **EXACT)


# --- a twin is a module like others -----------------------------------------------------


@pytest.mark.parametrize("layers", ["attention,mlp", "kda,mlp,mla,moe"])
@torch.no_grad()
def test_a_copy_goes_on_by_itself(layers):
    model = build("block", n_layers=4, context=10, n_experts=2, layers=layers)
    tokens, other = tokens_of(10), tokens_of(10, seed=1)
    twin = with_cache(model)
    twin(tokens[:, :4])
    copied = copy.deepcopy(twin)
    twin(other[:, 4:])                                  # does not reach the copy
    torch.testing.assert_close(copied(tokens[:, 4:]), model(tokens)[:, 4:], **EXACT)


@pytest.mark.parametrize("what", ["model", "twin"])
@torch.no_grad()
def test_a_cast_in_the_middle_of_a_text_goes_on(what):
    model, tokens = model_of(6, 3, T=10).float(), tokens_of(10)
    twin = with_cache(model)
    twin(tokens[:, :4])
    (model if what == "model" else twin).double()
    logits = twin(tokens[:, 4:])
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, model(tokens)[:, 4:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_mixers_state_does_not_follow_a_cast_and_says_so():
    model = build("block", n_layers=4, context=10, layers="kda,mlp").float()
    twin, tokens = with_cache(model), tokens_of(10)
    twin(tokens[:, :4])
    model.double()
    with pytest.raises(ValueError, match=r"cache is \(torch.float32.*forget\(\) and feed"):
        twin(tokens[:, 4:])
    forget(twin)
    torch.testing.assert_close(twin(tokens), model(tokens), **EXACT)


def test_a_twin_is_made_where_its_model_lies_and_moves_with_it():
    model = build("block", n_layers=4, context=10).to("meta")
    assert with_cache(model).position.start.device.type == "meta"
    twin = with_cache(build("block", n_layers=4, context=10))
    assert twin.to("meta").position.start.device.type == "meta"
    assert twin(tokens_of(4).to("meta")).device.type == "meta"


def test_a_twin_keeps_no_graph():
    twin = with_cache(model_of(6, 3, T=10))             # grad mode is on
    assert not twin(tokens_of(4)).requires_grad
    copy.deepcopy(twin)


def after_a_break(twin, tokens):
    """Logits of a piece whose first try fails in the last mixer."""
    twin(tokens[:, :10])
    last = twin.memories[-1]
    whole, last.forward = last.forward, None
    with pytest.raises(TypeError):
        twin(tokens[:, 10:])
    last.forward = whole
    return twin(tokens[:, 10:])


@pytest.mark.parametrize("layers", ["attention,mlp", "kda,attention"])
@torch.no_grad()
def test_a_piece_that_breaks_off_is_as_if_it_had_not_been(layers):
    """The first mixer has advanced when the last one fails; KDA cannot take that back."""
    model = build("full", n_layers=4, context=16, layers=layers)
    tokens = tokens_of(16)
    right, logits = model(tokens)[:, 10:], after_a_break(with_cache(model), tokens)
    torch.testing.assert_close(logits, right, **EXACT)
    wrong = after_a_break(KeepsAtOnce(with_cache(model)), tokens)
    assert layers == "attention,mlp" or (wrong - right).abs().max() > 1e-3


class KeepsAtOnce(Cached):
    """Mutation: every mixer goes on by itself, before the others have."""

    def __init__(self, twin):
        super().__init__(twin.step, twin.position, twin.memories)
        for memory in self.memories:
            memory.register_forward_hook(lambda memory, *_: memory.keep())
