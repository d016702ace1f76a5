"""Checks of notebook 02, Full AttnRes."""

import math

import torch
import torch.nn.functional as F

from attnres_ref import depth_attention
from attnres_ref.depth import stacked_depth_attention
from attnres_ref.plots.schematic import TOKEN
from exercises import arena, exercise, mutants


def example(n=5, scale=1.0):
    """A query [8] and n sources [2, 3, 8] of unequal length."""
    sources = [scale * (1 + i) * torch.randn(2, 3, 8) for i in range(n)]
    return torch.randn(8), sources


@exercise("02.1")
def query_for_the_loud_source(my_query):
    query = torch.as_tensor(my_query, dtype=torch.float32)
    assert query.shape == (4,), f"a query has four numbers, yours {tuple(query.shape)}"
    assert query.abs().max() <= 3, (
        "an entry lies outside -3 to 3: do not turn the third channel up, turn the "
        "rivals down"
    )
    sources = torch.tensor(TOKEN[:8], dtype=torch.float32)
    _, weights = depth_attention(query, list(sources), return_weights=True)
    raw = (sources @ query).softmax(0)
    found = f"v_4 has a weight of {weights[4]:.2f}"
    assert weights[4] > 0.9 or raw[4] <= 0.9, (
        f"{found} (with raw keys it would be {raw[4]:.2f}: normalise the key of v_4 first)"
    )
    rivals = weights.clone()
    rivals[4] = 0
    rival = rivals.argmax().item()
    assert weights[4] > 0.9, (
        f"{found}, and the next is v_{rival} with {rivals[rival]:.2f}: which channels of "
        "its key does your query like?"
    )


def shares(query, sources, factor=1.0):
    """Keys and weights [n, ...] as in Eq. 2-4, the scores times `factor`."""
    keys = torch.stack([F.rms_norm(v, v.shape[-1:], None, 1e-5) for v in sources])
    return keys, (factor * (keys @ query)).softmax(0)


def colleagues_read(query, sources, factor):
    keys, weights = shares(query, sources, factor)
    return torch.einsum("n...,n...d->...d", weights, keys)


@exercise("02.2")
def a_read_seen_from_outside(colleague):
    token = list(torch.tensor(TOKEN[:5], dtype=torch.float32))
    zeros, third = torch.zeros(4), torch.tensor([0.0, 0, 1, 0])
    mean, keen = colleague(zeros, token), colleague(third, token)
    assert not torch.allclose(mean, depth_attention(zeros, token), atol=1e-2), (
        "for the query of zeros you return the mean of the sources: the colleague's third "
        "channel is smaller, so something else is averaged"
    )
    assert torch.allclose(mean, colleagues_read(zeros, token, 1), atol=1e-2), (
        "the query of zeros does not give the first row of the table"
    )
    assert not torch.allclose(keen, colleagues_read(third, token, 1), atol=1e-2), (
        "the first row of the table is right; in the second your weights are too uneven: "
        "what has become of the scores?"
    )
    assert torch.allclose(keen, colleagues_read(third, token, 0.5), atol=1e-2), (
        "the first row of the table is right, the second is not"
    )
    query, sources = example()
    found = colleague(query, sources)
    assert found.shape == sources[0].shape, (
        f"of sources [2, 3, 8] you make {tuple(found.shape)}: is the softmax over the "
        "sources, and the sum, too?"
    )
    assert not torch.allclose(found, colleagues_read(query, sources, 0.5), atol=1e-3), (
        "both rows are right, and with eight channels instead of four the read is not: "
        "the factor of the scores depends on their number"
    )
    expected = colleagues_read(query, sources, 1 / math.sqrt(8))
    assert torch.allclose(found, expected, atol=1e-3), (
        "both rows are right, and a read of several tokens is not: over which axis does "
        "the softmax run?"
    )


@exercise("02.3")
def kills_the_mutants(my_tests):
    arena.assert_none_survives(arena.with_mine(arena.GIVEN, my_tests), mutants.FULL)


@exercise("02.4")
def mended(mended_read):
    query, sources = example(scale=0.5)
    later = [torch.cat([v[:, :1], 3 * v[:, 1:].flip(-1)], dim=1) for v in sources]
    first = [mended_read(query, s)[:, 0] for s in (sources, later)]
    assert torch.allclose(*first, atol=1e-5), (
        "token 0 changes with later tokens: the softmax still runs over the tokens"
    )
    shifted = [v + 2 for v in sources]
    raw = (torch.stack(shifted) @ query).softmax(0)
    as_raw = sum(w.unsqueeze(-1) * v for w, v in zip(raw, shifted))
    expected = depth_attention(query, shifted)
    centred = (torch.stack([F.layer_norm(v, (8,)) for v in shifted]) @ query).softmax(0)
    as_layer_norm = sum(w.unsqueeze(-1) * v for w, v in zip(centred, shifted))
    found = mended_read(query, shifted)
    assert not torch.allclose(found, as_raw, atol=1e-3), "the keys are not normalised"
    assert not torch.allclose(found, as_layer_norm, atol=1e-3), (
        "a constant added to all channels goes unseen: the keys are still LayerNorm's"
    )
    assert torch.allclose(found, expected, atol=1e-3), "the read differs from Eq. 2-4"


@exercise("02.5")
def backward_of_the_read(gradients):
    query, sources = example()
    query, d_h = query.double(), torch.randn(2, 3, 8).double()
    # of RMS 1 at first, the norm's eps included, where powers of r do not show
    size = math.sqrt(1 - 1e-5)
    normed = [size * F.rms_norm(v.double(), (8,), None, 0.0) for v in sources]
    for leaves, at in ((normed, "of RMS 1"), ([v.double() for v in sources], "of any RMS")):
        d_query, d_sources = gradients(query, leaves, d_h)
        expected, *others = autograds(query, leaves, d_h)
        assert len(d_sources) == len(leaves), (
            f"{len(d_sources)} gradients for {len(leaves)} sources"
        )
        assert d_query.shape == query.shape, (
            f"the query's gradient has shape {tuple(d_query.shape)}, not [d]: the tokens "
            "share the query"
        )
        found = torch.stack(tuple(d_sources))
        right = torch.allclose(found, torch.stack(others))
        if not right:
            said = what_is_missing(query, leaves, d_h, found - torch.stack(others))
            known = " (with sources of RMS 1 they are right: count the powers of r)"
            raise AssertionError(
                f"the gradients of sources {at} differ from autograd's"
                + (said or known * (leaves is not normed))
            )
        assert torch.allclose(d_query, expected), (
            f"the gradient of the query differs from autograd's, for sources {at}"
        )


def autograds(query, sources, d_h):
    tensors = [t.detach().requires_grad_() for t in (query, *sources)]
    h = stacked_depth_attention(tensors[0], tensors[1:])
    return torch.autograd.grad(h, tensors, d_h)


def what_is_missing(query, sources, d_h, error):
    """A phrase for one of the usual slips, of which `error` [n, ..., d] is the trace."""
    keys, weights = shares(query, sources)
    v, n = torch.stack(sources), query.shape[0]
    r = (v.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    d_weights = torch.einsum("n...d,...d->n...", v, d_h)
    mean = (weights * d_weights).sum(0)
    d_scores = (weights * (d_weights - mean)).unsqueeze(-1)
    along_query = d_scores * r * query
    along_source = d_scores * r**2 * (keys @ query).unsqueeze(-1) * v
    through_key = r * query - r**2 * (keys @ query).unsqueeze(-1) * v / n
    slips = {
        ": as values they get nothing": -weights.unsqueeze(-1) * d_h,
        ": as keys they get nothing": along_source / n - along_query,
        ": the key must not feel the length of its source": along_source / n,
        ": a term grows with the number of channels": along_source / n - along_source,
        ": a score that rises takes weight from the others":
            (weights * mean).unsqueeze(-1) * through_key,
    }
    for phrase, trace in slips.items():
        if torch.allclose(error, trace):
            return phrase
    return ""
