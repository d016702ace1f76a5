"""Checks of notebook 04, training dynamics."""

import copy
import math
from statistics import NormalDist, mean, stdev

import torch
import torch.nn.functional as F

from attnres_ref import LM, LMConfig
from attnres_ref.study.intervals import t_quantile
from exercises import exercise

# Student's factor for three values, as tables print it and with all its digits.
FACTORS = 4.303, 4.3027, t_quantile(0.95, 2)


def small_model(residual="full"):
    size = dict(vocab_size=17, d_model=16, n_layers=4, n_heads=2, context=8, block_size=2)
    return LM(LMConfig(residual=residual, **size))


@exercise("04.1")
def norms_before_clipping(training_step):
    model = small_model()
    before = copy.deepcopy(model)
    tokens = torch.randint(17, (2, 9))

    def loss_of(model):
        logits = model(tokens[:, :-1]).flatten(0, 1)
        return 100 * F.cross_entropy(logits, tokens[:, 1:].flatten())

    loss_of(before).backward()
    expected = [
        math.sqrt(sum(p.grad.square().sum().item() for p in layer.parameters()))
        for layer in before.layers
    ]
    total = torch.nn.utils.clip_grad_norm_(before.parameters(), 1.0).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    found = training_step(model, optimizer, loss_of(model), clip=1.0)
    assert len(found) == 4, f"{len(found)} norms came back: one per layer is wanted"
    ratio = float(found[0]) / expected[0]
    assert not math.isclose(ratio, 1 / total, rel_tol=1e-3), (
        f"the norms are {total:.0f} times too small: they are measured after clipping"
    )
    for layer, (norm, right) in enumerate(zip(found, expected)):
        assert math.isclose(norm, right, rel_tol=1e-3), (
            f"layer {layer}: {norm:.3g}, but its gradients (p.grad, not the weights p) "
            f"have norm {right:.3g}"
        )
    moved = zip(before.parameters(), model.parameters())
    assert all(torch.allclose(p - p.grad, q, atol=1e-5) for p, q in moved), (
        "the optimiser did not use the clipped gradients: clip after measuring, but "
        "before the step"
    )
    assert all(p.grad is None or not p.grad.any() for p in model.parameters()), (
        "gradients are left behind and would be added to those of the next step"
    )


@exercise("04.2")
def interval_of_pairs(paired_interval):
    baseline = [1.80, 1.84, 1.79]
    ours = [1.77, 1.76, 1.75]
    gaps = [a - b for a, b in zip(ours, baseline)]
    centre, half_width = paired_interval(ours, baseline)
    assert not math.isclose(centre, -mean(gaps), abs_tol=1e-9), (
        "the sign: ours - baseline, so that a negative number is an improvement"
    )
    assert math.isclose(centre, mean(gaps), abs_tol=1e-9), "not the mean difference"
    error = stdev(gaps) / math.sqrt(3)
    by_rank = [a - b for a, b in zip(sorted(ours), sorted(baseline))]
    unpaired = math.sqrt((stdev(ours) ** 2 + stdev(baseline) ** 2) / 3)

    def is_width(spread, factors=FACTORS):
        return any(math.isclose(half_width, t * spread, rel_tol=1e-6) for t in factors)

    assert not is_width(error, factors=(1.96, NormalDist().inv_cdf(0.975))), (
        "1.96 is for many values; for three the factor is 4.3027"
    )
    wrong = {
        unpaired: "the two spreads are added as if the runs were no pairs: "
        "subtract seed by seed first, then take the spread",
        stdev(by_rank) / math.sqrt(3): "sorted lists pair runs of different seeds",
        stdev(gaps): "that is the spread of one pair: the mean of n is "
        "sqrt(n) times more certain",
        error * math.sqrt(2 / 3): "the spread is around their own mean: divide "
        "by n - 1 (statistics.stdev does)",
    }
    for spread, message in wrong.items():
        assert not is_width(spread), message
    assert is_width(error), (
        f"half_width is {half_width:.5f}, not 4.3027 standard errors, "
        f"{4.3027 * error:.5f}"
    )


@exercise("04.3")
def two_fair_gaps(fair_gaps):
    # PreNorm's lucky seed is at 1e-3, its best mean at 2e-3; ours is best at 4e-3.
    prenorm = {1e-3: [1.50, 2.10], 2e-3: [1.70, 1.72], 4e-3: [1.90, 1.92]}
    ours = {1e-3: [1.80, 1.82], 2e-3: [1.69, 1.69], 4e-3: [1.66, 1.62]}
    shared, own = fair_gaps(ours, prenorm)
    assert not math.isclose(shared, 1.81 - 1.80), (
        "shared: PreNorm's best rate is chosen by its luckiest seed; take the mean"
    )
    assert not math.isclose(shared, 1.64 - 1.91), (
        "shared: that is our best rate. Chosen for us, it is no fair one"
    )
    assert not math.isclose(shared, 1.71 - 1.69), "ours - baseline, not the reverse"
    assert math.isclose(shared, 1.69 - 1.71), (
        f"shared is {shared:.3f}: both means at PreNorm's best rate are wanted"
    )
    assert not math.isclose(own, 1.62 - 1.50), (
        "own: the best seed of each is luck; take the best mean of each"
    )
    assert math.isclose(own, 1.64 - 1.71), (
        f"own is {own:.3f}: each at the rate where its own mean is lowest"
    )


@exercise("04.4")
def decays_matrices_only(decays):
    for residual in ("prenorm", "full", "block", "static", "highway"):
        for name, parameter in small_model(residual).named_parameters():
            found = decays(name, parameter)
            shape = list(parameter.shape)
            of_stream = name.startswith("stream.")
            expected = parameter.dim() >= 2 and not of_stream
            if found == expected:
                continue
            if of_stream:
                reason = (
                    "is what the residual stream learns, whatever its shape: decay pulls "
                    "it to zero, back to the mean of the initialisation"
                )
            elif expected:
                reason = "is a matrix and decays"
            else:
                reason = "is a norm's weight: decay would pull it to zero, not to one"
            raise AssertionError(f"{residual}: {name} {shape} {reason}")
