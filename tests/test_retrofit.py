"""The retrofit's plan, its runs, and that the records are what they say."""

import json
from dataclasses import replace

import pytest

import plan
import retrofit
import small
from attnres_ref.notebook import recorded
from retrofit import ARMS, Retrofit

RATES, JUDGED = (recorded(name)[plan.CORPUS] for name in ("retrofit_rates", "retrofit"))


@pytest.mark.parametrize("record", RATES + JUDGED, ids=lambda record: record["name"])
def test_a_record_is_what_it_says(record):
    trained_as, goes_on_as = ARMS[record["arm"]]
    run = Retrofit(record["arm"], record["seed"], record["train"]["lr"],
                   record["train"]["query_lr_scale"])
    assert record["name"] == run.name and record["model"]["residual"] == goes_on_as
    assert record["train"]["seed"] == 1000 + record["seed"]
    assert record["trained"].startswith(f"{trained_as}-steps400-")
    assert record["trained"].endswith(f"-seed{record['seed']}")
    assert record["data"]["validation"] == run.half
    assert record["step"] == 400 == record["val_curve"][-1][0]
    assert record["dirty"] is False
    # Converted it is the same function, and its queries are at zero; later they are not.
    assert record["start_loss"] == pytest.approx(record["trained_loss"], abs=1e-5)
    (first, zero), (last, moved) = record["query_rms"][0], record["query_rms"][-1]
    assert (first, last) == (0, 400)
    if goes_on_as == "prenorm":
        assert zero == moved == []
    else:
        assert any(zero) == (trained_as != "prenorm") and all(moved[1:])


def test_the_seeds_are_whole_and_the_arms_of_one_begin_alike():
    by_seed = {}
    for record in JUDGED:
        by_seed.setdefault(record["seed"], {})[record["arm"]] = record
    assert list(by_seed) == [*retrofit.SEEDS]
    for arms in by_seed.values():
        assert arms.keys() == ARMS.keys()
        assert len({arms[a]["trained_loss"] for a in ("prenorm", "block", "full")}) == 1
    losses = [record["val_loss"] for record in JUDGED]
    assert len({*losses}) == len(losses)


def test_the_judged_rates_are_those_that_tuning_chose():
    chosen = retrofit.chosen(RATES)
    found = {
        arm: {(r["train"]["lr"], r["train"]["query_lr_scale"]) for r in JUDGED
              if r["arm"] == arm} for arm in ARMS
    }
    assert found == {arm: {rate} for arm, rate in chosen.items()}
    for arm, (lr, _) in chosen.items():                # no best at an end of what was tried
        tried = {r["train"]["lr"] for r in RATES if r["arm"] == arm}
        assert min(tried) < lr < max(tried)


def test_the_choice_is_the_lowest_mean_over_both_tuning_seeds():
    def record(arm, lr, seed, loss):
        return dict(arm=arm, seed=seed, val_loss=loss,
                    train=dict(lr=lr, query_lr_scale=1.0))

    records = [record("full", 1e-3, 100, 1.0), record("full", 1e-3, 101, 2.0),
               record("full", 2e-3, 100, 1.2), record("full", 2e-3, 101, 1.4),
               record("full", 4e-3, 100, 0.1)]          # on one seed only
    assert retrofit.chosen(records) == {"full": (2e-3, 1.0)}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The study at the size of a test."""
    size = replace(
        plan.STUDY, model=dict(d_model=8, n_layers=4, n_heads=2, context=8),
        train=replace(plan.STUDY.train, steps=4, batch_size=2, warmup_steps=1, eval_every=2,
                      checkpoint_every=2),
    )
    recipe = plan.Recipe(1e-2, True, 0.25)
    monkeypatch.setattr(retrofit, "STUDY", size)
    monkeypatch.setattr(retrofit, "RUNS", tmp_path)
    monkeypatch.setattr(retrofit, "CURVE_WINDOWS", 4)
    monkeypatch.setattr(retrofit, "TUNING_WINDOWS", 4)
    monkeypatch.setattr(plan, "recipes", lambda: dict.fromkeys(plan.ARMS, recipe))
    return small.corpus()


@pytest.mark.parametrize("arm", ARMS)
def test_a_run(tiny, arm):
    record = json.loads(json.dumps(retrofit.measured(Retrofit(arm, 100, 1e-2, 4.0), tiny)))
    assert record["start_loss"] == pytest.approx(record["trained_loss"], abs=1e-5)
    assert record["val_loss"] != pytest.approx(record["start_loss"], abs=1e-4)
    assert record["train"]["query_lr_scale"] == 4.0 and record["windows"] == 4
    assert [step for step, _ in record["val_curve"]] == [2, 4]
    again = retrofit.measured(Retrofit(arm, 100, 1e-2, 4.0), tiny)     # from the file
    assert again["val_loss"] == record["val_loss"]


def test_arms_go_on_with_the_same_batches_which_are_not_the_first_runs(tiny):
    runs = [Retrofit(arm, 100, 1e-2) for arm in ARMS]
    assert len({run.continued.train.seed for run in runs}) == 1
    assert all(run.trained.train.seed == 100 for run in runs)


def test_nothing_is_chosen_before_the_grid_is_there(tiny):
    grid = retrofit.rates()
    assert {run.seed for run in grid} == {plan.TUNING_SEEDS[0]}
    for place, run in enumerate(grid):
        loss = 2.0 if run.lr == retrofit.RATES[1] else 3.0 + place
        retrofit.file(run).write_text(json.dumps(dict(val_loss=loss)), encoding="utf-8")
    more = retrofit.rates()[len(grid):]
    assert {run.seed for run in more if run.query_lr_scale != 0.25} == {101}
    assert {run.arm for run in more if run.query_lr_scale == 0.25} == {"block", "full"}
    assert {run.lr for run in more} >= {retrofit.RATES[1]}
