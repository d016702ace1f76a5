"""Checks of notebook 00."""

import math

import torch
import torch.nn.functional as F

from attnres_ref import FullAttnRes, PreNorm
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
