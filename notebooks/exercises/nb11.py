"""Checks of notebook 11, the hybrid."""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from attnres_ref import LMConfig
from attnres_ref.hybrid.kda import kda_recurrent
from attnres_ref.hybrid.layers import NUDGE, MoE, counted
from exercises import exercise


@exercise("11.1")
def one_pair_forgotten(erase):
    K, V = 6, 3
    S, directions = torch.randn(K, V), torch.linalg.qr(torch.randn(K, K)).Q
    key, others, kept = 2.5 * directions[0], directions[1:], S.clone()
    k, v, g, beta = erase(S, key)
    assert torch.equal(S, kept), "S was changed: give the inputs of a step, do not make it"
    shapes = [tuple(x.shape) for x in (k, v, g)]
    assert shapes == [(K,), (V,), (K,)], f"k, v, g are {shapes}, not [K], [V], [K]"
    assert 0 <= beta <= 1, f"beta is {float(beta):.2f}, but it comes out of a sigmoid"
    assert (g <= 0).all(), "g is above zero: nothing in this memory can grow by itself"
    length = k.norm().item()
    assert abs(length - 1) < 1e-4, (
        f"k has length {length:.2f}: KDA's keys have length one, and with another one the "
        "correction misses its aim"
    )
    inputs = [x.reshape(1, 1, 1, -1) for x in (k, k, v, g)]
    beta = torch.full((1, 1, 1), float(beta))
    new = kda_recurrent(*inputs, beta, S[None, None])[1][0, 0]
    assert torch.allclose(others @ new, others @ S, atol=1e-4), (
        "keys orthogonal to this one read something else than before: g fades channels, "
        "and every key uses every channel"
    )
    before, after = key @ S, key @ new
    assert not torch.allclose(after, -before, atol=1e-4), (
        "the read has changed its sign: a step subtracts by itself what S returns for k"
    )
    assert not torch.allclose(after, before, atol=1e-4), "the key reads what it read before"
    assert after.abs().max() < 1e-4, (
        "a part of the old value is still read: beta is the share of the error that a "
        "step corrects"
    )


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


class Weighs(MoE):
    """Its biases are in the weights."""

    def route(self, x):
        scores = self.scores(x) + self.bias
        weights, chosen = scores.topk(self.n_chosen)
        return chosen, weights / weights.sum(-1, keepdim=True)


class Ignores(MoE):
    """Its choice does not look at the biases."""

    def route(self, x):
        weights, chosen = self.scores(x).topk(self.n_chosen)
        return chosen, weights / weights.sum(-1, keepdim=True)


class Runaway(MoE):
    """Its biases move the wrong way."""

    @torch.no_grad()
    def balance(self):
        load = torch.as_tensor(self.load)
        self.bias -= NUDGE * (load.mean() - load).sign()


class Leaks(MoE):
    """It balances in the forward pass, which validation runs as well."""

    def forward(self, h):
        output = super().forward(h)
        self.balance()
        return output


class Drops(MoE):
    """An expert has room for a quarter more than its equal share."""

    def forward(self, h):
        x = self.norm(h).flatten(0, 1)
        chosen, weights = self.route(x)
        counts = counted(chosen, len(self.experts))
        self.load = (counts / chosen.numel()).tolist()
        room = math.ceil(1.25 * chosen.numel() / len(self.experts))
        y = self.shared(x)
        for e, f in enumerate(self.experts):
            token, place = (x[:room] for x in (chosen == e).nonzero(as_tuple=True))
            y = y.index_add(0, token, f(x[token]) * weights[token, place].unsqueeze(-1))
        return y.view_as(h)


PATIENTS = {                           # the name of a bug: a layer, and what to look at
    "right": (MoE, "which of your tests does a right layer fail, and may it?"),
    "leaks": (Leaks, "compare its biases before and after a forward pass alone"),
    "runaway": (Runaway, "which way does the bias of the busiest expert move in a step?"),
    "ignores": (Ignores, "which experts are chosen when a bias is very large?"),
    "weighs": (Weighs, "with biases of zero it is a right layer, so give it others"),
    "drops": (Drops, "while loads are equal it is a right layer, so make a crowd"),
}


@exercise("11.4")
def named_from_its_symptoms(diagnose):
    for size in (dict(n_experts=4), dict(n_experts=6, experts_per_token=3)):
        config = LMConfig(d_model=16, **size)
        for name, (kind, hint) in PATIENTS.items():
            found = diagnose(kind(config))
            assert found in PATIENTS, f"{found!r} is none of the names in the table"
            assert found == name, f'a layer that is "{name}" comes out as "{found}": {hint}'
