"""The recorded sweeps: names tell runs apart, and every promised row is there."""

from collections import defaultdict
from dataclasses import asdict

import pytest

import record
import sweeps
from attnres_ref.notebook import recorded
from attnres_ref.streams import STREAMS


@pytest.mark.parametrize("name", sweeps.SWEEPS)
def test_every_run_of_a_sweep_has_a_name_of_its_own(name):
    for corpus, trials in sweeps.SWEEPS[name]().items():
        names = [trial.name for trial in trials]
        assert names and len(names) == len(set(names)), corpus


def test_runs_that_studies_share_by_name_are_the_same_run():
    runs = defaultdict(set)
    for study in sweeps.STUDIES:
        for trial in (trial for trials in study().values() for trial in trials):
            runs[trial.name].add(trial)
    assert all(len(same) == 1 for same in runs.values())


def test_every_residual_is_ablated_with_three_paired_seeds():
    seeds = defaultdict(list)
    for trial in sweeps.ablations()["python_sources"]:
        size = trial.model
        row = size.residual, size.block_size, size.window, size.scaled_init
        seeds[row].append(trial.train.seed)
        assert trial.train.lr == sweeps.LR
    assert {residual for residual, _, _, _ in seeds} == set(STREAMS)
    assert {S for residual, S, _, _ in seeds if residual == "block"} == {2, 4, 8, 16}
    assert {W for residual, _, W, _ in seeds if residual == "window"} == {4, 8}
    assert set(map(tuple, seeds.values())) == {(0, 1, 2)}


@pytest.mark.parametrize("sweep", [sweeps.scaling, sweeps.scaling_gpu])
def test_a_scaling_run_sees_its_tokens_per_parameter(sweep):
    (trials,) = sweep().values()
    for trial in trials:
        size, recipe = trial.model, trial.train
        parameters = 6 * size.d_model**2 * size.n_layers
        tokens = recipe.steps * recipe.batch_size * size.context
        assert tokens / parameters == pytest.approx(sweeps.TOKENS_PER_PARAMETER, rel=0.02)


@pytest.mark.parametrize("name", sweeps.PUZZLES)
def test_puzzles_pair_seeds_of_models_that_fit_the_task(name):
    task, seeds, recipes = sweeps.corpus(name), defaultdict(list), defaultdict(set)
    for trial in sweeps.puzzles()[name]:
        size, recipe = trial.model, trial.train
        seeds[size.n_layers, size.residual].append(recipe.seed)
        recipes[size.n_layers].add((recipe.lr, recipe.steps, recipe.batch_size))
        assert size.vocab_size == task.vocab_size >= task.n_tokens
        task.batch(0, 0, 1, size.context)          # there is room for a question
    depths = (4, 8) if name == "pointer_chasing" else (8,)
    assert seeds == {
        (depth, residual): [0, 1, 2, 3, 4] for depth in depths for residual in sweeps.MAIN
    }
    assert all(len(of_depth) == 1 for of_depth in recipes.values())


def test_the_tool_says_which_sweeps_there_are():
    told = record.__doc__
    assert [name for name in sweeps.SWEEPS if name not in told] == []


@pytest.mark.parametrize("sweep", [sweeps.hybrid, sweeps.hybrid_start])
def test_a_hybrid_has_three_kda_to_one_mla_and_pairs_its_seeds(sweep):
    pairs = defaultdict(set)
    for trial in sweep()["python_sources"]:
        names = trial.model.layer_names
        assert names.count("kda") == 3 * names.count("mla") and names[1::2] == ("moe",) * 8
        assert trial.model.block_size == 6
        recipe = trial.train.lr, trial.train.seed, trial.model.scaled_init
        pairs[recipe].add(trial.model.residual)
    for (lr, _, _), residuals in pairs.items():          # half the rate: PreNorm alone
        assert residuals == ({"prenorm", "block"} if lr >= sweeps.LR else {"prenorm"})
    for rate in {lr for lr, _, _ in pairs} - {sweeps.LR / 2}:
        assert {seed for lr, seed, _ in pairs if lr == rate} == {0, 1, 2}


@pytest.mark.parametrize("name", sweeps.PUZZLES)
def test_the_recorded_puzzles_are_those_of_the_sweep(name):
    runs = recorded("puzzles")[name]
    assert [run["name"] for run in runs] == [trial.name for trial in sweeps.puzzles()[name]]
    for run, trial in zip(runs, sweeps.puzzles()[name]):
        assert run["data"] == sweeps.corpus(name).fingerprint
        for kept, config in ((run["model"], trial.model), (run["train"], trial.train)):
            assert kept.items() <= asdict(config).items()
        assert [step for step, _ in run["observed"]] == [
            *range(0, trial.train.steps + 1, trial.train.eval_every)
        ]
