"""Checks of notebook 00."""

import math

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_leaves

from attnres_ref import LM, FullAttnRes, LMConfig, PreNorm
from attnres_ref.views import with_parts
from exercises import exercise


@exercise("00.1")
def mean_stream(MeanStream):
    stream, values = MeanStream(), torch.randn(4, 2, 3, 5)     # an embedding, 3 outputs
    states = [stream.begin(values[0].clone())]
    for layer in range(3):
        first = [stream.read(state, layer).clone() for state in states]
        states.append(stream.write(states[-1], layer, values[layer + 1].clone()))
        for state, before in zip(states, first):
            assert torch.equal(stream.read(state, layer), before), (
                "an old state reads differently after a later write: return a new "
                "state and change none in place"
            )
    reads = [stream.read(state, layer) for layer, state in enumerate(states)]
    assert torch.allclose(reads[0], values[0]), (
        "before any write, the mean of one thing is that thing: the embedding"
    )
    last = {
        "this is the sum, PreNorm: divide by the number of things": values.sum(0),
        "the embedding is missing from the mean: it counts, too": values[1:].mean(0),
        "divided by the number of outputs: the embedding counts, too": values.sum(0) / 3,
    }
    for message, value in last.items():
        assert not torch.allclose(reads[3], value, atol=1e-5), message
    for count, read in enumerate(reads[1:], start=2):
        assert torch.allclose(read, values[:count].mean(0), atol=1e-5), (
            f"after {count - 1} writes the read is not the mean of {count} things: do "
            "later outputs weigh more than earlier ones?"
        )


@exercise("00.2")
def loop(forward):
    layers, embedding = [torch.nn.Linear(6, 6) for _ in range(3)], torch.randn(2, 4, 6)
    full = FullAttnRes(n_layers=3, d_model=6)
    torch.nn.init.normal_(full.queries)
    for stream in (PreNorm(n_layers=3, d_model=6), full):
        answer = forward(stream, layers, embedding)
        assert isinstance(answer, torch.Tensor), (
            "the answer is the stream's state, not a tensor: the final read is missing"
        )
        assert not torch.allclose(answer, run_loop(stream, layers, embedding, add=True)), (
            "h is added twice: the stream's write already keeps what was there"
        )
        expected = run_loop(stream, layers, embedding)
        wrong_reader = run_loop(stream, layers, embedding, final=2)
        before_last = run_loop(stream, layers[:2], embedding, final=2)
        assert not torch.allclose(answer, layers[2](before_last)), (
            "this is the last layer's output alone: end with a read of the state"
        )
        if not torch.allclose(expected, wrong_reader):
            assert not torch.allclose(answer, wrong_reader), (
                "the final read has a number of its own, which no layer's read has had"
            )
        assert torch.allclose(answer, expected, atol=1e-5), (
            f"wrong with a {type(stream).__name__} stream: read, f, write for each layer, "
            "then the final read"
        )


def run_loop(stream, layers, embedding, add=False, final=3):
    state = stream.begin(embedding)
    for layer, f in enumerate(layers):
        h = stream.read(state, layer)
        state = stream.write(state, layer, h + f(h) if add else f(h))
    return stream.read(state, final)


@exercise("00.3")
def bits(bits_per_byte):
    uniform = float(bits_per_byte(torch.zeros(2, 5, 256), torch.randint(256, (2, 5))))
    wrong = {
        "a uniform guess gives 5.545, which are nats: bits are wanted": math.log(256),
        "multiplied by ln 2: a bit is less than a nat, so there are more":
            math.log(256) * math.log(2),
        "summed over the 10 positions: the bits of one byte are wanted": 10 * 8,
    }
    for message, value in wrong.items():
        assert not math.isclose(uniform, value, rel_tol=1e-4), message
    assert math.isclose(uniform, 8, rel_tol=1e-4), (
        f"a uniform guess over 256 bytes costs 8 bits, not {uniform:.3f}"
    )
    logits, targets = 3 * torch.randn(3, 7, 256), torch.randint(256, (3, 7))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item() / math.log(2)
    assert math.isclose(float(bits_per_byte(logits, targets)), expected, rel_tol=1e-4), (
        "right for a uniform guess, wrong for others: look up -log p of the *target*, "
        "and average over all positions"
    )


class LatestStream:
    """Reads the embedding and the latest k outputs: the one that the figure of 00.4 draws
    until the reader's is there."""

    def __init__(self, k):
        self.k = k

    def begin(self, embedding):
        return [embedding]

    def read(self, state, layer):
        return sum(state)

    def write(self, state, layer, output):
        embedding, *latest = state
        first = max(len(latest) + 1 - self.k, 0)
        return [embedding, *[*latest, output][first:]]


@exercise("00.4")
def latest_stream(Answer):
    marks = torch.eye(6).reshape(6, 1, 1, 6).expand(6, 2, 3, 6)    # v_0 and 5 outputs
    for k in (2, 0, 1, 5, 9):
        stream = Answer(k)
        (reads, held), (again, _) = through(stream, marks), through(stream, marks)
        assert all(map(torch.equal, reads, again)), (
            "a second pass through the model reads what the first one has left: keep "
            "nothing on self but k, all else belongs into the state"
        )
        expected, _ = through(LatestStream(k), marks)
        for writes, (read, right) in enumerate(zip(reads, expected)):
            compare_sources(read[0, 0], right[0, 0], f"after {writes} writes with k = {k}")
        assert held <= k + 2, (
            f"with k = {k} and 5 outputs the state holds {held:g} vectors: drop in write "
            "what no later read can see"
        )
    model = LM(LMConfig(d_model=8, n_layers=4, n_heads=2, context=8, residual="prenorm"))
    tokens = torch.randint(256, (2, 8))
    gradients = [
        torch.autograd.grad(
            one(tokens).logsumexp(-1).sum(), [*model.parameters()], materialize_grads=True
        )
        for one in (with_parts(model, stream=Answer(4)), model)
    ]
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(*gradients)), (
        "under a model of 4 layers k = 4 forgets nothing and is PreNorm, but the gradients "
        "are others: is something detached?"
    )


def through(stream, values):
    """What is read before each write and after the last, and how many vectors the largest
    state holds."""
    states = [stream.begin(values[0].clone())]
    reads = [stream.read(states[0], 0).clone()]
    for layer, value in enumerate(values[1:]):
        states.append(stream.write(states[-1], layer, value.clone()))
        reads.append(stream.read(states[-1], layer + 1).clone())
    for layer, (state, read) in enumerate(zip(states, reads)):
        assert torch.equal(stream.read(state, layer), read), (
            "an old state reads differently after a later write or read: return a new "
            "state and change no list or tensor in place"
        )
    tensors = [[x for x in tree_leaves(s) if isinstance(x, torch.Tensor)] for s in states]
    return reads, max(sum(x.numel() for x in kept) for kept in tensors) / values[0].numel()


def compare_sources(read, right, when):
    found, wanted = ({i for i, w in enumerate(x.tolist()) if w} for x in (read, right))
    assert found or not wanted, f"{when} the read is zero: the embedding is always in it"
    assert 0 in found, f"{when} the embedding is gone: forget outputs alone"
    more, less = sorted(found - wanted), sorted(wanted - found)
    assert not (more and wanted == {0}), (
        f"{when} the read has outputs in it: what does your slice keep when k is 0?"
    )
    assert not (more and less), (
        f"{when} the read has v_{more[0]}, which is too old, and not v_{less[0]}: which "
        "end of the list do you cut?"
    )
    assert not more, f"{when} the read still has v_{more[0]}: older than the latest k"
    assert not less, f"{when} v_{less[0]} is missing from the read: cut too early?"
    assert torch.allclose(read, right), (
        f"{when} the read has the right sources, but not each with weight one: add them up"
    )
