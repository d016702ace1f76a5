"""Checks of notebook 08, two-phase inference."""

import torch

from attnres_ref import attend_with_stats, depth_attention, merge
from exercises import exercise


def split_example(scale=1.0):
    """Three queries [3, 8], and five sources [2, 4, 8] in two parts."""
    sources = [torch.randn(2, 4, 8, dtype=torch.float64) for _ in range(5)]
    queries = scale * torch.randn(3, 8, dtype=torch.float64)
    return queries, sources[:2], sources[2:]


@exercise("08.1")
def joined(join):
    queries, first, second = split_example()
    parts = attend_with_stats(queries, first), attend_with_stats(queries, second)
    o, m, l = join(*parts)
    whole = attend_with_stats(queries, [*first, *second])
    assert m.shape == whole[1].shape and torch.equal(m, whole[1]), (
        "m is not the largest score of both parts"
    )
    assert not torch.allclose(l, parts[0][2] + parts[1][2]), (
        "the sums are added as they are, yet each is relative to its own maximum: "
        "bring both to the same maximum first"
    )
    a, b = ((part[1] - m).exp() for part in parts)
    assert not torch.allclose(l, parts[0][2] / a + parts[1][2] / b), (
        "the scales are upside down: none may be above one"
    )
    assert torch.allclose(l, whole[2]), "l is not the sum over both parts"
    assert o.shape == whole[0].shape and torch.allclose(o, whole[0]), (
        "o is not the sum over both parts: it needs the same two scales as l, and "
        "no division"
    )
    sharp, first, second = split_example(scale=1e4)
    o, m, l = join(attend_with_stats(sharp, first), attend_with_stats(sharp, second))
    assert torch.isfinite(o).all() and torch.isfinite(l).all(), (
        "scores in the thousands overflow: no exponent may be above zero"
    )


@exercise("08.2")
def reads_of_phase_one(phase_one_reads):
    assert phase_one_reads(4, 4) != 1, "every source counts twice, as key and as value"
    assert phase_one_reads(4, 4) != 0, "the embedding is a source too, b_0"
    assert phase_one_reads(4, 4) == 2, (
        "one block of four layers: its phase 1 reads the embedding alone, once for "
        "all four layers"
    )
    assert phase_one_reads(128, 16) == 8 * 9, (
        f"8 blocks of 16 read {phase_one_reads(128, 16)} by your formula: the n-th "
        "block has n sources, and reads each as key and as value"
    )
    assert phase_one_reads(11, 4) == 12, (
        "L = 11, S = 4 has three blocks: the last, short one does its phase 1 too"
    )


@exercise("08.3")
def mask_of_a_piece(causal_mask):
    first = causal_mask(3, 0)
    assert first.dtype == torch.bool, f"the mask has dtype {first.dtype}, not torch.bool"
    assert first.shape == (3, 3), "with nothing cached the mask is [n_new, n_new]"
    assert first[1, 0] or not first[0, 1], (
        "this marks what is hidden: True means that a token may look"
    )
    assert first.diagonal().all(), "a token attends to itself too"
    assert not first.triu(1).any(), "a token sees later ones"
    later = causal_mask(2, 5)
    assert later.shape == (2, 7), (
        f"two tokens after five have shape {tuple(later.shape)}, not [n_new, start + n_new]"
    )
    assert later[:, :5].all(), "the cached tokens lie in the past of all new ones"
    expected = [[True, False], [True, True]]
    assert later[:, 5:].tolist() == expected, (
        "among themselves the new tokens are causal: each sees itself and those before it"
    )


@exercise("08.4")
def mended_block(run_block):
    queries, sources = torch.randn(4, 8, dtype=torch.float64), split_example()[1]
    seen = []

    def layer(i):
        def f(h):
            seen.append(h)
            return (i + 2) * h.roll(1, -1).tanh()

        return f

    run_block(queries, sources, [layer(i) for i in range(4)])
    assert len(seen) == 4, f"{len(seen)} layers ran, not 4"
    outputs = [(i + 2) * h.roll(1, -1).tanh() for i, h in enumerate(seen)]
    expected = [depth_attention(queries[0], sources)]
    for i in range(1, 4):
        expected.append(depth_attention(queries[i], [*sources, sum(outputs[:i])]))
    with_zero = depth_attention(queries[0], [*sources, torch.zeros_like(sources[0])])
    assert not torch.allclose(seen[0], with_zero), (
        "the first layer still reads an empty partial sum: zeros score zero and take weight"
    )
    assert torch.allclose(seen[0], expected[0]), (
        "the first layer reads something else than what phase 1 has for it, normalised"
    )
    assert not torch.allclose(seen[1], depth_attention(queries[1], sources)), (
        "the partial sum is never read: from layer 1 of the block on it is a source"
    )
    own = [
        merge(
            tuple(x[i] for x in attend_with_stats(queries, sources)),
            tuple(x[0] for x in attend_with_stats(queries[:1], [sum(outputs[:i])])),
        )
        for i in range(1, 4)
    ]
    borrowed = [o / l.unsqueeze(-1) for o, _, l in own]
    assert not torch.allclose(seen[2], borrowed[1]), (
        "the partial sum is scored by the first layer's query, not by layer i's own"
    )
    for i in range(1, 4):
        assert torch.allclose(seen[i], expected[i]), (
            f"layer {i} of the block reads something else than its sources in Eq. 6"
        )
