"""The plan: what is chosen from records, and that nothing is chosen from a part of them."""

import ast
import contextlib
from collections import Counter
from dataclasses import asdict, replace

import pytest

import cells
import plan
from plan import ARMS, GRID, RATES, Recipe


@pytest.fixture
def json(monkeypatch):
    """What is recorded, by sweep: a dict that a test fills."""
    contents = {}

    def recorded(name):
        if name not in contents:
            raise FileNotFoundError(name)
        return contents[name]

    monkeypatch.setattr(plan, "recorded", recorded)
    return contents


def records(trials, loss=lambda trial: 1.0) -> dict:
    """A JSON of these trials, whose losses are made up."""
    return {plan.CORPUS: [
        dict(name=trial.name, model=asdict(trial.model), train=asdict(trial.train),
             val_loss=loss(trial))
        for trial in trials
    ]}


def away_from(lr):
    """A loss that is lowest at this rate, and a little lower from a plain start."""
    return lambda trial: 1 + abs(trial.train.lr - lr) + 1e-6 * trial.model.scaled_init


def best(arm):
    """Each arm's best rate on the grid, made up. Some lie at an edge of it."""
    return RATES[1:-1][list(ARMS).index(arm) % 4]


def of_arm(trial):
    return away_from(best(trial.model.residual))(trial)


def fill(json, *sweeps):
    for sweep in sweeps:
        json[sweep] = records(plan.SWEEPS[sweep](), of_arm)


@pytest.mark.parametrize("content", [None, {}, {plan.CORPUS: []}])
def test_where_nothing_is_recorded_nothing_is_chosen(json, content):
    if content is not None:
        json |= {name: content for name in plan.SWEEPS}
    counts = {name: (len(plan.runs(name)), len(of())) for name, of in plan.SWEEPS.items()}
    assert counts.pop("tuning") == (0, len(ARMS) * len(GRID))
    assert set(counts.values()) == {(0, 0)} and plan.recipes() == {}


def test_nothing_is_chosen_from_a_part_of_a_sweep(json):
    for sweep, next_sweep in (("tuning", "finalists"), ("finalists", "whodunnit"),
                              ("finalists", "horizon_rates")):
        fill(json, sweep)
        whole = json[sweep][plan.CORPUS]
        assert plan.SWEEPS[next_sweep]()
        json[sweep] = {plan.CORPUS: whole[:-1]}
        assert plan.SWEEPS[next_sweep]() == []
        json[sweep] = {plan.CORPUS: whole}


def test_the_choice_is_the_lowest_mean_of_those_on_most_seeds():
    one, two, three = (Recipe(lr, False, 0.1) for lr in (1e-3, 2e-3, 3e-3))
    assert plan.choice({one: [3.0], two: [2.0], three: [4.0]}) == two
    assert plan.choice({one: [3.0, 3.2], two: [2.0], three: [3.3, 2.8]}) == three


def test_finalists_are_the_best_four_and_the_rate_beyond_an_edge(json):
    fill(json, "tuning")
    found = {arm: [] for arm in ARMS}
    for trial in plan.finalists():
        found[trial.model.residual].append((trial.train.lr, trial.train.seed))
        assert trial.train.eval_windows == plan.TUNING_WINDOWS
    for arm, pairs in found.items():
        edges = {RATES[1]: RATES[0], RATES[-2]: RATES[-1]}
        beyond, (first, second) = edges.get(best(arm)), plan.TUNING_SEEDS
        added = [(beyond, first), (beyond, second)] if beyond else []
        assert pairs == 4 * [(best(arm), second)] + added
    names = [trial.name for trial in (*plan.tuning(), *plan.finalists())]
    assert len(names) == len(set(names)) and min(map(len, found.values())) == 4


def test_every_arm_is_judged_at_its_own_recipe_on_fresh_seeds(json):
    fill(json, "tuning", "finalists")
    trials = plan.whodunnit()
    assert len({trial.name for trial in trials}) == len(trials) == 27 * len(ARMS)
    for trial in trials:
        # The rate beyond the edge is worse here, so the grid's own is chosen.
        assert trial.train.lr == best(trial.model.residual)
        assert not trial.model.scaled_init and trial.train.warmup_steps == 40
        assert trial.train.eval_windows == plan.JUDGING_WINDOWS
    seeds = [trial.train.seed for trial in trials]
    assert seeds == sorted(seeds) and not {*seeds} & {*plan.TUNING_SEEDS}
    assert plan.HALVES == {
        "tuning": "tuning", "finalists": "tuning", "horizon_rates": "tuning",
        "whodunnit": "judging", "horizon": "judging", "longer": "judging",
    }


def test_longer_runs_keep_each_arms_recipe_and_its_share_of_warm_up(json):
    fill(json, "tuning", "finalists")
    trials = plan.longer()
    assert len({trial.name for trial in trials}) == len(trials) == 2 * 4 * 5
    for trial in trials:
        assert trial.train.lr == best(trial.model.residual)
        assert trial.train.warmup_steps == trial.train.steps // 10
        assert trial.train.steps in (800, 1600) and trial.train.seed > 2


def test_the_parts_that_two_processes_take_have_every_arm_equally_often(json):
    fill(json, "tuning", "finalists", "horizon_rates")
    for trials in (plan.whodunnit(), plan.horizon(), plan.longer()):
        one, other = (Counter(t.model.residual for t in trials[k::2]) for k in (0, 1))
        assert one.keys() == other.keys()
        assert all(abs(one[arm] - other[arm]) <= 1 for arm in one)


def test_a_rate_is_chosen_anew_at_each_horizon_of_which_all_rates_are_there(json):
    fill(json, "tuning", "finalists")
    rates = {300: 2e-3, 600: 4e-3, 1200: 8e-3, 2400: 2e-3}
    trials = plan.horizon_rates()
    assert len({trial.name for trial in trials}) == len(trials) == 36
    losses = lambda trial: away_from(rates[trial.train.steps])(trial)
    json["horizon_rates"] = records(trials[:-1], losses)
    assert {trial.train.steps for trial in plan.horizon()} == {300, 600, 1200}
    json["horizon_rates"] = records(trials, losses)
    judged = plan.horizon()
    assert len({trial.name for trial in judged}) == len(judged) == 60
    for trial in judged:
        recipe = plan.recipes()[trial.model.residual]
        steps = trial.train.steps
        expected = replace(recipe, lr=rates[steps])
        assert trial == plan.run(
            plan.SIZE, trial.model.residual, trial.train.seed, expected, 3435, steps
        )


def test_the_notebooks_ask_what_the_plan_asks():
    """They say it in their own cells, so that a reader sees what is tested."""
    chosen = [path for path in cells.notebooks() if path.name[:2] in ("04", "05")]
    code = [cell.source for path in chosen for cell in cells.read(path).cells
            if cell.cell_type == "code"]
    constants = {}
    for node in ast.walk(ast.parse("\n".join(code))):
        if isinstance(node, ast.Assign):
            with contextlib.suppress(ValueError):
                constants[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    pairs = [(test.ours, test.baseline) for test in plan.WHODUNNIT]
    assert constants["TESTS"] == pairs and constants["MARGIN"] == plan.MARGIN
    assert constants["(HORIZONS, N_SEEDS)"] == (plan.HORIZONS, len(plan.HORIZON_SEEDS))
    assert constants["ARMS"] == tuple(plan.ARMS)
