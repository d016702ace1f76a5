"""Checks of notebook 09, Triton kernels. They need no GPU; 09.4 needs Triton."""

from contextlib import nullcontext

import numpy as np
import torch

from attnres_kernels.count import counting
from attnres_kernels.interpret import MISSING, available, interpreting
from attnres_ref import depth_attention
from exercises import arena, exercise


@exercise("09.1")
def sources_that_no_longer_fit(first_too_many):
    n = first_too_many(2**10, 2**10)
    assert n != 2**9 + 1, "offsets count elements, not bytes"
    assert n not in (2**11, 2**10), (
        "2048 sources of 2^20 elements have offsets up to 2^31 - 1, which still fits"
        if n == 2**11 else "int32 is signed: its largest value is 2^31 - 1"
    )
    assert n != 2**12 + 1, "int32 is signed: its largest value is 2^31 - 1, not 2^32 - 1"
    assert n == 2**11 + 1, f"T = d = 1024: {n} is not the first n with an offset too large"
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
    compare(high, 3, "scores near 1000 overflow: no exponent may be above zero")
    low = torch.tensor([-1000.0, -1001.0, -1002.0, 0.0])
    compare(low, 3, "scores near -1000: everything underflows if the maximum comes from "
                    "the padding")
    compare(torch.tensor([-1e5, 0.0]), 1, "a single source has weight one")
    compare(torch.tensor([3.0, -4.0]), 2, "with no padding this is the usual softmax")


def gradient_of_w(rounded=False, below=True, eps=1e-5, padded=False, narrow=False):
    """A `gradient` for 09.3, right as it is and broken by its arguments. rounded: delta
    comes from a rounded h; below: no exponent is above zero; padded: rows of zeros are
    added up to a power of two; narrow: the tokens are added up in bf16."""

    def gradient(w, sources, dh):
        v = sources.float()
        if padded:
            v = torch.cat([v, v.new_zeros(power_of_two(len(v)) - len(v), *v.shape[1:])])
        r = (v.square().mean(-1) + eps).rsqrt()
        s = (v @ w) * r
        p = (s - s.amax(0) if below else s).exp()
        alpha = p / p.sum(0)
        dalpha = ((v - v[0]) * dh).sum(-1)
        delta = (alpha * dalpha).sum(0)
        if rounded:
            h = (alpha.unsqueeze(-1) * v).sum(0).to(sources.dtype)
            dalpha, delta = (v * dh).sum(-1), (h * dh).sum(-1)
        rows = ((alpha * (dalpha - delta) * r).unsqueeze(-1) * v).sum(0)       # [T, d]
        if not narrow:
            return rows.sum(0)
        total = torch.zeros(len(w)).bfloat16()
        for row in rows.bfloat16():
            total += row
        return total.float()

    return gradient


def gradient_by_autograd(w, sources, dh):
    w = w.detach().requires_grad_()
    h = depth_attention(w, list(sources.float()))
    return torch.autograd.grad(h, w, dh)[0]


BROKEN = {
    "that takes delta from a rounded h": gradient_of_w(rounded=True),
    "whose exponents may be above zero": gradient_of_w(below=False),
    "that leaves eps out of the rms": gradient_of_w(eps=0.0),
    "whose padded rows take weight": gradient_of_w(padded=True),
    "that adds the tokens up in bf16": gradient_of_w(narrow=True),
}


@exercise("09.3")
def test_of_a_gradient(refuses):
    right = {"short one": gradient_of_w(), "reference's own": gradient_by_autograd}
    arena.assert_refuses(
        refuses, "gradient", right, BROKEN, ": where the exact gradient is nearly zero, "
        "any rounding is a large share of it",
    )


@exercise("09.4")
def backward_in_one_read(one_read):
    if not available():
        raise NotImplementedError(MISSING)
    assert hasattr(one_read, "run"), "a plain function, no kernel: @triton.jit is missing"
    if not interpreting():
        print("09.4, compiled for a GPU: values are checked, loads cannot be counted")

    def run(v, w, dh, before):
        """What the kernel has added to `before`, its rows of dw, and what it moved."""
        n, T, d = v.shape
        blocks = dict(D=d, BLOCK_N=power_of_two(n), BLOCK_D=power_of_two(d))
        inputs = dict(v=v, w=w, dh=dh)
        given = dict(**inputs, g=before, dw=torch.full((T, d), torch.nan))
        given = {name: with_room_behind(tensor) for name, tensor in given.items()}
        try:
            count = counting(**given) if interpreting() else nullcontext()
            with count as moved, np.errstate(all="ignore"):       # a GPU does not warn
                one_read[(T,)](*given.values(), n, T, 1e-5, **blocks)
        except Exception as error:
            # The interpreter's own error hides the reader's line.
            raise error.__cause__ or error from None
        g, dw = given["g"].cpu(), given["dw"].cpu()
        idle = moved is None or moved.loaded.total() + moved.outside == 0
        if idle and torch.equal(g, before) and dw.isnan().all():
            raise NotImplementedError              # the stub
        for name, tensor in inputs.items():
            assert torch.equal(given[name].cpu(), tensor), (
                f"{name} is an input, and your kernel writes to it: the gradient goes to g"
            )
        return g, dw, moved

    def compare(v, w, dh, message, nan=None, tolerance=0.02):
        (n, T, d), before = v.shape, torch.randn(v.shape)
        g, dw, moved = run(v, w, dh, before)
        if moved is not None and moved.outside:
            padded = power_of_two(n) > n or power_of_two(d) > d
            raise AssertionError(
                f"d = {d}, n = {n}: {moved.outside} elements beyond the tensors: " + (
                    "a lane from D on, or a row from n on, is not masked" if padded else
                    "how many elements lie between a source and the next?"
                )
            )
        assert not torch.equal(g, before), "g is as it was: add dv to it, and store the sum"
        missing = dw.isnan().all(1).nonzero().flatten().tolist()
        assert not 0 < len(missing) < T, (
            f"T = {T}: no dw is stored for the tokens {missing}: each has a row"
        )
        dw = dw.sum(0)
        dv, exact = exact_gradients(v, w, dh)
        assert not (g.isnan().any() or dw.isnan().any()), nan or message
        assert not close(g, dv, tolerance), "g holds dv alone: add to what is there"
        right = close(g - before, dv, tolerance)
        for term, part in terms(v, w, dh).items():
            assert right or not close(g - before, dv - part, tolerance), (
                f"g lacks a term, {term}"
            )
            assert right or not close(g - before, dv - 2 * part, tolerance), (
                f"g has a term with the wrong sign: dv holds {term}"
            )
        assert right, f"g: {message}"
        assert close(dw, exact, tolerance), f"dw: {message}"
        assert not any(torch.equal(g, g.to(dtype).float())
                       for dtype in (torch.float16, torch.bfloat16)), (
            "g holds numbers of half precision: keep them in float32 up to the store"
        )
        return moved

    w, dh, full = torch.randn(16) / 4, torch.randn(1, 16), torch.randn(4, 1, 16)
    dw = run(full, w, dh, torch.zeros(4, 1, 16))[1]
    assert not dw.isnan().all(), "dw is not stored: a row [d] for each token"
    compare(full, w, dh, "wrong without any padding, for n = 4, T = 1 and d = 16")
    g = run(full, 250 * full[0, 0], dh, torch.zeros(4, 1, 16))[0]
    assert not g.isnan().any(), "scores near 1000 overflow: no exponent may be above zero"
    compare(
        torch.randn(4, 3, 16), w, torch.randn(3, 16),
        "right for one token, wrong for T = 3: where does the next source begin?",
    )
    nan = (
        "NaN where there is padding: a masked load without `other` is undefined, and "
        "without eps the rms of a row of zeros is 0"
    )
    compare(
        torch.randn(4, 1, 12), w[:12], torch.randn(1, 12),
        "right for d = 16, wrong for d = 12: a mean over d divides by D, not BLOCK_D", nan,
    )
    many = torch.randn(5, 3, 100), torch.randn(100) / 10, torch.randn(3, 100)
    moved = compare(*many, "wrong for n = 5 and d = 100: do padded rows take weight?", nan)
    half = (300 * torch.randn(4, 2, 16)).half()
    compare(half, w, torch.randn(2, 16), "squares of half-precision sources overflow: "
            "in which precision are they taken?")
    off = score_gradients_off_by(run)
    assert off < 1e-2, (
        f"off by {off:.0%} for sources that are nearly equal: delta comes from a rounded h"
    )
    assert off < 3e-5, (
        f"off by {off:.0e} for sources that are nearly equal: the digits are lost in "
        "v . dh, whose values are nearly equal, too; only their differences count"
    )
    compare(*many, "right to two digits, not to five: float32 all the way", tolerance=1e-5)
    if moved is None:
        return
    n, T, d = many[0].shape
    for what, counts, floor in (
        ("loads", moved.loaded, dict(v=n, g=n, dh=1, w=1, dw=0)),
        ("stores", moved.stored, dict(v=0, g=n, dh=0, w=0, dw=1)),
    ):
        for name, least in floor.items():
            u = counts[name] / (T * d)
            assert u <= least, (
                f"right, but it {what} {u:g} u of {name}, and {least} u do: keep in "
                "registers what was loaded"
            )


def power_of_two(x):
    return 1 << (x - 1).bit_length()


def with_room_behind(tensor):
    """A copy with memory behind it that belongs to no other tensor."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    longer = torch.zeros(tensor.numel() + 8192, dtype=tensor.dtype, device=place)
    return longer[: tensor.numel()].copy_(tensor.flatten()).view(tensor.shape)


def exact_gradients(v, w, dh):
    leaves = [x.double().requires_grad_() for x in (v, w)]
    h = depth_attention(leaves[1], list(leaves[0]))
    return torch.autograd.grad(h, leaves, dh.double())


def terms(v, w, dh):
    """The terms of dv, each [n, T, d], in float64."""
    v, w, dh = v.double(), w.double(), dh.double()
    r = (v.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    s = (v @ w).unsqueeze(-1) * r
    alpha = s.softmax(0)
    dalpha = (v * dh).sum(-1, keepdim=True)
    ds = alpha * (dalpha - (alpha * dalpha).sum(0))
    return {
        "alpha dh": alpha * dh,
        "ds r w": ds * r * w,
        "-ds s r^2 v / d": -ds * s * r**2 * v / v.shape[-1],
    }


def close(found, exact, tolerance):
    return (found - exact).abs().max() <= tolerance * exact.abs().max()


def score_gradients_off_by(run):
    """Relative error of g . w for nearly equal sources. With dh at right angles to w it is
    the gradient of the scores that remains of g."""
    d = 256
    w, dh = torch.randn(d) / d**0.5, torch.randn(4, d)
    dh -= (dh @ w).unsqueeze(-1) * w / (w @ w)
    v = torch.randn(4, d) + 1e-3 * torch.randn(5, 4, d)
    exact = exact_gradients(v, w, dh)[0] @ w.double()
    found = run(v, w, dh, torch.zeros(v.shape))[0].double() @ w.double()
    return ((found - exact).norm() / exact.norm()).item()
