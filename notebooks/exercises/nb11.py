"""Checks of notebook 11, the hybrid."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from attnres_ref.hybrid.kda import kda_recurrent
from exercises import exercise


@exercise("11.1")
def one_step(step):
    K, V = 4, 3
    S, q, k = torch.randn(K, V), torch.randn(K), torch.randn(K)
    k, v, kept = k / k.norm(), torch.randn(V), S.clone()
    g, still, one = -torch.rand(K), torch.zeros(K), 1.0
    step(S, q, k, v, g, 0.7)
    assert torch.equal(S, kept), "the old S was changed in place: make a new one"
    o, new = step(S, k, k, v, still, one)
    assert new.shape == (K, V) and o.shape == (V,), (
        f"o has shape {tuple(o.shape)} and S {tuple(new.shape)}, not [V] and [K, V]"
    )
    assert not torch.allclose(new, S + torch.outer(k, v), atol=1e-5), (
        "v is added as it is: linear attention. Subtract first what S returns for k"
    )
    assert not torch.allclose(o, k @ S, atol=1e-5), "the read comes after the write"
    assert torch.allclose(o, v, atol=1e-5), (
        "with g = 0 and beta = 1, reading k must give the v just written"
    )
    _, faded = step(S, q, k, v, g, 0.0)
    assert torch.allclose(faded, g.exp().unsqueeze(-1) * S, atol=1e-5), (
        "with beta = 0 row c of S is scaled by exp(g_c): a rate for each key channel, "
        "and nothing is written"
    )
    o, new = step(S, q, k, v, g, 0.7)
    inputs = (x.reshape(1, 1, 1, -1) for x in (q, k, v, g))
    expected, state = kda_recurrent(*inputs, torch.full((1, 1, 1), 0.7), S[None, None])
    assert torch.allclose(new, state[0, 0], atol=1e-5), (
        "the error is that of the faded S: forget first, then look up, then write"
    )
    assert torch.allclose(o, expected[0, 0, 0], atol=1e-5), "o is the new S read by q"


def sum_of_the_definition(q, k, G):
    rows = [
        [(q[t] * (G[t] - G[s]).exp() * k[s]).sum() if s <= t else 0.0 * q[t, 0]
         for s in range(len(G))]
        for t in range(len(G))
    ]
    return torch.stack([torch.stack(row) for row in rows])


@exercise("11.2")
def mended_products(within):
    q, k = torch.randn(2, 6, 3)
    G = -0.1 * torch.rand(6, 3).cumsum(0)
    found = within(q, k, G)
    assert found.shape == (6, 6), f"the result has shape {tuple(found.shape)}, not [C, C]"
    assert not found.triu(1).any(), "an entry above the diagonal is not zero: s <= t only"
    assert found.diagonal().any(), "the diagonal is zero: s = t is in the sum, too"
    assert torch.allclose(found, sum_of_the_definition(q, k, G), atol=1e-5), (
        "this differs from sum_c q_tc exp(G_tc - G_sc) k_sc even where decay is mild"
    )
    fast = -60.0 * torch.arange(1, 7).unsqueeze(1) * torch.tensor([1.0, 0.001, 0.5])
    q, k, fast = (x.detach().requires_grad_() for x in (q, k, fast))
    found = within(q, k, fast)
    assert found.isfinite().all(), (
        "a gate that forgets fast gives inf or NaN: exp of a positive number overflowed"
    )
    assert torch.allclose(found, sum_of_the_definition(q, k, fast), atol=1e-5), (
        "finite, yet not the sum: clamping G changes the differences of later tokens"
    )
    gradients = torch.autograd.grad(found.sum(), (q, k, fast))
    assert all(x.isfinite().all() for x in gradients), (
        "the values are right and a gradient is NaN: zero times the derivative of an "
        "overflowed exp. Mask the exponent, not the result"
    )


@exercise("11.3")
def read_in_the_latent(scores):
    T, r, K = 200, 4, 16
    q, c, U = torch.randn(K), torch.randn(T, r), torch.randn(K, r)
    with FlopCounterMode(display=False) as counter:
        found = scores(q, c, U)
    assert found.shape == (T,), f"the scores have shape {tuple(found.shape)}, not [T]"
    assert torch.allclose(found, (c @ U.T) @ q, atol=1e-4), (
        "these are not the products q . (U c_t), unscaled and without a softmax"
    )
    # mv does not count as a matrix product everywhere: bound what is surely too much.
    assert counter.get_total_flops() < 2 * T * r * K, (
        f"this multiplies as much as making all {T} keys: no key has to be made"
    )


@exercise("11.4")
def choice_and_weights(route):
    scores = torch.rand(20, 5)
    bias = torch.tensor([2.0, 0.0, 0.0, 0.0, -2.0])
    found, weights = route(scores, bias, 2)
    assert found.shape == weights.shape == (20, 2), (
        f"chosen has shape {tuple(found.shape)} and weights {tuple(weights.shape)}, "
        "not [N, k]"
    )
    plain = scores.topk(2).indices.sort(-1).values
    expected = (scores + bias).topk(2).indices.sort(-1).values
    order = found.argsort(-1)
    found, weights = found.gather(-1, order), weights.gather(-1, order)
    assert not torch.equal(found, plain), "the choice does not look at the bias"
    assert torch.equal(found, expected), "the bias counts, but these are not the k highest"
    picked = scores.gather(-1, found)
    assert not torch.allclose(weights, picked, atol=1e-5), (
        "a token's weights do not sum to one: divide by their sum"
    )
    assert not torch.allclose(weights, picked / scores.sum(-1, keepdim=True)), (
        "divided by the sum over all experts: only the chosen ones share"
    )
    biased = (scores + bias).gather(-1, found)
    assert not torch.allclose(weights, biased / biased.sum(-1, keepdim=True), atol=1e-4), (
        "the bias is in the weights: it chooses, and does not weigh"
    )
    assert torch.allclose(weights, picked / picked.sum(-1, keepdim=True), atol=1e-5), (
        "the weights are not in proportion to the chosen experts' scores: is it a softmax?"
    )
