"""Checks of notebook 07, one matrix to see them all."""

import torch

from attnres_ref import LM, LMConfig, depth_attention
from attnres_ref.study.mixing import mixing_matrix, semiseparable_rank
from exercises import exercise


@exercise("07.1")
def highway(highway_matrix):
    gates = torch.tensor([0.4, 0.25, 0.8], dtype=torch.float64)
    M = highway_matrix(gates)
    assert M.shape == (4, 4), (
        f"3 gates are 3 layers: M has 4 reads and 4 sources, not {tuple(M.shape)}"
    )
    assert torch.equal(M, M.tril()), "M[l, i] is not 0 for i > l: reads see the future"
    assert M[0, 0] == 1, "read 0 is the embedding, with weight one"
    assert torch.allclose(M.sum(1), torch.ones(4).double()), (
        "a row does not sum to one: what a gate lets in, it takes from all that was "
        "there before"
    )
    assert not torch.allclose(M[1, 1], 1 - gates[0]), (
        "g and 1 - g have changed places: g is the part of the new output"
    )
    by_hand = torch.tensor([[0.6, 0.4], [0.45, 0.3]]).double()
    assert torch.allclose(M[1:3, :2], by_hand), (
        "a gate does not leave the right part of the row above it"
    )
    assert torch.allclose(M[3, 1:], torch.tensor([0.06, 0.05, 0.8]).double()), (
        "the last row is off: which gates has v_1 passed on its way?"
    )


@exercise("07.2")
def bound_of_block(block_bound):
    wrong = {
        "five vectors are never carried; a sum is one vector": (4, 4, 5),
        "the embedding is in the state as well": (4, 4, 1),
        "the state is largest when hardly a read is still to come": (16, 4, 5),
        "that is Full AttnRes: here a block is one vector": (64, 16, 33),
    }
    for message, (n_layers, block_size, bound) in wrong.items():
        found = block_bound(n_layers, block_size)
        assert found != bound, f"L = {n_layers}, S = {block_size}: {message}"
    for n_layers, block_size in [(4, 4), (8, 8), (16, 4), (64, 16), (8, 2), (9, 4)]:
        torch.manual_seed(0)
        config = LMConfig(
            vocab_size=8, d_model=4, n_layers=n_layers, n_heads=1, context=4,
            residual="block", block_size=block_size,
        )
        model = LM(config).double()
        torch.nn.init.normal_(model.stream.queries)
        M = mixing_matrix(model, torch.arange(4)[None])[..., 0, 3, 0]
        measured, found = semiseparable_rank(M, 1e-10), block_bound(n_layers, block_size)
        assert found == measured, (
            f"L = {n_layers}, S = {block_size}: you say {found}, a model with random "
            f"queries has {measured}. What limits the rank at one depth, on "
            "either side of it, and which depth does the bound have to hold for?"
        )


@exercise("07.3")
def blind_read(marked_read):
    query = torch.randn(8, dtype=torch.float64)
    contents = [(1 + i) * torch.randn(2, 3, 8, dtype=torch.float64) for i in range(4)]
    marked = []
    for i, content in enumerate(contents):
        source = torch.zeros(5, 2, 3, 8, dtype=torch.float64)
        source[0], source[1 + i] = content, 1.0
        marked.append(source)
    expected, weights = depth_attention(query, contents, return_weights=True)
    h = marked_read(query, [source.clone() for source in marked])
    assert h.shape == (5, 2, 3, 8), (
        f"the read has shape {tuple(h.shape)}: contents and marks are both mixed, "
        "[1 + n, B, T, d] as the sources"
    )
    assert torch.allclose(h[0], expected), (
        "slot 0 is not what the layer would read unmarked"
    )
    leaked = depth_attention(query, marked)
    assert not torch.allclose(h[1:], leaked[1:]), (
        "the marks still have weights of their own: the contents alone decide where the "
        "read looks"
    )
    arrived = weights.unsqueeze(-1).expand(4, 2, 3, 8)
    assert torch.allclose(h[1:], arrived), (
        "mark i does not arrive with the weight of source i"
    )


@exercise("07.4")
def lost(without):
    weights = torch.randn(4, 2, 3, dtype=torch.float64).softmax(0)
    before = weights.clone()
    for index in (0, 2):
        found = without(weights, index)
        assert torch.equal(weights, before), (
            "the weights you were given have changed: copy first"
        )
        assert found.shape == weights.shape, (
            f"the shape is {tuple(found.shape)}: keep the lost source, with weight zero"
        )
        assert (found[index] == 0).all(), f"source {index} still has weight"
        total = found.sum(0)
        even, average = torch.allclose(total, torch.ones_like(total)), total.mean().item()
        assert even or abs(average - 1) > 1e-6, (
            "all tokens are divided by the same number: each has a sum of its own"
        )
        assert even, (
            "the weights of a token no longer sum to one: the read shrinks, and you "
            "measure that as well. Let the others share what is free"
        )
        logits = weights.log()
        logits[index] = -torch.inf
        assert torch.allclose(found, logits.softmax(0)), (
            "the others do not share as a softmax without the source would: in "
            "proportion to their weights, token by token"
        )
