"""Notebook 04: its figures show what they were given, and its answer to "does it last?"
follows the runs that are recorded, be it none, some or all."""

import math

import pytest

import cells
from attnres_ref import plots
from attnres_ref.plots import dynamics
from attnres_ref.study import compare
from attnres_ref.study.intervals import Difference, t_quantile

GAPS = {
    300: dict(block=Difference(-0.08, 0.01, 5, 4), full=Difference(0.01, 0.03, 5, 4)),
    600: {},
}


def test_a_length_without_runs_is_named_and_the_others_have_their_intervals():
    within = dict(block=[[50, -0.2], [300, -0.1]], full=[[50, -0.1], [300, -0.1]])
    ax = dynamics.horizons(GAPS, within, "t").axes[0]
    drawn = []
    for line, _, (bars,) in ax.containers:
        low, high = bars.get_segments()[0][:, 1]
        drawn.append((line.get_ydata()[0], (high - low) / 2, line.get_markerfacecolor()))
    half = t_quantile(0.95, 4) / math.sqrt(5)
    assert drawn == [
        (-0.08, pytest.approx(0.01 * half), plots.STYLES["block"][1]),
        (0.01, pytest.approx(0.03 * half), "white"),
    ]
    notes = [(note.get_text().strip(), note.get_position()[0]) for note in ax.texts]
    assert notes == [("not run yet", 600)]
    assert [[*line.get_ydata()] for line in ax.lines][1] == [-0.2, -0.1]


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
    assert first.get_title() == "prenorm\n1.300"
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


@pytest.mark.parametrize("pairs, gain, expected", [
    ([], 0, ["0 of 60 runs recorded",
             "Does it last? Not told yet: fewer than 5 pairs at 2400 steps."]),
    (ALL[:5], -0.05, ["15 of 60 runs recorded",
                      "  300 steps, full - prenorm: -0.0500 +/- 0.0020 (5 seeds): better",
                      "Does it last? Not told yet: fewer than 5 pairs at 2400 steps."]),
    (ALL[:19], -0.05, ["57 of 60 runs recorded",
                       "Does it last? Not told yet: fewer than 5 pairs at 2400 steps."]),
    (ALL, -0.05, ["60 of 60 runs recorded",
                  "Is the gain of full still there at 2400 steps? "
                  "yes (5 of 5 seeds, p = 0.000 for two tests)"]),
    (ALL, 0.05, ["Is the gain of full still there at 2400 steps? no, it has turned into "
                 "a loss (5 of 5 seeds, p = 0.000 for two tests)"]),
    (ALL, 0.0, ["Is the gain of block still there at 2400 steps? "
                "cannot tell (5 of 5 seeds, p = 1.000 for two tests)"]),
])
def test_the_answer_follows_what_is_recorded(pairs, gain, expected, monkeypatch, capsys):
    page, = (path for path in cells.notebooks() if path.name.startswith("04"))
    by_id = {cell["id"]: cell.source for cell in cells.read(page).cells}
    monkeypatch.chdir(cells.ROOT / "notebooks")
    monkeypatch.setattr(plots, "show", lambda figure, alt: None)
    noise = 0.00161 / math.sqrt(2.5)           # of five seeds: an interval of +/- 0.0020
    runs = [
        long_run(name, steps, seed,
                 1.5 + (name != "prenorm") * (gain + noise * (seed - 2)))
        for steps, seed in pairs for name in ("prenorm", "block", "full")
    ]
    names = {"__name__": "__main__"}
    exec(by_id["04-02"], names)
    ours = names["recorded"]
    names["recorded"] = lambda name: (
        dict(python_sources=runs) if name == "horizon" else ours(name)
    )
    for cell in ("04-06", "04-06-2", "04-08"):
        exec(by_id[cell], names)
    said = capsys.readouterr().out.splitlines()
    assert set(expected) <= {*said}
    assert ("Not told" in said[-1]) == (len(pairs) < 20)
