"""The operator against an independent evaluation, its gradient, its parts, its errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import jacrev

from attnres_ref import attend_with_stats, depth_attention
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


@pytest.mark.parametrize("dtype, rtol, atol", [
    (torch.float64, 0, 1e-12), (torch.float32, 2e-6, 2e-6),
])
@settings(max_examples=60, deadline=None)
@given(**SIZES)
def test_equals_the_equations(dtype, rtol, atol, seed, n, d, batch):
    query, sources, weight = draw(seed, n, d, batch, dtype)
    out = depth_attention(query, sources, weight, eps=1e-5)
    assert out.dtype == dtype and out.shape == sources[0].shape
    expected = by_hand(query, sources, weight, 1e-5)
    torch.testing.assert_close(out.double(), expected, rtol=rtol, atol=atol)


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
def test_both_derivatives_for_query_norm_weight_and_every_source(n):
    query, sources, weight = draw(1, n, 5)
    inputs = [x.requires_grad_() for x in (query, weight, *sources)]

    def read(query, weight, *sources):
        return depth_attention(query, sources, weight, return_weights=True)

    assert torch.autograd.gradcheck(read, inputs)
    assert torch.autograd.gradgradcheck(read, inputs)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_torch_func_differentiates_it_twice():
    query, sources, _ = draw(3, 3, 8, batch=(5, 2))
    loss = lambda read: lambda query: read(query, sources).square().sum()
    hessian = jacrev(jacrev(loss(depth_attention)))(query)
    exact = torch.autograd.functional.hessian(loss(stacked), query)
    torch.testing.assert_close(hessian, exact, rtol=1e-4, atol=1e-4)    # eps differs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_and_mixes_in_float32(dtype):
    """Nor is the product of query and norm weight rounded."""
    query, sources, weight = draw(4, 5, 64, dtype=dtype)
    wide = query.float(), weight.float()
    expected = depth_attention(wide[0], [v.float() for v in sources], wide[1])
    for q, w in ((query, weight), wide):
        mixed, weights = depth_attention(q, sources, w, return_weights=True)
        assert mixed.dtype == dtype and weights.dtype == torch.float32
        assert torch.equal(mixed, expected.to(dtype))
        o, m, l = attend_with_stats(q[None], sources, w[None])
        torch.testing.assert_close((o / l.unsqueeze(-1))[0], expected)


@pytest.mark.parametrize("batch", [(2, 3), ()])
def test_gradients_equal_autograd_of_the_stacked_form(batch):
    gradients = []
    for read in (depth_attention, stacked):
        query, sources, weight = draw(2, 6, 16, batch)
        inputs = [x.requires_grad_() for x in (query, weight, *sources)]
        loss = read(query, sources, weight).sin().sum()
        gradients.append(torch.autograd.grad(loss, inputs))
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


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


def test_stats_of_several_queries_equal_the_reads_one_by_one():
    _, sources, _ = draw(7, 4, 8)
    queries, weights = torch.randn(3, 8).double(), 1 + torch.randn(3, 8).double()
    o, m, l = attend_with_stats(queries, sources, weights)
    assert o.shape == (3, 2, 3, 8) and m.shape == l.shape == (3, 2, 3)
    for s in range(3):
        read = depth_attention(queries[s], sources, weights[s])
        torch.testing.assert_close(o[s] / l[s].unsqueeze(-1), read)


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
