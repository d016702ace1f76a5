"""Algorithm 1's schedule: the same reads, exactly; what it moves; what it refuses."""

import copy
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnres_ref.inference.two_phase as module
from attnres_ref import attend_with_stats, depth_attention, merge
from attnres_ref.inference.cache import with_cache
from attnres_ref.inference.io_counts import (
    count_layer_wise,
    count_prenorm,
    count_two_phase,
)
from attnres_ref.inference.two_phase import (
    Read,
    TwoPhase,
    phase_one,
    phase_two,
    two_phase_forward,
)
from attnres_ref.variants import sigmoid_attention
from attnres_ref.views import with_parts
from test_streams import build, randomise_queries


def model_of(L, S, d=8, T=5, seed=0, spread=1.0, **size):
    """A Block model (S = 0: Full) whose scores have a standard deviation of `spread`."""
    residual, block_size = ("full", 1) if S == 0 else ("block", S)
    model = build(
        residual, seed, n_layers=L, block_size=block_size, d_model=d, context=T, **size
    )
    randomise_queries(model, scale=spread * d**-0.5)
    return model


def tokens_of(T, batch=2, seed=1):
    return torch.randint(17, (batch, T), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def difference(model, tokens, stream):
    scheduled = with_parts(model, stream=stream)(tokens)
    return (scheduled - model(tokens)).abs().max().item()


# --- exactness ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, widths, spread, limit", [
    (torch.float64, [4, 8, 20], 1.0, 1e-12), (torch.float32, [32, 64], 0.5, 1e-5),
])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_logits_equal_the_layer_wise_models(dtype, widths, spread, limit, data):
    """In float32 not at width 4 or with sharp queries: there a random model multiplies
    rounding, any rounding, by more than the tolerance (its logits are off by 1e-4)."""
    L, T = data.draw(st.integers(1, 32)), data.draw(st.integers(1, 9))
    S, seed = data.draw(st.integers(0, L)), data.draw(st.integers(0, 10**6))
    group_size = data.draw(st.none() | st.integers(1, L))
    model = model_of(L, S, data.draw(st.sampled_from(widths)), T, seed, spread).to(dtype)
    assert difference(model, tokens_of(T), TwoPhase(model.stream, group_size)) <= limit


@pytest.mark.parametrize("S", [0, 4, 5])
def test_sharp_queries_at_full_depth(S):
    """Scores of 40 and more, where weights are 0 or 1 and a read has one winner."""
    model = model_of(32, S, d=16, spread=10.0)
    assert difference(model, tokens_of(5), TwoPhase(model.stream)) <= 1e-10


def test_half_precision_joins_in_float32():
    model = model_of(8, 4).bfloat16()
    stream = TwoPhase(model.stream)
    state = stream.begin(torch.randn(1, 2, 8, dtype=torch.bfloat16))
    state = stream.write(state, 0, torch.randn(1, 2, 8, dtype=torch.bfloat16))
    assert state.reads[1].mean.dtype == torch.float32
    assert stream.read(state, 0).dtype == stream.read(state, 1).dtype == torch.bfloat16
    torch.testing.assert_close(stream.read(state, 1), stream.stream.read(state.depth, 1))


def test_gradients_are_the_layer_wise_models():
    model, gradients = model_of(6, 3), []
    for run in (
        lambda: model(tokens_of(5)),
        lambda: two_phase_forward(model, tokens_of(5)),
    ):
        model.zero_grad()
        run().sin().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_earlier_states_are_left_alone():
    stream = TwoPhase(model_of(4, 2).stream)
    ones = torch.ones(1, 1, 8, dtype=torch.float64)
    first = stream.begin(ones)
    before = copy.deepcopy(first)
    second = stream.write(first, 0, 2 * ones)
    third = stream.write(second, 1, 3 * ones)
    assert torch.equal(first.reads[1].mean, before.reads[1].mean)
    assert first.depth.partial is None and len(first.depth.completed) == 1
    assert torch.equal(second.depth.partial, 2 * ones)
    assert torch.equal(third.depth.completed[1], 5 * ones)


# --- the same with a mistake in it --------------------------------------------------------


class NoMaximum(TwoPhase):
    """Mutation: phase 1's sums are joined without the rescale by the maximum."""

    def phase_one(self, queries, sources):
        o, m, l = attend_with_stats(queries, sources)
        return [Read(o_i / l_i[..., None], l_i[..., None].log()) for o_i, l_i in zip(o, l)]


class ReadsTooLate(TwoPhase):
    """Mutation: b_n^i for b_n^{i-1}: layer i reads a sum with its own output in it, as
    the printed line 10 says. Stood in for by the sum with the latest output twice."""

    def write(self, state, layer, output):
        new = super().write(state, layer, output)
        if new.depth.partial is None:
            return new
        return new._replace(depth=new.depth._replace(partial=new.depth.partial + output))


def test_a_model_that_reads_by_another_operator_is_not_scheduled():
    model = build("full", attend=sigmoid_attention)
    with pytest.raises(ValueError, match="attend <function sigmoid_attention.* read by"):
        two_phase_forward(model, tokens_of(5))
    with torch.no_grad():
        assert torch.equal(with_cache(model)(tokens_of(5)), model(tokens_of(5)))


class NoFinalJoin(TwoPhase):
    """Mutation: the final read of a short last block forgets the partial sum."""

    def read(self, state, layer):
        if layer == len(state.queries) - 1:
            return state.reads[layer - state.first].mean
        return super().read(state, layer)


@pytest.mark.parametrize("mutant", [NoMaximum, ReadsTooLate, NoFinalJoin])
def test_mutants_are_caught(mutant):
    model = model_of(11, 4)
    assert difference(model, tokens_of(5), TwoPhase(model.stream)) <= 1e-12
    assert difference(model, tokens_of(5), mutant(model.stream)) > 1e-3


# --- the join is one identity -----------------------------------------------------------


def random_sources(n, scale, seed, d=6):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    return normal(3, d), [scale * normal(2, d) for _ in range(n)]


@st.composite
def partitions(draw):
    """Any split of n sources into non-empty parts, in any order."""
    order = draw(st.permutations(range(draw(st.integers(1, 9)))))
    cuts = draw(st.sets(st.integers(1, max(1, len(order) - 1))))
    edges = [0, *sorted(c for c in cuts if c < len(order)), len(order)]
    return [order[a:b] for a, b in zip(edges, edges[1:])]


@settings(max_examples=60, deadline=None)
@given(
    parts=partitions(), scale=st.sampled_from([1e-8, 1.0, 1e4]),
    sharpness=st.sampled_from([0.0, 1.0, 1e4]), seed=st.integers(0, 10**6),
)
def test_any_split_in_any_order_is_the_whole(parts, scale, sharpness, seed):
    """Merged from part to part, and in two phases: the first part, then all the others."""
    queries, sources = random_sources(sum(map(len, parts)), scale, seed)
    queries = sharpness * queries
    first, *rest = ([sources[i] for i in part] for part in parts)
    o, m, l = reduce(merge, (attend_with_stats(queries, part) for part in (first, *rest)))
    later = sum(rest, [])
    for i, read in enumerate(phase_one(queries, first)):
        assert all(torch.isfinite(x).all() for x in (o, m, l, *read))
        h = phase_two(read, queries[i : i + 1], later) if later else read.mean
        expected = depth_attention(queries[i], sources)
        for found in (o[i] / l[i].unsqueeze(-1), h):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * scale)


# --- what is moved --------------------------------------------------------------------


def units(rows, T, batch, d):
    """(layer, phase, reads, writes) in units of d per token, all exact."""
    token = T * batch * d
    assert all(row.reads % token == 0 and row.writes % token == 0 for row in rows)
    return [(row.layer, row.phase, row.reads // token, row.writes // token) for row in rows]


def block_formula(L, S):
    """For each read: a group's first layer does phase 1 over its n blocks, a later one
    reads the partial sum as key and value and phase 1's result."""
    return [
        (l, 1, 2 * (1 + l // S), min(S, L + 1 - l)) if l % S == 0 else (l, 2, 3, 1)
        for l in range(L + 1)
    ]


def full_formula(L, G):
    return [
        (l, 1, 2 * (1 + l), min(G, L + 1 - l)) if l % G == 0 else (l, 2, 2 * (l % G) + 1, 1)
        for l in range(L + 1)
    ]


COUNTED = [(16, 4), (16, 8), (16, 2), (32, 4), (24, 6), (12, 12), (11, 4), (5, 3)]


@pytest.mark.parametrize("L, S", COUNTED)
def test_counts_equal_the_formulas_layer_by_layer(L, S):
    x = tokens_of(3)
    shape = dict(T=3, batch=2, d=8)
    block, full = model_of(L, S, T=3), model_of(L, 0, T=3)
    assert units(count_two_phase(block, x), **shape) == block_formula(L, S)
    assert units(count_two_phase(full, x, S), **shape) == full_formula(L, S)
    assert units(count_layer_wise(full, x), **shape) == [
        (l, 0, 2 * (l + 1), 1) for l in range(L + 1)
    ]
    assert units(count_layer_wise(block, x), **shape) == [
        (l, 0, 2 * (1 + l // S + (l % S > 0)), 1) for l in range(L + 1)
    ]
    prenorm = build("prenorm", n_layers=L)
    assert units(count_prenorm(prenorm, x), **shape) == [(l, 0, 2, 1) for l in range(L)]


@pytest.mark.parametrize("L, S", [pair for pair in COUNTED if pair[0] % pair[1] == 0])
def test_totals_against_table_1_and_appendix_b(L, S):
    x, N = tokens_of(3), L // S
    token = 3 * 2 * 8

    def layers_only(rows):                         # Table 1 leaves out the final read
        return [row for row in rows if row.layer < L]

    full = layers_only(count_two_phase(model_of(L, 0, T=3), x, S))
    reads = sum(row.reads for row in full) // token
    # Appendix B, plus the embedding as key and value for every group, plus phase 1's
    # results read back by every layer but the first of its group.
    assert reads == L * (N - 1) + N * S * (S - 1) + 2 * N + (L - N)
    assert sum(row.writes for row in full) // token == 2 * L - N
    # Table 1 prints S + N for the sum of both.
    assert reads + sum(row.writes for row in full) // token == L * (S + N + 1)
    block = layers_only(count_two_phase(model_of(L, S, T=3), x))
    # Table 1 prints N / S + 5 for each layer: L of them are N N + 5 L.
    moved = sum(row.reads + row.writes for row in block)
    assert moved == token * (N * N + 5 * L - 3 * N)


# --- errors -----------------------------------------------------------------------------


def test_a_stream_that_reads_in_another_way_is_refused():
    class Mean(module.BlockAttnRes):
        def read(self, state, layer):
            return sum(state.sources) / len(state.sources)

    with pytest.raises(ValueError, match="stream is Mean"):
        TwoPhase(Mean(4, 8, 2))
    others = dict(prenorm="PreNorm", sigmoid="OtherAttnRes", window="SlidingWindow")
    for residual, name in others.items():
        with pytest.raises(ValueError, match=f"stream is {name}"):
            two_phase_forward(build(residual), tokens_of(5))


def test_groups_larger_than_the_model_are_named():
    with pytest.raises(ValueError, match="group_size is 7.*n_layers = 6"):
        two_phase_forward(model_of(6, 0), tokens_of(5), 7)


@pytest.mark.parametrize("L, S, expected", [(7, 3, 3), (7, 0, 3), (16, 0, 4), (1, 0, 1)])
def test_groups_are_blocks_or_about_the_root_of_the_depth(L, S, expected):
    assert TwoPhase(model_of(L, S).stream).group_size == expected


def test_only_prenorm_is_counted_as_prenorm():
    with pytest.raises(ValueError, match="stream BlockAttnRes: pass PreNorm"):
        count_prenorm(model_of(4, 2), tokens_of(3))
