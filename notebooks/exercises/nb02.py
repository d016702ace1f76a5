"""Checks of notebook 02, Full AttnRes."""

import torch
import torch.nn.functional as F

from attnres_ref import depth_attention
from exercises import arena, exercise, mutants


def example(n=5, scale=1.0):
    """A query [8] and n sources [2, 3, 8] of unequal length."""
    sources = [scale * (1 + i) * torch.randn(2, 3, 8) for i in range(n)]
    return torch.randn(8), sources


@exercise("02.1")
def read_with_weights(read):
    query, sources = example()
    h, weights = read(query, sources)
    assert h.shape == sources[0].shape, f"h has shape {tuple(h.shape)}, not [B, T, d]"
    assert weights.shape == (5, 2, 3), (
        f"weights have shape {tuple(weights.shape)}, not [n, B, T]: one per source and"
        " token"
    )
    expected, shares = depth_attention(query, sources, return_weights=True)
    sums = weights.sum(0)
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5), (
        "the weights of a token do not sum to one over the sources: "
        "is the softmax over the axis of the sources, 0?"
    )
    raw = (torch.stack(sources) @ query).softmax(0)
    assert not torch.allclose(weights, raw, atol=1e-4), "the keys are not normalised"
    assert torch.allclose(weights, shares, atol=1e-4), (
        "the weights differ from Eq. 2-4: RMSNorm (no mean subtracted), and no 1/sqrt(d)?"
    )
    normed = sum(
        w.unsqueeze(-1) * F.rms_norm(v, (8,), None, 1e-5) for w, v in zip(shares, sources)
    )
    assert not torch.allclose(h, normed, atol=1e-3), (
        "the normalised keys are mixed; the values are the raw sources"
    )
    assert torch.allclose(h, expected, atol=1e-4), "the mix is not sum_i weights_i v_i"


@exercise("02.2")
def factor_of_sum_and_mean(factor):
    assert factor(0) != 0, "layer 0 reads one source, the embedding: the states are equal"
    for layer in (0, 1, 7):
        assert factor(layer) == layer + 1, (
            f"at layer {layer} you say {factor(layer)}: every layer adds a source, and "
            "the embedding is one"
        )


@exercise("02.3")
def gradient_of_scores(softmax_backward):
    scores = torch.randn(4, 2, 3, requires_grad=True)
    d_weights = torch.randn(4, 2, 3)
    weights = scores.softmax(0)
    weights.backward(d_weights)
    found = softmax_backward(weights.detach(), d_weights)
    assert not torch.allclose(found, weights.detach() * d_weights, atol=1e-6), (
        "the weights are coupled: raising one score lowers the other weights"
    )
    assert not torch.allclose(found, -scores.grad, atol=1e-5), "the sign is reversed"
    assert torch.allclose(found.sum(0), torch.zeros(2, 3), atol=1e-5), (
        "the gradients of a token's scores must sum to zero over the sources: "
        "is the sum over axis 0?"
    )
    assert torch.allclose(found, scores.grad, atol=1e-5), (
        "not the softmax's gradient: weights * (d_weights - sum of weights * d_weights)"
    )


@exercise("02.4")
def mended(mended_read):
    query, sources = example(scale=0.5)
    later = [torch.cat([v[:, :1], 3 * v[:, 1:].flip(-1)], dim=1) for v in sources]
    first = [mended_read(query, s)[:, 0] for s in (sources, later)]
    assert torch.allclose(*first, atol=1e-5), (
        "token 0 changes with later tokens: the softmax still runs over the tokens"
    )
    shifted = [v + 2 for v in sources]
    expected = depth_attention(query, shifted)
    centred = (torch.stack([F.layer_norm(v, (8,)) for v in shifted]) @ query).softmax(0)
    as_layer_norm = sum(w.unsqueeze(-1) * v for w, v in zip(centred, shifted))
    found = mended_read(query, shifted)
    assert not torch.allclose(found, as_layer_norm, atol=1e-3), (
        "a constant added to all channels goes unseen: the keys are still LayerNorm's"
    )
    assert torch.allclose(found, expected, atol=1e-3), "the read differs from Eq. 2-4"


@exercise("02.9")
def kills_the_mutants(my_tests):
    arena.assert_none_survives([*arena.GIVEN, *my_tests], mutants.FULL)
