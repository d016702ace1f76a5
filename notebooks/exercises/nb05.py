"""Checks of notebook 05, ablations."""

import math

import torch

from attnres_ref.study.intervals import holm
from exercises import exercise


@exercise("05.1")
def windows(window_sources):
    for n in range(1, 8):
        sources = tuple(torch.full((2,), float(i)) for i in range(n))
        for W in (1, 3):
            found = [int(v[0]) for v in window_sources(sources, W)]
            expected = sorted({0, *range(max(1, n - W), n)})
            place = f"{n} sources, window {W}: you read {found}"
            assert 0 in found, f"{place}: the embedding, source 0, must always be there"
            assert len(set(found)) == len(found), (
                f"{place}: one source twice has twice the weight. The embedding is not "
                "one of the W outputs"
            )
            assert len(found) == len(expected), (
                f"{place}, not {expected}: W outputs, and the embedding besides"
            )
            assert found == expected, f"{place}, not {expected}: the latest outputs"


@exercise("05.2")
def rows_of_highway(highway_row):
    assert [float(w) for w in highway_row([])] == [1.0], (
        "before any layer the state is the embedding: the row is [1]"
    )
    for n in (2, 1, 5):          # with one layer, two of the mistakes look the same
        gates = torch.rand(n, dtype=torch.float64)
        state = faded(gates)
        found = torch.tensor([float(w) for w in highway_row(gates.tolist())])
        assert len(found) == n + 1, (
            f"{n} layers give {len(found)} weights: the embedding has one too"
        )
        found = found.double()
        assert abs(found.sum() - 1) < 1e-5, (
            f"the row sums to {found.sum():.3f}, not to one: the share that a gate gives "
            "to the new output, it takes from all that was there, the embedding too"
        )
        assert not torch.allclose(found, faded(1 - gates), atol=1e-5), (
            "g and 1 - g are exchanged: the new output enters with g"
        )
        assert not torch.allclose(found, state.flip(0), atol=1e-5), (
            "the order: v_0 first"
        )
        assert torch.allclose(found, state, atol=1e-5), (
            f"for gates {[round(g, 2) for g in gates.tolist()]} the sum is right and the "
            "weights are not: which gates does an output still pass once it is there?"
        )


def faded(gates):
    """The weights of v_0, v_1, ... in the state after all gates."""
    weights = torch.eye(len(gates) + 1, dtype=gates.dtype)
    state = weights[0]
    for g, output in zip(gates, weights[1:]):
        state = (1 - g) * state + g * output
    return state


@exercise("05.3")
def sinkhorns(sinkhorn):
    logits = torch.randn(3, 2, 4, 4)
    matrix = sinkhorn(logits)
    assert matrix.shape == logits.shape, f"the shape became {list(matrix.shape)}"
    assert torch.allclose(sinkhorn(logits[:1]), matrix[:1], atol=1e-5), (
        "a sequence's matrices depend on the others: axis 0 is the batch, not a column"
    )
    assert torch.allclose(sinkhorn(logits[:, :1]), matrix[:, :1], atol=1e-5), (
        "a token's matrix depends on the others: axis 1 is the tokens, not a column"
    )
    ones = torch.ones(3, 2, 4)
    assert torch.allclose(matrix.sum(-2), ones, atol=1e-3), (
        "columns do not sum to one: alternate between columns and rows, often enough"
    )
    assert torch.allclose(matrix.sum(-1), ones, atol=1e-3), (
        "rows do not sum to one: alternate between columns and rows, often enough"
    )
    assert (matrix >= 0).all(), "an entry is negative: start from exp(logits)"
    scaled = logits[0, 0] - matrix[0, 0].log()
    outer = scaled[:, :1] + scaled[:1] - scaled[0, 0]
    assert torch.allclose(scaled, outer, atol=0.05), (
        "only rows and columns may be scaled: the result is not exp(logits) any more"
    )


@exercise("05.4")
def adjusted_p_values(holm_adjusted):
    for p_values in ([0.01, 0.04, 0.03, 0.005], [0.5, 0.4, 0.9], [0.002]):
        found, expected = holm_adjusted(list(p_values)), holm(p_values)
        by_size = sorted(zip(p_values, found))
        assert len(found) == len(p_values), "one adjusted value for each p-value"
        assert max(found) <= 1, f"{max(found):g} is no chance: stop at 1"
        assert by_size == sorted(by_size, key=lambda pair: pair[1]), (
            f"of {p_values} you make {found}: a larger p-value must not come out below "
            "a smaller one; go from the smallest up and keep the largest so far"
        )
        assert all(math.isclose(q, r) for q, r in zip(found, expected)), (
            f"of {p_values} you make {found}, not {expected}: the smallest is multiplied "
            "by k, the next by k - 1, and they return in the order in which they came"
        )
