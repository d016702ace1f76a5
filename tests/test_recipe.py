"""The recipe: what decays, at what rate each group learns, and in what precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attnres_ref import LM, LMConfig
from attnres_ref.training import TrainConfig, half_precision, learning_rate, make_optimizer
from small import MODEL, RECIPE


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(steps=0), "steps is 0: it must be at least 1"),
        (dict(lr=0.0), "lr is 0.0: it must be above 0"),
        (dict(lr=float("nan")), "lr is nan"),
        (dict(clip=0.0), "clip is 0.0: it must be above 0"),
        (dict(query_lr_scale=-1.0), "query_lr_scale is -1.0: it must be at least 0"),
        (dict(seed=-1), "seed is -1: it must be at least 0"),
        (dict(seed=2**64), "seed is 18446744073709551616: torch takes"),
        (dict(steps=2.5), "steps is 2.5: it must be a whole number"),
        (dict(steps=True), "steps is True: it must be a whole number"),
        (dict(batch_size=None), "batch_size is None: it must be a whole number"),
        (dict(lr="1e-3"), "lr is '1e-3': it must be a finite number"),
        (dict(clip=float("inf")), "clip is inf: it must be a finite number"),
    ],
)
def test_a_bad_recipe_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_numpy_scalars_become_plain_ones():
    """A checkpoint holds the configuration, and is loaded as plain data."""
    recipe = TrainConfig(steps=np.int64(3), lr=np.logspace(-3, -2, 2)[0])
    assert (type(recipe.steps), type(recipe.lr)) == (int, float)
    assert type(LMConfig(tied_head=np.bool_(True)).tied_head) is bool
    assert type(LMConfig(residual=np.str_("full")).residual) is str


def test_matrices_decay_and_what_the_stream_learns_has_a_decay_and_rate_of_its_own():
    model = LM(replace(MODEL, residual="block", block_size=2))
    names = {id(p): name for name, p in model.named_parameters()}
    recipe = replace(RECIPE, query_lr_scale=0.25, query_weight_decay=0.3)
    optimizer = make_optimizer(model, recipe)
    matrices, vectors, stream = optimizer.param_groups
    of_stream = {names[id(p)] for p in stream["params"]}
    assert of_stream == {"stream.queries", "stream.queries_norm"}
    assert stream["weight_decay"] == 0.3 and stream["lr_scale"] == 0.25
    assert make_optimizer(model, RECIPE).param_groups[2]["weight_decay"] == 0
    assert all("norm" in names[id(p)] for p in vectors["params"])
    assert all(p.dim() == 2 for p in matrices["params"])
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    assert optimizer.defaults["betas"] == (0.9, 0.95)


def test_learning_rate_warms_up_and_falls():
    config = TrainConfig(steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == [pytest.approx((i + 1) / 10) for i in range(10)]
    assert rates[10] == 1.0 and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55) and 0.1 < rates[-1] < 0.11


def test_precision_follows_the_device(monkeypatch):
    assert half_precision(torch.device("cpu")) is None
    for capability, dtype in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert half_precision(torch.device("cuda")) == dtype
