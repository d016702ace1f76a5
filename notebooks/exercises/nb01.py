"""Checks of notebook 01."""

import math

import torch
import torch.nn.functional as F

from attnres_ref import LM, LMConfig
from attnres_ref.study.probes import rms
from exercises import exercise


@exercise("01.1")
def norm(rms_norm):
    x, weight = 1 + 2 * torch.randn(3, 4, 16), torch.rand(16) + 0.5
    answer, expected = rms_norm(x, weight), F.rms_norm(x, (16,), weight, 1e-6)
    assert answer.shape == x.shape, f"x is {list(x.shape)}, the answer {list(answer.shape)}"
    wrong = {
        "the mean is still subtracted: that is a LayerNorm": F.layer_norm(x, (16,), weight),
        "the weight is missing": F.rms_norm(x, (16,), None, 1e-6),
        "divided by the length: the *mean* of the squares goes under the root":
            weight * F.normalize(x, dim=-1),
        "one number for all tokens: each token has a size of its own":
            weight * x / x.square().mean().sqrt(),
        "the root is missing": weight * x / x.square().mean(-1, keepdim=True),
    }
    for message, value in wrong.items():
        assert not torch.allclose(answer, value, atol=1e-4), message
    assert torch.allclose(answer, expected, atol=1e-4), (
        "this is no RMSNorm: work out a single token by hand, from the definition"
    )
    assert rms_norm(torch.zeros(2, 16), weight).isfinite().all(), (
        "zeros give NaN: eps belongs under the root"
    )


@exercise("01.2")
def pair_of_layers(pair):
    h = 3 * torch.randn(2, 5, 8)
    attention, mlp = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    norm1, norm2 = torch.nn.RMSNorm(8), torch.nn.RMSNorm(8)
    torch.nn.init.uniform_(norm2.weight, 0.5, 1.5)
    before = h.clone()
    answer = pair(h, attention, mlp, norm1, norm2)
    assert torch.equal(h, before), "h was changed in place: h += ... changes the caller's"

    middle = h + attention(norm1(h))
    replaced = norm1(h) + attention(norm1(h))
    wrong = {
        "the sum is still replaced by its norm": norm2(replaced) + mlp(norm2(replaced)),
        "the sum is still replaced by norm2(h)": norm2(middle) + mlp(norm2(middle)),
        "the sum is still replaced by norm1(h)": replaced + mlp(norm2(replaced)),
        "the MLP must read the sum that attention has written to": middle + mlp(norm2(h)),
        "the norms are outside: each layer reads a normalised copy": norm2(
            norm1(h + attention(h)) + mlp(norm1(h + attention(h)))
        ),
        "the MLP reads without its norm": middle + mlp(middle),
        "each layer has a norm of its own: the MLP's is norm2": middle + mlp(norm1(middle)),
        "the second residual is missing": mlp(norm2(middle)),
    }
    for message, value in wrong.items():
        assert not torch.allclose(answer, value, atol=1e-5), message
    assert torch.allclose(answer, middle + mlp(norm2(middle)), atol=1e-5), (
        "each layer adds f(norm(h)) to an h that stays as it is"
    )


@exercise("01.3")
def growth(sum_rms):
    one = float(sum_rms(1, 0.3))
    assert math.isclose(one, 1), (
        f"the sum of one vector of RMS 1 has RMS 1, not {one:g}: a vector makes no pair "
        "with itself"
    )
    apart, aligned = float(sum_rms(16, 0.0)), float(sum_rms(16, 1.0))
    assert not math.isclose(apart, 16), "cosine 0 gives 16 for n = 16: sizes do not add up"
    assert math.isclose(apart, 4), f"16 uncorrelated vectors give 4, not {apart:g}"
    assert not math.isclose(aligned, apart), "cosine 0 and cosine 1 give the same: use it"
    assert not math.isclose(aligned, 256), "this is the square: take the root"
    assert math.isclose(aligned, 16), (
        f"16 aligned vectors give 16, not {aligned:g}: count the pairs i != j, in both"
        " orders"
    )
    for n, cosine in ((5, 0.1), (40, 0.1), (4, -0.2)):
        expected, given = math.sqrt(n + n * (n - 1) * cosine), float(sum_rms(n, cosine))
        assert math.isclose(given, expected, rel_tol=1e-6), (
            f"right at cosine 0 and 1, not between: n = {n}, cosine {cosine} gave"
            f" {given:.3f}"
        )


@exercise("01.4")
def shares(contribution):
    values = torch.randn(5, 2, 3, 8) * torch.tensor([3, 1, 2, 0.5, 1.5]).view(5, 1, 1, 1)
    embedding, outputs = values[0].clone(), list(values[1:].clone())
    answer = [float(share) for share in contribution(outputs, embedding)]
    unchanged = torch.equal(torch.stack(outputs), values[1:])
    assert unchanged and torch.equal(embedding, values[0]), (
        "embedding or outputs were changed in place: the caller still needs them"
    )
    assert len(answer) == 4, f"4 outputs give 4 numbers, not {len(answer)}"

    sums = [rms(values[: n + 1].sum(0)) for n in range(5)]
    sizes = [rms(value) for value in values]

    def against(below):
        return [size / b for size, b in zip(sizes[1:], below)]

    wrong = {
        "divided by the sum before the write, not after it": against(sums[:4]),
        "every output is divided by the last sum: take the one it has just joined":
            against([sums[4]] * 4),
        "the RMS of a sum is not the sum of the RMS":
            against([sum(sizes[: n + 1]) for n in range(1, 5)]),
        "the sum starts at the embedding":
            against([rms(values[1 : n + 1].sum(0)) for n in range(1, 5)]),
    }
    for message, value in wrong.items():
        assert not close(answer, value), message
    assert close(answer, against(sums[1:])), (
        "not rms(output) / rms(sum after it), with the embedding in the sum"
    )


@exercise("01.5")
def two_writes(interaction):
    config = LMConfig(vocab_size=32, d_model=16, n_layers=6, n_heads=2, context=8,
                      residual="prenorm")
    model, tokens = LM(config), torch.randint(32, (4, 9))
    inputs, targets, stream = tokens[:, :-1], tokens[:, 1:], model.stream
    answers = [float(interaction(model, inputs, targets, *pair)) for pair in PAIRS]
    assert model.stream is stream, (
        "the model keeps your stream: work on with_parts(model, stream=...)"
    )
    whole = loss_without(model, inputs, targets)
    for (a, b), answer in zip(PAIRS, answers):
        one, other, both = (loss_without(model, inputs, targets, *dropped)
                            for dropped in ((a,), (b,), (a, b)))
        expected = both - one - other + whole
        wrong = {
            "the rise without both, from which the two single rises are still to be taken":
                both - whole,
            "losses are not rises: with three rises, the whole model's loss goes in three "
            "times, and not all of it cancels": both - one - other,
            "the whole model's loss is taken off once too often":
                both - one - other - whole,
            "the sign is turned: above zero means that both cost more than their sum":
                -expected,
            "that is a ratio: take the difference of both and the sum":
                (both - whole) / (one + other - 2 * whole),
            "the stream drops only the first of the two": whole - other,
            "the stream drops only the second of the two": whole - one,
            "nothing is dropped when both should be": 2 * whole - one - other,
        }
        for message, value in wrong.items():
            assert not math.isclose(answer, value, abs_tol=1e-5), message
        assert math.isclose(answer, expected, abs_tol=1e-5), (
            f"layers {a} and {b}: not loss(both) - loss(one) - loss(other) + loss(none)"
        )


PAIRS = (1, 4), (0, 3)


@torch.no_grad()
def loss_without(model, inputs, targets, *dropped):
    """The loss of an LM over PreNorm when the writes of these layers are dropped."""
    state = model.embedding(inputs)
    for layer, f in enumerate(model.layers):
        output = f(state)
        state = state if layer in dropped else state + output
    logits = model.head(model.norm(state))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()


def close(first, second):
    return all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(first, second))
