"""Checks of notebook 05, ablations."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from attnres_ref import FullAttnRes
from attnres_ref.study.intervals import t_quantile
from attnres_ref.variants import LoudEmbedding
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
def gates_of_a_row(gates_for):
    for n in (2, 1, 5):          # with one layer, two of the mistakes look the same
        row = torch.rand(n + 1, dtype=torch.float64) + 0.1
        row = row / row.sum()
        gates = [float(g) for g in gates_for(row.tolist())]
        assert len(gates) == n, (
            f"{n + 1} weights give {len(gates)} gates: every layer has one, and the "
            "embedding, which no layer writes, has none"
        )
        gates = torch.tensor(gates, dtype=torch.float64)
        found = faded(gates)
        place = f"a row of {n + 1} weights"
        assert not torch.allclose(faded(1 - gates), row, atol=1e-9), (
            f"{place}: g and 1 - g are exchanged: the new output enters with g"
        )
        assert not torch.allclose(found.flip(0), row, atol=1e-9), (
            f"{place}: the order is turned round: v_0 comes first"
        )
        assert n == 1 or not torch.allclose(faded(gates.flip(0)), row, atol=1e-9), (
            f"{place}: its gates are in the wrong order: the first layer's come first"
        )
        assert torch.allclose(found[-1], row[-1], atol=1e-9), (
            f"{place}: not even the last weight comes out, though no later gate fades it"
        )
        assert torch.allclose(found, row, atol=1e-9), (
            f"{place}: the last weight comes out and earlier ones do not: a weight is what "
            "LATER gates have left of its gate, so a gate is larger than its weight"
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


@dataclass(frozen=True)
class Claim:
    """That an arm ends with a lower loss than its baseline, and how this was found."""

    name: str
    tried: tuple[int, int]         # recipes tried for the arm, and for its baseline
    tuned_on: tuple[int, ...]      # the seeds on which both recipes were chosen
    runs: tuple                    # (seed, the arm's loss, the baseline's), ...


# The p-value of a claim's fresh seeds, each counted once ...
PLANTED = {
    "clear": 1e-5, "worse": 1e-4, "holm": 0.011, "lucky": 0.03,
    "thrice": 0.12, "chosen": 0.3, "untuned": 1e-5,
}
# ... and what to look at where a claim is judged wrongly.
SAID = {
    "thrice": "it has more runs than seeds, and a run listed again is no new evidence",
    "chosen": "some of its seeds had a part in choosing its recipe, and a recipe looks "
              "good on the seeds that chose it",
    "untuned": "its arm tried more recipes than its baseline, and no number of seeds mends "
               "that",
    "worse": "it is decided, but look to which side",
    "lucky": "its p-value would do if it were the only one, but how many are there?",
    "clear": "the clearest of all: a seed moves both losses of a pair, so compare "
             "them within the pair",
    "holm": "how many tests are left once those with smaller p-values have been called?",
}


def claims(seed: int = 0) -> list[Claim]:
    """Seven claims, each with a flaw or none, in an order of its own for each seed."""
    return sorted(planted(seed).values(), key=lambda claim: claim.name)


def planted(seed: int) -> dict[str, Claim]:
    """The same by kind."""
    draw, kinds = random.Random(seed), [*PLANTED]
    draw.shuffle(kinds)
    return {kind: made(name, kind, draw) for name, kind in zip("ABCDEFG", kinds)}


def made(name: str, kind: str, draw: random.Random, n: int = 12) -> Claim:
    noise = torch.tensor([draw.gauss(0, 1) for _ in range(n)], dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    far = t_quantile(1 - PLANTED[kind], n - 1) / n**0.5            # in SDs of a pair
    side = 1 if kind == "worse" else -1
    gaps = [0.02 * (side * far + x) for x in noise.tolist()]
    tuned_on = (100, 101)
    if kind == "chosen":
        tuned_on = tuple(range(n, n + 6))
        gaps += [draw.gauss(-0.05, 0.003) for _ in tuned_on]
    base = [draw.gauss(1.8, 0.05) for _ in gaps]
    runs = tuple((i, round(b + gap, 6), round(b, 6))
                 for i, (b, gap) in enumerate(zip(base, gaps)))
    return Claim(name, (16, 1 if kind == "untuned" else 16), tuned_on,
                 runs * 3 if kind == "thrice" else runs)


@exercise("05.4")
def claims_that_stand(standing):
    for seed in range(3):
        found, kinds = {*standing(claims(seed))}, planted(seed)
        for kind, said in SAID.items():
            name = kinds[kind].name
            word = "stands" if name in found else "falls"
            right = word == ("stands" if kind in ("clear", "holm") else "falls")
            assert right, f"of claims({seed}), {name} {word} in your list: {said}"


@exercise("05.5")
def both_at_once(LoudFull):
    for d in (16, 36):
        both, loud, full = LoudFull(3, d), LoudEmbedding(3, d), FullAttnRes(3, d)
        counted = len([*both.parameters()])
        assert counted == 2, (
            f"it has {counted} parameters, and Full has two: its queries and their norms. "
            "A factor that is learned would be another arm"
        )
        embedding, *outputs = torch.randn(4, 2, 5, d)
        before = embedding.clone()
        ours, theirs, plain = (reads(s, embedding, outputs) for s in (both, loud, full))
        assert torch.equal(embedding, before), (
            "begin changed the embedding itself, so that the next batch begins louder still"
        )
        assert not same(normed(ours), normed(plain)), (
            "at zero queries every layer sees what plain Full shows it: nothing is louder, "
            "or everything is, and that a layer's RMSNorm takes out"
        )
        factor = (ours[0] / embedding).mean().item()
        assert abs(factor - d**0.5) < 1e-3 * abs(factor), (
            f"at d_model = {d} you multiply by {factor:.3g}. The course's embedding begins "
            "with the RMS d**-0.5, and a loud one with 1"
        )
        assert same(normed(ours), normed(theirs)), (
            "at zero queries a layer does not see what PreNorm with a loud embedding shows "
            "it: the embedding alone is multiplied, once, and outputs stay as written"
        )
        for mine, its in zip(both.parameters(), full.parameters()):
            mine.data.copy_(its.data.normal_())
        expected = reads(full, d**0.5 * embedding, outputs)
        assert same(reads(both, embedding, outputs), expected), (
            "with queries that are not zero your stream is not Full on a loud embedding"
        )


def reads(stream: nn.Module, embedding, outputs) -> torch.Tensor:
    """All reads of a stream to which these outputs are written, [L + 1, ...]."""
    state, found = stream.begin(embedding), []
    for layer, output in enumerate(outputs):
        found.append(stream.read(state, layer))
        state = stream.write(state, layer, output)
    return torch.stack([*found, stream.read(state, len(outputs))])


def normed(x):
    """As a layer sees it, behind its RMSNorm."""
    return F.rms_norm(x, x.shape[-1:])


def same(a, b) -> bool:
    return torch.allclose(a, b, atol=1e-4)
