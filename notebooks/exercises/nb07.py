"""Checks of notebook 07, one matrix to see them all."""

import torch

from attnres_ref import LM, LMConfig, depth_attention
from attnres_ref.notebook import recorded
from attnres_ref.study.mixing import agreement_with, mixing_matrix, semiseparable_rank
from exercises import exercise


@exercise("07.1")
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


@exercise("07.2")
def better_than_the_share(guess_costs):
    def counted(reads, l):
        guesses, n = [*map(float, guess_costs(reads, l))], len(reads[l]["weights"])
        assert len(guesses) == n, (
            f"read {l} has {n} sources, and you return {len(guesses)} numbers: one for "
            "each source, the embedding first"
        )
        return guesses

    runs = [r for r in recorded("mixing")["python_sources"] if "ablation" in r]
    for record in runs:
        ours, usual = (agreement_with(guess, record["reads"], record["ablation"])
                       for guess in (counted, lambda reads, l: reads[l]["shares"]))
        of = f"{record['model']['residual']}, seed {record['train']['seed']}"
        assert ours > 0, (
            f"{of}: your numbers fall where the costs rise ({ours:.2f}): the larger a "
            "number, the more you expect its loss to cost"
        )
        words = f"{of}: you reach {ours:.2f}, and the share alone reaches {usual:.2f}"
        assert ours > usual - 0.05, (
            f"{words}: a weight says nothing about how long the vector is that it "
            "multiplies"
        )
        assert ours >= usual + 0.05, (
            f"{words}: within a read the order may be good, but can your numbers be "
            "compared between one read and another, whose sources are all longer?"
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
def depth_of_a_rank(shortest_depth):
    found = shortest_depth(4, 3)
    wrong = {
        5: "so many vectors are kept there, but which reads are left to need them?",
        11: "the embedding is in the state as well",
        4: "that is Full AttnRes: here a block is one vector",
        8: "an open block is in the state as well, from its first layer on",
    }
    assert found not in wrong, f"block size 4, rank 3: {wrong.get(found)}"
    for block_size, rank in ((4, 3), (2, 4), (8, 3), (4, 4), (1, 5), (16, 3)):
        found = shortest_depth(block_size, rank)
        of = f"block size {block_size}, rank {rank}"
        assert isinstance(found, int) and 0 < found < 100, (
            f"{of}: {found} is not a number of layers"
        )
        reached = rank_of_block(found, block_size)
        assert reached >= rank, (
            f"{of}: a model with random queries has {reached} at {found} layers"
        )
        assert rank_of_block(found - 1, block_size) < rank, (
            f"{of}: with {found - 1} layers a model has it already"
        )


def rank_of_block(n_layers: int, block_size: int) -> int:
    """Measured on a model with random queries."""
    torch.manual_seed(0)
    config = LMConfig(
        vocab_size=8, d_model=4, n_layers=n_layers, n_heads=1, context=4,
        residual="block", block_size=min(block_size, n_layers),
    )
    model = LM(config).double()
    torch.nn.init.normal_(model.stream.queries)
    M = mixing_matrix(model, torch.arange(4)[None])[..., 0, 3, 0]
    return semiseparable_rank(M, 1e-10)
