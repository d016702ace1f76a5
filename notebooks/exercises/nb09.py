"""Checks of notebook 09, Triton kernels. They need neither a GPU nor Triton."""

import torch

from attnres_ref import depth_attention
from exercises import exercise


@exercise("09.1")
def sources_that_no_longer_fit(first_too_many):
    n = first_too_many(2**10, 2**10)
    assert n != 2**9 + 1, "offsets count elements, not bytes"
    assert n not in (2**11, 2**10), (
        "2048 sources of 2^20 elements have offsets up to 2^31 - 1, which still fits"
        if n == 2**11 else "int32 is signed: its largest value is 2^31 - 1"
    )
    assert n != 2**12 + 1, "int32 is signed: its largest value is 2^31 - 1, not 2^32 - 1"
    assert n == 2**11 + 1, f"T = d = 1024: {n} is not the first n with n T d - 1 > 2^31 - 1"
    n = first_too_many(128 * 1024, 7168)
    assert n == 3, f"128K tokens, d = 7168: {n}, not 3; is the division rounded down?"
    n = first_too_many(1, 3)
    assert n == 715827883, f"T = 1, d = 3: {n}; 2^31 is no multiple of 3: mind the rounding"


@exercise("09.2")
def softmax_of_the_first_lanes(masked_softmax):
    def compare(scores, n, message):
        weights = masked_softmax(scores, n)
        expected = torch.cat([scores[:n].softmax(0), torch.zeros(len(scores) - n)])
        assert weights.shape == scores.shape, f"weights have shape {tuple(weights.shape)}"
        assert torch.allclose(weights, expected, atol=1e-6), message

    scores = torch.tensor([1.0, -2.0, 0.5, 2.0, -1.0, 0.0, 0.0, 0.0])
    weights = masked_softmax(scores, 5)
    assert not torch.allclose(weights, scores.softmax(0)), (
        "the padding takes weight: a score of zero is not no source"
    )
    assert not weights[5:].any(), "a padded lane has weight"
    assert abs(weights.sum() - 1) < 1e-6, (
        "the real weights do not sum to one: the padding is still in the denominator"
    )
    compare(scores, 5, "the weights of the first five lanes are not their softmax")
    high = torch.tensor([1000.0, 1001.0, 999.0, 0.0])
    compare(high, 3, "scores near 1000 overflow: subtract the maximum")
    low = torch.tensor([-1000.0, -1001.0, -1002.0, 0.0])
    compare(low, 3, "scores near -1000: everything underflows if the maximum comes from "
                    "the padding")
    compare(torch.tensor([-1e5, 0.0]), 1, "a single source has weight one")
    compare(torch.tensor([3.0, -4.0]), 2, "with no padding this is the usual softmax")


@exercise("09.3")
def mended_query_gradient(query_gradient):
    def relative_error(noise):
        shared = torch.randn(64, 32)
        sources = (shared + noise * torch.randn(5, 64, 32)).bfloat16()
        w, dh = torch.randn(32) / 32**0.5, torch.randn(64, 32)
        wide = w.double().requires_grad_()
        h = depth_attention(wide, list(sources.double()))
        (exact,) = torch.autograd.grad(h, wide, dh.double())
        found = query_gradient(w, sources, dh)
        assert found.shape == exact.shape, f"the gradient has shape {tuple(found.shape)}"
        return ((found - exact).norm() / exact.norm()).item()

    far = relative_error(1.0)
    sources, w = torch.randn(5, 64, 32).bfloat16(), torch.randn(32) / 6
    dh = torch.randn(64, 32)
    alone = query_gradient(w, sources[:1], dh)
    assert alone.abs().max() < 1e-3, (
        "a single source has weight one whatever w is: no gradient. Is delta missing?"
    )
    once, twice = (query_gradient(w, n * sources, dh).norm() for n in (1, 2))
    assert not twice > 3 * once, (
        "sources twice as long give four times the gradient: the keys' norm, r, is missing"
    )
    assert far < 0.1, f"wrong even for sources that are far apart (by {far:.0%})"
    near = relative_error(0.02)
    assert near < 1e-3, (
        f"off by {near:.1%} for sources that are nearly equal: delta still comes from a "
        "rounded h; use sum_j alpha_j dalpha_j in float32"
    )
