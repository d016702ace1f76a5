"""Chained reads: the same model and the same gradients, with fewer passes over them."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attnres_ref import LM, LMConfig, train
from attnres_ref.chained import Chained, chained
from attnres_ref.streams import BlockAttnRes, FullAttnRes
from attnres_ref.training import Trainer
from attnres_ref.views import with_attend
from small import MODEL, RECIPE, corpus

TOKENS = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(0))


def model_of(residual, n_layers=6, block_size=4, **more):
    torch.manual_seed(0)
    size = dict(vocab_size=32, d_model=12, n_heads=2, context=8)
    config = LMConfig(residual=residual, n_layers=n_layers, block_size=block_size, **size)
    model = LM(config, **more)
    for parameter in model.stream.parameters():
        torch.nn.init.normal_(parameter, std=0.5)        # away from the plain mean
    return model


def loss_of(model):
    logits = model(TOKENS[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).double(), TOKENS[:, 1:].flatten())


def gradients(model):
    loss = loss_of(model)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("residual, n_layers, block_size", [
    ("full", 1, 1), ("full", 6, 1), ("block", 6, 1), ("block", 6, 4), ("block", 6, 6),
])
def test_a_chained_model_computes_the_same_and_learns_the_same(
    residual, n_layers, block_size
):
    model = model_of(residual, n_layers, block_size).double()
    for ours, exact in zip(gradients(chained(model)), gradients(model), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("residual", ["full", "block"])
def test_every_backward_pass_gives_the_same_bits(residual):
    model = chained(model_of(residual))
    loss, parameters = loss_of(model), list(model.parameters())
    passes = [torch.autograd.grad(loss, parameters, retain_graph=True) for _ in range(2)]
    passes.append(gradients(model)[1:])
    for other in passes[1:]:
        assert all(map(torch.equal, passes[0], other))


@pytest.mark.parametrize("residual", ["full", "block"])
def test_half_precision_under_autocast(residual):
    model = model_of(residual)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = zip(gradients(chained(model)), gradients(model), strict=True)
    for ours, exact in pairs:
        assert (ours - exact).abs().max() <= 0.05 * exact.abs().max()


@pytest.mark.parametrize("residual", ["full", "block"])
def test_it_compiles_into_one_graph(residual):
    model = chained(model_of(residual))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for ours, exact in zip(gradients(compiled), gradients(model), strict=True):
        torch.testing.assert_close(ours, exact)


class Counted(TorchDispatchMode):
    """Tensors as large as a source that the operations inside read or write."""

    passes = 0

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        if not f.is_view:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
            large = {id(x): x for x in leaves if torch.is_tensor(x) and x.numel() == SIZE}
            self.passes += len(large)
        return out


SIZE = 64 * 32                         # T d: no other tensor here has as many elements


def backward_passes(stream, n_layers):
    state = stream.begin(torch.randn(1, 64, 32, requires_grad=True))
    for layer in range(n_layers):      # each layer multiplies: three passes backward
        state = stream.write(state, layer, 0.5 * stream.read(state, layer))
    loss = stream.read(state, n_layers).sum()
    with Counted() as counted:
        loss.backward()
    return counted.passes


def test_it_reads_and_writes_much_less_in_backward():
    stream = FullAttnRes(16, 32)
    ours = backward_passes(Chained(stream), 16)
    assert 1000 < ours < 0.52 * backward_passes(stream, 16)     # 0.59 with sums anew


@pytest.mark.parametrize("n_reads", [0, 1])
@pytest.mark.parametrize("expand", [True, False])
def test_a_loss_may_use_a_source_itself_and_its_gradient_is_left_alone(expand, n_reads):
    stream = BlockAttnRes(6, 12, 2).double()
    torch.nn.init.normal_(stream.queries)
    embedding = torch.randn(2, 3, 12).double().requires_grad_()
    weight = torch.ones(1, dtype=torch.float64).expand(2, 3, 12)
    weight = weight if expand else weight.clone()

    def outcome(stream):
        state, used = stream.begin(embedding), []
        for layer in range(6):
            h = stream.read(state, layer)
            state = stream.write(state, layer, (layer + 1) * h.sin())
            depth = getattr(state, "depth", state)
            used += [depth.completed[-1], depth.completed[0]]
        outputs = [*used, stream.read(state, 6)][: len(used) + n_reads]
        leaves = [embedding, *parameters]
        found = torch.autograd.grad(outputs, leaves, [weight] * len(outputs))
        assert torch.equal(weight, torch.ones(2, 3, 12).double())
        return found

    parameters = list(stream.parameters())
    for ours, exact in zip(outcome(Chained(stream)), outcome(stream), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)


def test_a_gradient_that_a_layer_has_been_given_does_not_change_afterwards():
    stream, seen = Chained(BlockAttnRes(6, 12, 3)), []
    state = stream.begin(torch.randn(2, 3, 12, requires_grad=True))
    for layer in range(6):
        output = stream.read(state, layer).sin()
        output.register_hook(lambda gradient: seen.append((gradient, gradient.clone())))
        state = stream.write(state, layer, output)
    stream.read(state, 6).square().sum().backward()
    assert len(seen) == 6 and all(torch.equal(now, then) for now, then in seen)


def test_a_backward_that_stopped_half_way_leaves_nothing_behind():
    stream = FullAttnRes(6, 12).double()
    torch.nn.init.normal_(stream.queries)
    embedding = torch.randn(2, 3, 12).double().requires_grad_()
    leaves, ones = [embedding, *stream.parameters()], torch.ones(2, 3, 12).double()
    stops, outcomes = [], []

    def stop(gradient):
        if stops:
            raise stops.pop()

    for reads in (Chained(stream), stream):
        state = reads.begin(embedding)
        for layer in range(6):
            output = (layer + 1) * reads.read(state, layer).sin()
            if layer == 3:
                output.register_hook(stop)
            state = reads.write(state, layer, output)
        used = getattr(state, "depth", state).completed[0]
        outputs = [reads.read(state, 6), used]
        stops.append(InterruptedError())
        with pytest.raises(InterruptedError):
            torch.autograd.grad(outputs, leaves, [ones, ones], retain_graph=True)
        outcomes.append(torch.autograd.grad(outputs, leaves, [ones, ones]))
        assert torch.equal(ones, torch.ones_like(ones))
    for ours, exact in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)


def test_a_state_copies_no_source_and_backward_leaves_no_sum_in_it():
    stream = Chained(FullAttnRes(6, 12))
    embedding = torch.randn(2, 3, 12, requires_grad=True)
    state = stream.begin(embedding)
    for layer in range(6):
        state = stream.write(state, layer, stream.read(state, layer).sin())
    assert state.depth.completed[0].data_ptr() == embedding.data_ptr()
    stream.read(state, 6).sum().backward()
    assert state.sums == {}


@pytest.mark.parametrize("residual", ["full", "block"])
def test_no_tokens(residual):
    model = model_of(residual)
    logits = chained(model)(TOKENS[:, :0])
    logits.sum().backward()
    assert logits.shape == (2, 0, 32) and not model.stream.queries.grad.any()


def test_training_runs_by_a_schedule_and_says_so():
    trainer = Trainer(MODEL, RECIPE, corpus(), schedule=chained, device="cpu")
    assert isinstance(trainer.forward.stream, Chained)
    ours = train(MODEL, RECIPE, corpus(), schedule=chained, device="cpu")
    plain = train(MODEL, RECIPE, corpus(), device="cpu")
    assert ours.result["schedule"] == "chained" and plain.result["schedule"] is None
    assert ours.val_loss == pytest.approx(plain.val_loss, abs=1e-5)
    assert ours.model.state_dict().keys() == plain.model.state_dict().keys()


def test_what_cannot_be_chained_is_named():
    with pytest.raises(ValueError, match="stream is PreNorm, attend None"):
        chained(model_of("prenorm"))
    with pytest.raises(ValueError, match="stream is FullAttnRes, attend .*lambda"):
        chained(with_attend(model_of("full"), lambda *read: read[1][0]))
    stream = Chained(FullAttnRes(2, 4))
    state = stream.begin(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="layer is 1, but this state .* of layer 0"):
        stream.read(state, 1)
