"""Notebook 04: its figures show what they were given, and its answer to "does it last?"
follows the runs that are recorded, be it none, some or all."""

import math

import pytest

import cells
from attnres_ref import plots
from attnres_ref.plots import dynamics
from attnres_ref.study import compare
from attnres_ref.study.intervals import Difference, t_quantile
from attnres_ref.training.recipe import TrainConfig, learning_rate

GAPS = {
    300: dict(block=Difference(-0.08, 0.01, 5, 4), full=Difference(0.01, 0.03, 5, 4)),
    600: dict(block=Difference(-0.06, 0.01, 2, 1), full=Difference(-0.03, 0.01, 5, 4)),
}


def test_gaps_have_their_intervals_at_each_length_and_the_guess_lies_beside_them():
    figure = dynamics.horizons({"a": GAPS, "b": GAPS}, "t", {300: -0.1, 600: -0.2})
    left, right = figure.axes
    assert [text.get_text() for text in (left.title, right.title)] == ["a", "b"]
    drawn = {}
    for line, _, (bars,) in right.containers:
        low, high = bars.get_segments()[0][:, 1]
        (x,), (y,) = line.get_data()
        steps = min(GAPS, key=lambda n: abs(n - x))
        drawn[steps, y] = (high - low) / 2, line.get_markerfacecolor()
    five = t_quantile(0.95, 4) / math.sqrt(5)
    assert drawn == {
        (300, -0.08): (pytest.approx(0.01 * five), plots.STYLES["block"][1]),
        (300, 0.01): (pytest.approx(0.03 * five), "white"),
        (600, -0.06): (pytest.approx(0.01 * 12.7062 / math.sqrt(2), rel=1e-4), "white"),
        (600, -0.03): (pytest.approx(0.01 * five), plots.STYLES["full"][1]),
    }
    guesses = [line for line in left.lines if line.get_label() == "your prediction"]
    assert [[*line.get_ydata()] for line in guesses] == [[-0.1, -0.2]]
    assert "your prediction" not in [line.get_label() for line in right.lines]


def test_schedules_mark_every_rate_at_the_end_of_the_shortest():
    configs = [TrainConfig(steps=n, warmup_steps=n // 2, lr=1.0) for n in (80, 20)]
    lines = dynamics.schedules(configs, "t").axes[0].lines
    rates = [line.get_ydata()[0] for line in lines if line.get_marker() == "o"]
    assert rates == [pytest.approx(learning_rate(19, configs[1])), 20 / 40]
    assert rates[0] < 0.2


def test_before_and_after_are_means_with_intervals():
    panels = {"reads": dict(prenorm=[[1, 2, 3], [4, 5, 6]]), "writes": {}}
    line, _, (bars,) = dynamics.before_and_after(panels, "t").axes[0].containers[0]
    assert [*line.get_ydata()] == [2, 5]
    for segment in bars.get_segments():
        assert segment[1, 1] - segment[0, 1] == pytest.approx(2 * 4.302653 / math.sqrt(3))


def test_the_chosen_recipe_is_framed_and_what_was_not_tried_is_empty():
    losses = dict(
        prenorm={"plain": {1e-3: 1.5, 2e-3: 1.4}, "scaled": {2e-3: 1.3}},
        full={"plain": {2e-3: 1.0}, "scaled": {2e-3: 1.1}},
    )
    chosen = dict(prenorm=("scaled", 2e-3), full=("plain", 2e-3))
    first, second, _ = dynamics.tuning(losses, chosen, "t").axes
    grid = first.images[0].get_array().filled(math.nan).tolist()
    assert grid[0][0] == 1.5 and math.isnan(grid[0][1]) and grid[1] == [1.4, 1.3]
    assert [ax.lines[0].get_xydata().tolist() for ax in (first, second)] == [
        [[1, 1]], [[0, 1]]
    ]
    assert first.get_title() == "prenorm: 1.300"
    lightness = [sum(second.images[0].cmap(share)[:3]) for share in (0.0, 1.0)]
    assert lightness[0] < lightness[1]                 # dark is low


def long_run(residual, steps, seed, val_loss):
    return dict(model=dict(residual=residual), train=dict(steps=steps, seed=seed),
                val_loss=val_loss)


def test_complete_keeps_the_seeds_that_all_have_in_their_order():
    runs = [long_run("full", 1, seed, 0) for seed in (2, 0, 1)]
    runs += [long_run("prenorm", 1, seed, 0) for seed in (3, 2, 1)]
    found = compare.complete(runs, ("prenorm", "full"))
    seeds = {name: [*map(compare.seed, of_one)] for name, of_one in found.items()}
    assert seeds == dict(prenorm=[1, 2], full=[1, 2])
    assert compare.complete(runs, ("full", "block")) == dict(full=[], block=[])


HORIZONS = 300, 600, 1200, 2400
ALL = [(steps, seed) for steps in HORIZONS for seed in range(5)]
SIDE = "prenorm", "block", "full", "loud"
LONGER = [(steps, seed) for steps in (800, 1600) for seed in range(3, 8)]
NOISE = 0.00161 / math.sqrt(2.5)               # of five seeds: an interval of +/- 0.0020


def made_up(pairs, arms, gain):
    return [
        long_run(arm, steps, seed,
                 1.5 + (arm != "prenorm") * (gain + NOISE * (seed % 5 - 2)))
        for steps, seed in pairs for arm in arms
    ]


def told(monkeypatch, capsys, longer, horizon=()):
    """What the cells of *Does it last?* print, and the panels that they draw, if recorded
    had these runs. The runs of 400 steps are the notebook's own."""
    page, = (path for path in cells.notebooks() if path.name.startswith("04"))
    by_id = {cell["id"]: cell.source for cell in cells.read(page).cells}
    monkeypatch.chdir(cells.ROOT / "notebooks")
    monkeypatch.setattr(plots, "show", lambda figure, alt: None)
    names = {"__name__": "__main__"}
    exec(by_id["04-02"], names)
    ours = names["recorded"]
    made = dict(longer=longer, horizon=horizon)
    names["recorded"] = lambda name: (
        dict(python_sources=made[name]) if name in made else ours(name)
    )
    for number in range(1, 5):
        exec(by_id[f"04-last-{number}"], names)
    return capsys.readouterr().out.splitlines(), names["panels"]


@pytest.mark.parametrize("pairs, gain, expected", [
    ([], 0, ["the planned test: 0 of 60 runs recorded",
             "Not told yet: fewer than 5 pairs at 2400 steps."]),
    (ALL[:19], -0.05, ["the planned test: 57 of 60 runs recorded",
                       "Not told yet: fewer than 5 pairs at 2400 steps."]),
    (ALL, -0.05, ["the planned test: 60 of 60 runs recorded",
                  "Is the gain of full still there at 2400 steps? "
                  "yes (-0.0500 +/- 0.0020 (5 seeds), p = 0.000 for two tests)"]),
    (ALL, 0.05, ["Is the gain of full still there at 2400 steps? no, it has turned into "
                 "a loss (+0.0500 +/- 0.0020 (5 seeds), p = 0.000 for two tests)"]),
    (ALL, 0.0, ["Is the gain of block still there at 2400 steps? cannot tell "
                "(+0.0000 +/- 0.0020 (5 seeds), p = 1.000 for two tests)"]),
])
def test_the_planned_test_is_told_once_it_is_there(
    pairs, gain, expected, monkeypatch, capsys
):
    longer = made_up(LONGER, SIDE, -0.05)
    horizon = made_up(pairs, SIDE[:3], gain)
    said, panels = told(monkeypatch, capsys, longer, horizon)
    assert set(expected) <= {*said}
    assert ("Not told" in said[-1]) == (len(pairs) < 20)
    assert len(panels) == 1 + bool(pairs)


@pytest.mark.parametrize("pairs, gain, longest, n, way", [
    (LONGER, -0.5, 1600, 5, "yes: -0.5000|down, it gains more"),
    (LONGER, 0.5, 1600, 5, "no, it has turned into a loss: +0.5000|up, it gains less"),
    (LONGER, 0.0, 1600, 5, "cannot tell: +0.0000|up, it gains less"),
    (LONGER[:7], -0.5, 1600, 2, "yes: -0.4985|"),      # five at 800 and two at 1,600 steps
    (LONGER[:6], -0.5, 800, 5, "yes: -0.5000|"),       # one at 1,600 is no pair of pairs
])
def test_the_side_remark_is_told_of_the_seeds_that_every_length_has(
    pairs, gain, longest, n, way, monkeypatch, capsys
):
    said, panels = told(monkeypatch, capsys, made_up(pairs, SIDE, gain))
    answer, moved = said[2:4]
    verdict, direction = way.split("|")
    question = f"Is the gain of full still there at {longest} steps? "
    assert answer.startswith(question + verdict) and answer.endswith(f"({n} seeds)")
    assert moved.endswith(direction)
    (found,) = panels.values()
    assert [*found] == [400, 800, 1600][: 2 + (longest == 1600)]
    assert {gap.n for gaps in found.values() for gap in gaps.values()} == {n}
