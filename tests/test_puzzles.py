"""Puzzles: solvable from their tokens, never in both splits, and measured by hops."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnres_ref import LMConfig
from attnres_ref.study.puzzles import accuracy_by_hops, accuracy_observer, final_accuracies
from attnres_ref.training import TrainConfig, train
from tiny_data import ChainedAddition, PointerChasing
from tiny_data.puzzles import IGNORED, PADDING, is_held_out

TASKS = (PointerChasing(), ChainedAddition())

pointer_tasks = (
    st.tuples(st.integers(6, 12), st.integers(1, 6)).filter(lambda s: s[1] <= s[0] // 2)
    .map(lambda size: PointerChasing(*size, vocab_size=1000))
)
chained_tasks = (
    st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(1, 3))
    .filter(lambda s: s[0] ** (s[1] * s[2]) >= 60)
    .map(lambda size: ChainedAddition(*size, vocab_size=2000))
)


def stated(task, inputs):
    """The puzzles of a batch: each the set of tokens that state it."""
    return {frozenset(row[: task.n_stated]) for row in inputs.tolist()}


@given(pointer_tasks | chained_tasks, st.integers(0, 2**32), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_solver_answers_every_sample(task, seed, spare):
    context = task.n_stated + task.n_asked + spare
    for split in (task.batch(seed, 3, 4, context), task.validation_windows(4, context)):
        inputs, targets = split
        assert [task.solve(row) for row in inputs.tolist()] == targets.tolist()
        assert inputs.max() < task.n_tokens <= task.vocab_size


@given(chained_tasks, st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_value_takes_as_many_sums_as_its_hops_say(task, seed):
    batch, n = task.sample(np.random.SeedSequence(seed), 4, 40), task.n_variables
    for row, hops in zip(batch.inputs.tolist(), batch.hops.tolist()):
        pairs = [(token - task.first_assignment) // task.modulus for token in row[:n]]
        references = dict(divmod(pair, n + 1) for pair in pairs)
        for token, k in zip(row, hops):
            at = token - 1 - task.modulus
            for _ in range(k):
                at = references[at]
            assert k == 0 or at == n           # n stands for none
        assert sorted(hops)[-n:] == sorted([*range(1, task.hops + 1)] * task.width)


@pytest.mark.parametrize("task", TASKS)
def test_a_question_does_not_contain_its_answer(task):
    """The loss is that of the answers: they are targets only, where the model asks."""
    inputs, targets, hops = task.validation(256, 40)
    asked = targets != IGNORED
    assert (asked == (hops > 0)).all() and (inputs != targets).all()
    assert asked.any() and not asked[:, : task.n_stated].any()
    if task.name == "pointer_chasing":         # k, then the start, where the answer is due
        assert asked[:, task.n_stated + 1 :: 2].all()
        assert not asked[:, task.n_stated :: 2].any()
    else:                                      # names are no values
        assert (inputs[asked] > task.modulus).all()


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_as_even_as_the_stated_chance(task):
    """No answer is likelier than another, at any number of hops; see `chance`."""
    inputs, targets, hops = task.validation(4096, 40)
    for k in range(1, task.hops + 1):
        answers = targets[hops == k]
        if task.name == "pointer_chasing":     # as a distance from the start: never 0
            answers = (answers - inputs[hops == k]) % task.n_symbols
        _, counts = answers.unique(return_counts=True)
        assert len(counts) == round(1 / task.chance)
        assert counts.max() / counts.sum() == pytest.approx(task.chance, rel=0.1)


@pytest.mark.parametrize("task", [PointerChasing(6, 3), *TASKS])
def test_no_puzzle_is_in_both_splits(task):
    """With six symbols there are 120 maps: both splits are seen whole."""
    train = stated(task, task.batch(0, 0, 1500, 40)[0])
    held_out = stated(task, task.validation_windows(512, 40)[0])
    assert train and held_out and not train & held_out
    if task == PointerChasing(6, 3):
        assert len(train) + len(held_out) == 120


@pytest.mark.parametrize("task", TASKS)
def test_a_tenth_is_held_out(task):
    facts = task.draw(np.random.default_rng(0), 20_000)
    assert is_held_out(facts).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_depends_on_seed_and_step_only(task):
    first, again = (
        [*task.batch(1, 2, 8, 40), *task.validation_windows(8, 40)] for _ in range(2)
    )
    assert all(map(torch.equal, first, again))
    for tokens in first:
        assert tokens.dtype == torch.int64 and tokens.shape == (8, 40)
    for seed, step in ((1, 3), (2, 2)):
        assert not torch.equal(first[0], task.batch(seed, step, 8, 40)[0])


def test_the_fingerprint_tells_settings_apart():
    expected = dict(name="pointer_chasing", n_symbols=8, hops=4, vocab_size=256)
    assert TASKS[0].fingerprint == expected != TASKS[1].fingerprint
    fingerprint = PointerChasing(np.int64(10)).fingerprint
    assert json.loads(json.dumps(fingerprint)) == expected | dict(n_symbols=10)


@pytest.mark.parametrize("make, message", [
    (lambda: PointerChasing(8, 5), "hops is 5: .* at most 4 hops or more symbols"),
    (lambda: PointerChasing(8, 0), "hops must be at least 1, got 0"),
    (lambda: PointerChasing(8.0), "n_symbols is 8.0: it must be a whole number"),
    (lambda: ChainedAddition(3, True), "hops is True: it must be a whole number"),
    (lambda: ChainedAddition(3, 10**6, 10**6), "vocab_size is 256: .* tokens; raise"),
    (lambda: PointerChasing(3, 1), "n_symbols is 3: make it at least 6"),
    (lambda: PointerChasing(8, 4, 64), "vocab_size is 64: .* writes 77 tokens; raise"),
    (lambda: ChainedAddition(1), "modulus must be at least 2, got 1"),
    (lambda: ChainedAddition(3, 3, 0), "width must be at least 1, got 0"),
    (lambda: ChainedAddition(2, 1, 1), "too few puzzles to hold some out; raise"),
    (lambda: ChainedAddition(9, 5), "vocab_size is 256: .* writes 1010 tokens"),
])
def test_an_impossible_setting_names_value_and_fix(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("task, needed", [(TASKS[0], 10), (TASKS[1], 7)])
def test_a_context_without_room_for_a_question_is_named(task, needed):
    task.batch(0, 0, 2, needed)
    message = f"context is {needed - 1}: .* needs at least {needed}; use a longer context"
    with pytest.raises(ValueError, match=message):
        task.validation_windows(2, needed - 1)


class Oracle(torch.nn.Module):
    """Answers what takes up to `reach` hops, and otherwise the padding token."""

    def __init__(self, task, reach):
        super().__init__()
        self.task, self.reach = task, reach

    def forward(self, inputs):
        batch = self.task.validation(*inputs.shape)
        known = batch.targets.where((batch.hops > 0) & (batch.hops <= self.reach), PADDING)
        return torch.nn.functional.one_hot(known, self.task.vocab_size).float()


@pytest.mark.parametrize("task", TASKS)
def test_accuracy_counts_each_number_of_hops_alone(task):
    inputs, targets, hops = task.validation(16, 40)
    for reach in range(task.hops + 1):
        expected = [1.0] * reach + [0.0] * (task.hops - reach)
        assert accuracy_by_hops(Oracle(task, reach), inputs, targets, hops) == expected
    with pytest.raises(ValueError, match="among 16 sequences takes 2 hops: pass more"):
        accuracy_by_hops(Oracle(task, 4), inputs, targets, hops.where(hops != 2, 0))


@pytest.mark.parametrize("task", TASKS)
def test_train_takes_a_puzzle_for_a_corpus(task):
    model = LMConfig(task.vocab_size, d_model=16, n_layers=4, n_heads=2, context=24)
    recipe = TrainConfig(steps=3, batch_size=4, eval_every=3, eval_windows=8)
    run = train(model, recipe, task, observe=accuracy_observer(task, n_windows=64))
    assert run.result["data"] == task.fingerprint
    expected = accuracy_by_hops(run.model, *task.validation(64, 24))
    assert run.result["accuracy"] == pytest.approx(expected, abs=5e-5)
    # The loss is the mean over answers alone.
    inputs, targets = task.validation_windows(8, 24)
    chances = run.model(inputs).log_softmax(-1)
    answered = targets != IGNORED
    expected = -chances[answered].gather(-1, targets[answered][:, None]).mean()
    assert run.val_loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_small_model_learns_one_hop():
    task = PointerChasing(6, 1, vocab_size=50)
    model = LMConfig(50, d_model=32, n_layers=2, n_heads=2, context=24, residual="prenorm")
    recipe = TrainConfig(steps=200, batch_size=16, lr=8e-3, warmup_steps=20, eval_every=200)
    run = train(model, recipe, task, observe=accuracy_observer(task))
    assert run.result["accuracy"][0] > 0.9 > task.chance


def test_records_are_sorted_by_depth_and_seed():
    records = [
        dict(model=dict(n_layers=depth, residual="full"), train=dict(seed=seed),
             observed=[[0, dict(accuracy=[0.1])], [9, dict(accuracy=[depth + seed / 10])]])
        for seed in (1, 0) for depth in (8, 4)
    ]
    accuracies = final_accuracies(records)
    assert list(accuracies.items()) == [
        (4, dict(full=[[4.0], [4.1]])), (8, dict(full=[[8.0], [8.1]]))
    ]
