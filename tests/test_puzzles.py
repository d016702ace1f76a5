"""Puzzles: solvable from their tokens, never in both splits, and measured by hops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnres_ref import LMConfig
from attnres_ref.study.puzzles import (
    accuracy_by_hops,
    accuracy_observer,
    final_accuracies,
)
from attnres_ref.training import TrainConfig, train
from tiny_data import ChainedAddition, PointerChasing
from tiny_data.puzzles import IGNORED, PADDING, is_held_out

TASKS = (PointerChasing(), ChainedAddition())


def pointer_tasks():
    sizes = st.integers(6, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(1, n // 2))
    )
    return sizes.map(lambda size: PointerChasing(*size, vocab_size=1000))


def chained_tasks():
    sizes = st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(1, 3))
    enough = sizes.filter(lambda size: size[0] ** (size[1] * size[2]) >= 60)
    return enough.map(lambda size: ChainedAddition(*size, vocab_size=2000))


def read_map(task, tokens):
    """The map of one sequence, from its tokens."""
    pairs = [token - task.first_pair for token in tokens if token >= task.first_pair]
    return dict(divmod(pair, task.n_symbols) for pair in pairs)


def read_assignments(task, tokens):
    """variable -> (reference, constant) of one sequence, from its tokens."""
    found = {}
    for token in tokens:
        if token >= task.first_assignment:
            rest, constant = divmod(token - task.first_assignment, task.modulus)
            variable, reference = divmod(rest, task.n_variables + 1)
            found[variable] = reference, constant
    return found


def puzzles_of(task, inputs):
    read = read_map if task.name == "pointer_chasing" else read_assignments
    return {tuple(sorted(read(task, row).items())) for row in inputs.tolist()}


def facts_of(puzzle):
    return np.array([fact for _, fact in puzzle])[None]


# --- every sample is solvable, from its tokens ----------------------------------------


@given(
    st.one_of(pointer_tasks(), chained_tasks()), st.integers(0, 2**32), st.integers(0, 9)
)
@settings(max_examples=40, deadline=None)
def test_the_solver_answers_every_sample(task, seed, spare):
    context = task.n_stated + task.n_asked + spare
    for inputs, targets in (
        task.batch(seed, 3, batch_size=4, context=context),
        task.validation_windows(4, context),
    ):
        assert [task.solve(row) for row in inputs.tolist()] == targets.tolist()
        assert inputs.max() < task.n_tokens <= task.vocab_size


@given(pointer_tasks(), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_map_is_one_cycle_so_no_step_returns(task, seed):
    inputs, _ = task.batch(seed, 0, batch_size=4, context=40)
    for row in inputs.tolist():
        f, at, met = read_map(task, row), 0, []
        for _ in range(task.n_symbols):
            at = f[at]
            met.append(at)
        assert sorted(met) == list(range(task.n_symbols)) and met[-1] == 0


@given(chained_tasks(), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_value_takes_as_many_sums_as_its_hops_say(task, seed):
    batch = task.sample(np.random.SeedSequence(seed), 4, 40)
    for row, hops in zip(batch.inputs.tolist(), batch.hops.tolist()):
        assignments = read_assignments(task, row)
        for token, k in zip(row, hops):
            if k:
                at, steps = token - 1 - task.modulus, 0
                while at != task.n_variables:
                    at, steps = assignments[at][0], steps + 1
                assert steps == k
        assert sorted(hops)[-task.n_variables :] == [
            k for k in range(1, task.hops + 1) for _ in range(task.width)
        ]


@pytest.mark.parametrize("task", TASKS)
def test_a_question_does_not_contain_its_answer(task):
    """The loss is that of the answers: they are targets only, where the model asks."""
    inputs, targets, hops = task.validation(256, 40)
    assert ((targets != IGNORED) == (hops > 0)).all()
    asked = targets[:, task.n_stated :] != IGNORED
    assert asked.any() and (targets[:, : task.n_stated] == IGNORED).all()
    questions = inputs[:, task.n_stated :]
    if task.name == "pointer_chasing":         # start and answer differ, k is no symbol
        assert (inputs != targets).all()
        assert asked[:, 1::2].all() and not asked[:, ::2].any()
    else:                                      # names are no values
        assert (questions[questions != PADDING] > task.modulus).all()


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


# --- splits and seeds -----------------------------------------------------------------


@pytest.mark.parametrize("task", [PointerChasing(6, 3), *TASKS])
def test_no_puzzle_is_in_both_splits(task):
    """With six symbols there are 120 maps: both splits are seen whole."""
    train = set().union(
        *(puzzles_of(task, task.batch(seed, 0, 512, 40)[0]) for seed in range(3))
    )
    held_out = puzzles_of(task, task.validation_windows(512, 40)[0])
    assert train and held_out and not train & held_out
    if task.n_tokens == PointerChasing(6, 3).n_tokens:
        assert len(train) + len(held_out) == 120


@pytest.mark.parametrize("task", TASKS)
def test_the_split_is_a_function_of_what_the_puzzle_says(task):
    for validation in (False, True):
        batch = task.sample(np.random.SeedSequence(5), 64, 40, validation)
        for puzzle in puzzles_of(task, batch.inputs):
            assert is_held_out(facts_of(puzzle)).tolist() == [validation]


@pytest.mark.parametrize("task", TASKS)
def test_a_tenth_is_held_out(task):
    facts = task.draw(np.random.default_rng(0), 20_000)
    assert is_held_out(facts).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_depends_on_seed_and_step_only(task):
    first = task.batch(1, 2, 8, 40)
    again = task.batch(1, 2, 8, 40)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    for seed, step in ((1, 3), (2, 2)):
        assert not torch.equal(first[0], task.batch(seed, step, 8, 40)[0])
    windows = task.validation_windows(8, 40), task.validation_windows(8, 40)
    assert all(torch.equal(a, b) for a, b in zip(*windows))
    assert first[0].dtype == first[1].dtype == torch.int64
    assert first[0].shape == first[1].shape == (8, 40)


def test_the_fingerprint_tells_settings_apart():
    seen = [task.fingerprint for task in (*TASKS, PointerChasing(10), ChainedAddition(2))]
    assert seen[0] == dict(name="pointer_chasing", n_symbols=8, hops=4, vocab_size=256)
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


# --- settings that cannot be ----------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PointerChasing(8, 5), "hops is 5: .* at most 4 hops or more symbols"),
        (lambda: PointerChasing(8, 9), "hops is 9: "),
        (lambda: PointerChasing(8, 0), "hops must be at least 1, got 0"),
        (lambda: PointerChasing(3, 1), "n_symbols is 3: make it at least 6"),
        (lambda: PointerChasing(8, 4, 64), "vocab_size is 64: .* writes 77 tokens; raise"),
        (lambda: ChainedAddition(1), "modulus must be at least 2, got 1"),
        (lambda: ChainedAddition(3, 0), "hops must be at least 1, got 0"),
        (lambda: ChainedAddition(3, 3, 0), "width must be at least 1, got 0"),
        (lambda: ChainedAddition(2, 1, 1), "too few puzzles to hold some out; raise"),
        (lambda: ChainedAddition(9, 5), "vocab_size is 256: .* writes 1010 tokens"),
    ],
)
def test_an_impossible_setting_names_value_and_fix(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("task, needed", [(TASKS[0], 10), (TASKS[1], 7)])
def test_a_context_without_room_for_a_question_is_named(task, needed):
    task.batch(0, 0, 2, needed)
    message = f"context is {needed - 1}: .* needs at least {needed}; use a longer context"
    for call in (
        lambda: task.batch(0, 0, 2, needed - 1),
        lambda: task.validation_windows(2, needed - 1),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(seed=-1), "seed must be at least 0, got -1"),
        (dict(step=-1), "step must be at least 0, got -1"),
    ],
)
def test_sizes_out_of_range_are_named(change, message):
    usual = dict(seed=0, step=0, batch_size=1, context=40)
    with pytest.raises(ValueError, match=message):
        TASKS[0].batch(**usual | change)
    with pytest.raises(ValueError, match="n_windows must be at least 1, got 0"):
        TASKS[0].validation_windows(0, 40)


# --- accuracy -------------------------------------------------------------------------


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
    batch = task.validation(16, 40)
    for reach in range(task.hops + 1):
        expected = [1.0] * reach + [0.0] * (task.hops - reach)
        assert accuracy_by_hops(Oracle(task, reach), *batch) == expected


def test_a_number_of_hops_that_nobody_asks_is_an_error():
    inputs, targets, hops = TASKS[0].validation(16, 40)
    with pytest.raises(ValueError, match="among 16 sequences takes 2 hops: pass more"):
        accuracy_by_hops(Oracle(TASKS[0], 4), inputs, targets, hops.where(hops != 2, 0))


@pytest.mark.parametrize("residual", ["prenorm", "block", "full"])
@pytest.mark.parametrize("task", TASKS)
def test_train_takes_a_puzzle_for_a_corpus(task, residual):
    size = dict(vocab_size=task.vocab_size, d_model=16, n_layers=4, n_heads=2, context=24)
    recipe = TrainConfig(
        steps=3, batch_size=4, warmup_steps=1, eval_every=3, eval_windows=8
    )
    run = train(LMConfig(residual=residual, **size), recipe, task,
                observe=accuracy_observer(task, n_windows=64))
    assert run.result["data"] == task.fingerprint
    assert len(run.result["accuracy"]) == task.hops
    # The loss is the mean over answers alone.
    inputs, targets = task.validation_windows(8, 24)
    chances = run.model(inputs).log_softmax(-1)
    answered = targets != IGNORED
    expected = -chances[answered].gather(-1, targets[answered][:, None]).mean()
    assert run.val_loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_small_model_learns_one_hop():
    task = PointerChasing(6, 1, vocab_size=50)
    size = dict(vocab_size=50, d_model=32, n_layers=2, n_heads=2, context=24)
    recipe = TrainConfig(steps=200, batch_size=16, lr=8e-3, warmup_steps=20, eval_every=200)
    run = train(LMConfig(residual="prenorm", **size), recipe, task,
                observe=accuracy_observer(task))
    assert run.result["accuracy"][0] > 0.9 > task.chance


def test_records_are_sorted_by_depth_and_seed():
    records = [
        dict(
            model=dict(n_layers=depth, residual="full"), train=dict(seed=seed),
            observed=[[0, dict(accuracy=[0.1])], [9, dict(accuracy=[depth + seed / 10])]],
        )
        for seed in (1, 0)
        for depth in (8, 4)
    ]
    found = final_accuracies(records)
    assert found == {4: dict(full=[[4.0], [4.1]]), 8: dict(full=[[8.0], [8.1]])}
    assert list(found) == [4, 8]
