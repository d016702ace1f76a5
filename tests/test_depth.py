"""The operator against an independent evaluation, its gradient, its parts, its errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import grad, jacrev, vmap

from attnres_ref import attend_with_stats, depth_attention, merge
from attnres_ref.depth import stacked_depth_attention as stacked
from attnres_ref.study.probes import saved_bytes


def by_hand(query, sources, norm_weight, eps):
    """Eq. 2-4 one token at a time, in Python's own floats."""
    shape, d = sources[0].shape, sources[0].shape[-1]
    rows = [source.double().reshape(-1, d).tolist() for source in sources]
    query, norm_weight = query.double().tolist(), norm_weight.double().tolist()
    mixed = []
    for token in zip(*rows):                     # n lists of d numbers
        scores = []
        for v in token:
            rms = math.sqrt(math.fsum(x * x for x in v) / d + eps)
            scores.append(
                math.fsum(w * g * x / rms for w, g, x in zip(query, norm_weight, v))
            )
        powers = [math.exp(score - max(scores)) for score in scores]
        total = math.fsum(powers)
        mixed.append(
            [math.fsum(p / total * v[j] for p, v in zip(powers, token)) for j in range(d)]
        )
    return torch.tensor(mixed, dtype=torch.float64).reshape(shape)


def draw(seed, n, d, batch=(2, 3), dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    sources = [(scale * normal(*batch, d)).to(dtype) for _ in range(n)]
    return normal(d).to(dtype), sources, (1 + 0.3 * normal(d)).to(dtype)


SIZES = dict(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    d=st.sampled_from([1, 2, 7, 16]),
    batch=st.sampled_from([(), (1,), (2, 3), (0, 2)]),
)


@settings(max_examples=60, deadline=None)
@given(**SIZES)
def test_equals_the_equations_in_float64(seed, n, d, batch):
    query, sources, weight = draw(seed, n, d, batch)
    out = depth_attention(query, sources, weight, eps=1e-5)
    assert out.dtype == torch.float64 and out.shape == sources[0].shape
    torch.testing.assert_close(
        out, by_hand(query, sources, weight, 1e-5), rtol=0, atol=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(**SIZES)
def test_equals_the_equations_in_float32(seed, n, d, batch):
    query, sources, weight = draw(seed, n, d, batch, torch.float32)
    out = depth_attention(query, sources, weight)
    expected = by_hand(query, sources, weight, 1e-5)
    torch.testing.assert_close(out.double(), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_and_mixes_in_float32(dtype):
    query, sources, weight = draw(0, 5, 64, dtype=dtype)
    expected = depth_attention(query.float(), [v.float() for v in sources], weight.float())
    mixed, weights = depth_attention(
        query.float(), sources, weight.float(), return_weights=True
    )
    assert mixed.dtype == dtype and weights.dtype == torch.float32
    torch.testing.assert_close(mixed, expected.to(dtype), rtol=0, atol=0)


def test_autocast_does_not_lower_the_scores():
    query, sources, weight = draw(0, 5, 64, dtype=torch.bfloat16)
    query, weight = query.float(), weight.float()

    def reads():
        _, weights = depth_attention(query, sources, weight, return_weights=True)
        return weights, *attend_with_stats(query[None], sources, weight[None])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = reads()
    assert all(torch.equal(a, b) for a, b in zip(inside, reads()))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_gradcheck_for_query_norm_weight_and_every_source(n):
    query, sources, weight = draw(1, n, 5)
    inputs = [x.requires_grad_() for x in (query, weight, *sources)]

    def read(query, weight, *sources):
        return depth_attention(query, sources, weight, return_weights=True)

    assert torch.autograd.gradcheck(read, inputs)


def test_a_second_derivative_is_right():
    query, sources, weight = draw(1, 3, 4, batch=(2,))
    inputs = [x.requires_grad_() for x in (query, weight, *sources)]

    def read(query, weight, *sources):
        return depth_attention(query, sources, weight, return_weights=True)

    assert torch.autograd.gradgradcheck(read, inputs)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_torch_func_differentiates_and_maps_it():
    query, sources, _ = draw(3, 3, 8, batch=(5, 2))

    def loss(query, *sources):
        return depth_attention(query, sources).square().sum()

    whole = grad(loss)(query, *sources)
    each = vmap(grad(loss), (None, 0, 0, 0))(query, *sources)           # 5 samples
    torch.testing.assert_close(each.sum(0), whole)
    hessian = jacrev(jacrev(loss))(query, *sources)
    exact = torch.autograd.functional.hessian(
        lambda query: stacked(query, sources).square().sum(), query
    )
    torch.testing.assert_close(hessian, exact, rtol=1e-4, atol=1e-4)    # eps differs


def test_the_product_of_query_and_norm_weight_is_not_rounded():
    query, sources, weight = draw(4, 3, 64, dtype=torch.bfloat16)
    wide = depth_attention(query.float(), [v.float() for v in sources], weight.float())
    assert torch.equal(depth_attention(query, sources, weight), wide.bfloat16())
    o, m, l = attend_with_stats(query[None], sources, weight[None])
    torch.testing.assert_close((o / l.unsqueeze(-1))[0], wide)


def test_gradients_equal_autograd_of_the_stacked_form():
    gradients = []
    for read in (depth_attention, stacked):
        query, sources, weight = draw(2, 6, 16)
        inputs = [x.requires_grad_() for x in (query, weight, *sources)]
        loss = read(query, sources, weight).sin().sum()
        gradients.append(torch.autograd.grad(loss, inputs))
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_sources_of_one_token_without_leading_axes_have_gradients():
    query, sources, weight = draw(2, 3, 16, batch=())
    flat = [source.requires_grad_() for source in sources]
    query.requires_grad_()
    h = depth_attention(query, flat, weight)
    ours = torch.autograd.grad(h.sum(), [query, *flat])
    theirs = torch.autograd.grad(stacked(query, flat, weight).sum(), [query, *flat])
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_one_source_is_returned_and_its_query_learns_nothing():
    query, (source,), weight = draw(3, 1, 8)
    query.requires_grad_()
    out = depth_attention(query, [source], weight)
    out.square().sum().backward()
    assert torch.equal(out, source)
    assert torch.equal(query.grad, torch.zeros(8, dtype=torch.float64))


def test_equal_sources_share_the_weight():
    query, (source,), weight = draw(4, 1, 8)
    out, weights = depth_attention(query, [source] * 5, weight, return_weights=True)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.2), rtol=1e-14, atol=0)
    torch.testing.assert_close(out, source, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1e4, 1e-8, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_magnitudes_stay_finite(scale, dtype):
    query, sources, weight = draw(5, 4, 16, dtype=dtype, scale=scale)
    inputs = [x.requires_grad_() for x in (1e4 * query, weight, *sources)]
    out, weights = depth_attention(inputs[0], sources, weight, return_weights=True)
    gradients = torch.autograd.grad(out.sum(), inputs)
    assert all(torch.isfinite(x).all() for x in (out, weights, *gradients))
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


@settings(max_examples=30, deadline=None)
@given(**SIZES)
def test_weights_are_a_distribution_over_the_sources(seed, n, d, batch):
    query, sources, weight = draw(seed, n, d, batch)
    out, weights = depth_attention(query, sources, weight, return_weights=True)
    assert weights.shape == (n, *batch) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(batch, dtype=torch.float64))
    remixed = sum(w.unsqueeze(-1) * v for w, v in zip(weights, sources))
    torch.testing.assert_close(out, remixed)


def test_backward_keeps_references_not_copies():
    query, sources, weight = draw(6, 9, 64, batch=(4, 32), dtype=torch.float32)
    sources = [nn.Parameter(v) for v in sources]
    kept = saved_bytes(
        nn.ParameterList(sources), lambda: depth_attention(query, sources, weight)
    )
    three_numbers = 3 * 9 * (4 * 32) * 4         # per source and token, float32
    vectors = 2 * 64 * 4                         # the folded query
    assert 0 < kept <= three_numbers + vectors


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(2, 9), cut=st.integers(1, 8),
    scale=st.sampled_from([1e-8, 1.0, 1e4]), swap=st.booleans(),
)
def test_merge_of_any_split_is_the_whole(seed, n, cut, scale, swap):
    query, sources, weight = draw(seed, n, 8, scale=scale)
    cut = min(cut, n - 1)
    queries, weights = (30 * query)[None], weight[None]       # scores far from zero
    halves = [
        attend_with_stats(queries, part, weights) for part in (sources[:cut], sources[cut:])
    ]
    o, m, l = merge(*(halves[::-1] if swap else halves))
    whole = depth_attention(queries[0], sources, weight)
    torch.testing.assert_close(
        (o / l.unsqueeze(-1))[0], whole, rtol=1e-10, atol=1e-12 * scale
    )


def test_stats_of_several_queries_equal_the_reads_one_by_one():
    _, sources, _ = draw(7, 4, 8)
    queries, weights = torch.randn(3, 8).double(), 1 + torch.randn(3, 8).double()
    o, m, l = attend_with_stats(queries, sources, weights)
    assert o.shape == (3, 2, 3, 8) and m.shape == l.shape == (3, 2, 3)
    for s in range(3):
        read = depth_attention(queries[s], sources, weights[s])
        torch.testing.assert_close(o[s] / l[s].unsqueeze(-1), read)


@pytest.mark.parametrize("order", [1, -1])
def test_merge_brings_both_to_the_larger_maximum(order):
    """Float32 has no exp(1000): without the rescale by the maximum this overflows."""
    low = (torch.full((1, 1), 2.0), torch.tensor([0.0]), torch.ones(1))
    high = (torch.full((1, 1), 3.0), torch.tensor([1000.0]), torch.ones(1))
    o, m, l = merge(*(low, high)[::order])
    assert m.item() == 1000 and (o / l).item() == 3


GOOD = torch.zeros(2, 3, 4)
BAD_INPUTS = {
    "sources is empty": (torch.zeros(4), [], None),
    r"sources\[1\] has shape": (torch.zeros(4), [GOOD, GOOD[:1]], None),
    r"sources\[1\] has dtype": (torch.zeros(4), [GOOD, GOOD.double()], None),
    r"sources\[1\] has device": (torch.zeros(4), [GOOD, GOOD.to("meta")], None),
    r"sources\[0\] has shape .* torch.int64": (torch.zeros(4), [GOOD.long()], None),
    r"query has shape \[5\]": (torch.zeros(5), [GOOD], None),
    r"query has shape \[1, 4\]": (torch.zeros(1, 4), [GOOD], None),
    "query is on meta": (torch.zeros(4, device="meta"), [GOOD], None),
    r"norm_weight has shape \[3\]": (torch.zeros(4), [GOOD], torch.ones(3)),
    "sources is a Tensor: pass a list": (torch.zeros(4), GOOD, None),
    "sources is a generator": (torch.zeros(4), (x for x in [GOOD]), None),
    r"sources\[1\] is a NoneType": (torch.zeros(4), [GOOD, None], None),
    r"sources\[0\] is a ndarray": (torch.zeros(4), [GOOD.numpy()], None),
    "query is a list": ([0.0] * 4, [GOOD], None),
    "query has .* dtype torch.complex64": (torch.zeros(4) * 1j, [GOOD], None),
    "norm_weight has .* dtype torch.int64": (torch.zeros(4), [GOOD], torch.ones(4).long()),
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_bad_input_is_named(message):
    query, sources, weight = BAD_INPUTS[message]
    with pytest.raises(ValueError, match=message):
        depth_attention(query, sources, weight)


@pytest.mark.parametrize("eps", [-1.0, math.nan, math.inf])
def test_an_eps_that_is_none_is_named(eps):
    with pytest.raises(ValueError, match=f"eps is {eps}: it must be a finite number"):
        depth_attention(torch.zeros(4), [GOOD], eps=eps)


def test_bad_input_of_several_queries_is_named():
    with pytest.raises(ValueError, match=r"queries has shape \[4\]"):
        attend_with_stats(torch.zeros(4), [GOOD])
    with pytest.raises(ValueError, match="sources is empty"):
        attend_with_stats(torch.zeros(1, 4), [])
