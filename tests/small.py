"""What can be trained in a test: a model, a recipe, a corpus; and ways to be killed."""

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from attnres_ref import LMConfig
from attnres_ref.training import TrainConfig, train
from tiny_data import Corpus

MODEL = LMConfig(d_model=8, n_layers=4, n_heads=2, context=8, residual="full")
RECIPE = TrainConfig(
    steps=12, batch_size=2, lr=2e-3, warmup_steps=2,
    eval_every=5, eval_windows=3, checkpoint_every=4,
)


def corpus(length=2000):
    text = torch.randint(256, (length,), generator=torch.Generator().manual_seed(3))
    return Corpus("random bytes", text.to(torch.uint8))


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the code may catch it."""


def kill():
    raise Killed


def corpus_that(act, at_step):
    """The corpus, which calls `act` when the batch of `at_step` is drawn."""

    class Acting(Corpus):
        def batch(self, seed, step, *size):
            if step == at_step:
                act()
            return super().batch(seed, step, *size)

    return Acting("random bytes", corpus().tokens)


def train_until_killed(at_step, folder):
    with pytest.raises(Killed):
        train(MODEL, RECIPE, corpus_that(kill, at_step), folder)


@cache
def whole_run():
    """The run that nothing interrupts, and the text of its metrics.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(MODEL, RECIPE, corpus(), folder)
        return run, Path(folder, "metrics.jsonl").read_text()


def assert_resumes_as_the_whole_run(folder):
    run, (whole, text) = train(MODEL, RECIPE, corpus(), folder, resume=True), whole_run()
    assert (folder / "metrics.jsonl").read_text() == text and run.metrics == whole.metrics
    assert same_weights(run.model, whole.model)


def same_weights(model, other):
    return all(map(torch.equal, model.parameters(), other.parameters()))
