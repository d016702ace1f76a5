"""Which sources every layer reads, and the identities between the three residuals."""

import pytest
import torch

from attnres_ref import LM, BlockAttnRes, FullAttnRes, LMConfig, depth_attention
from attnres_ref.streams import Depth


def build(residual, seed=0, attend=depth_attention, **size):
    shape = dict(vocab_size=17, d_model=8, n_layers=6, n_heads=2, context=8) | size
    torch.manual_seed(seed)
    return LM(LMConfig(residual=residual, **shape), attend).double()


def tokens(batch=2, length=5, vocab=17):
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(1))


def randomise_queries(model, scale=0.5):
    """Away from the initialisation, yet with no weight near 0 or 1."""
    generator = torch.Generator().manual_seed(2)
    for parameter in (model.stream.queries, model.stream.queries_norm):
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data = scale * noise


def sources_of_eq6(embedding, outputs, block_size, layer):
    """Eq. 6 read literally: b_0, the finished blocks, and the open one if it began."""
    finished = layer // block_size
    blocks = [embedding]
    for n in range(finished):
        blocks.append(sum(outputs[n * block_size : (n + 1) * block_size]))
    if layer % block_size:
        blocks.append(sum(outputs[finished * block_size : layer]))
    return blocks


def reads_and_expectations(model, block_size):
    """(sources each read was given, sources Eq. 6 gives it), over a forward pass."""
    seen, outputs = [], []

    def spy(query, sources, *rest):
        seen.append(list(sources))
        return depth_attention(query, sources, *rest)

    model.stream.attend = spy
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        for layer in model.layers
    ]
    x = tokens()
    with torch.no_grad():
        model(x)
        embedding = model.embedding(x)
    for hook in hooks:
        hook.remove()
    L = model.config.n_layers
    return seen, [sources_of_eq6(embedding, outputs, block_size, l) for l in range(L + 1)]


def mismatches(seen, expected):
    """Reads whose sources differ from Eq. 6 in number, order or value."""
    assert len(seen) == len(expected)
    return [
        layer
        for layer, (got, want) in enumerate(zip(seen, expected))
        if len(got) != len(want) or not all(torch.allclose(a, b) for a, b in zip(got, want))
    ]


@pytest.mark.parametrize("n_layers", range(1, 25))
def test_every_layer_reads_the_sources_of_eq6(n_layers):
    for block_size in range(1, n_layers + 1):
        model = build("block", n_layers=n_layers, block_size=block_size)
        randomise_queries(model)
        assert mismatches(*reads_and_expectations(model, block_size)) == []


class ZeroPartial(BlockAttnRes):
    """Mutation: an empty partial sum is offered as a source."""

    def read(self, state, layer):
        zeros = torch.zeros_like(state.completed[0])
        partial = zeros if state.partial is None else state.partial
        return super().read(Depth(state.completed, partial), layer)


class CumulativeSources(BlockAttnRes):
    """Mutation: sources are running hidden states, not outputs."""

    def write(self, state, layer, output):
        return super().write(state, layer, output + state.sources[-1])


class OffByOne(BlockAttnRes):
    """Mutation: blocks close one layer late."""

    def write(self, state, layer, output):
        return super().write(state, layer - 1, output)


@pytest.mark.parametrize("mutant", [ZeroPartial, CumulativeSources, OffByOne])
def test_mutants_with_other_sources_are_caught(mutant):
    model = build("block", block_size=2)
    model.stream = mutant(6, 8, block_size=2).double()
    assert mismatches(*reads_and_expectations(model, 2))


STREAMS_AT_INIT = [("full", 1)] + [("block", S) for S in (1, 2, 3, 4, 5, 12)]


@pytest.mark.parametrize("residual, block_size", STREAMS_AT_INIT)
@pytest.mark.parametrize("scaled_init", [False, True])
def test_init_oracle(residual, block_size, scaled_init):
    size = dict(n_layers=12, d_model=32, context=16, scaled_init=scaled_init)
    prenorm = build("prenorm", **size)
    model = build(residual, block_size=block_size, seed=1, **size)
    model.load_state_dict(prenorm.state_dict(), strict=False)
    x = tokens(length=16)
    assert (model(x) - prenorm(x)).abs().max() <= 1e-10


class NoFinalRead(FullAttnRes):
    """Mutation: the head sees the last output instead of a read over all of them."""

    def read(self, state, layer):
        last = layer == len(self.queries) - 1
        return state.completed[-1] if last else super().read(state, layer)


def test_init_oracle_fails_without_the_final_read():
    prenorm, model = build("prenorm"), build("full")
    model.stream = NoFinalRead(6, 8).double()
    assert (model(tokens()) - prenorm(tokens())).abs().max() > 1e-2


@pytest.mark.parametrize("residual", ["block", "full"])
def test_a_small_norm_weight_is_felt_in_half_precision(residual):
    """Kept as its distance from one; in bfloat16, 1 + 0.001 is 1."""
    stream = build(residual).bfloat16().stream
    seen = []
    stream.attend = lambda query, sources, norm_weight: seen.append(norm_weight)
    stream.queries_norm.data.fill_(0.001)
    stream.read(Depth((torch.zeros(2, 5, 8),)), 0)
    assert (seen[0] - 1 - 0.001).abs().max() < 1e-5
