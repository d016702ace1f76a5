"""What notebook 06 says of plans for the next sweep follows from the recorded one and from
the solution of its exercise."""

import math

import pytest

import cells
from attnres_ref.notebook import recorded
from attnres_ref.study import scaling
from attnres_ref.study.intervals import t_quantile
from exercises import nb06

NOTEBOOK = cells.read(cells.ROOT / "notebooks" / "06_scaling.ipynb")
RUNS = scaling.sweep(recorded("scaling")["python_sources"], scaling.compute)
SIZES = [size / min(RUNS["prenorm"]) for size in RUNS["prenorm"]]
FUNDS = 2 * sum(SIZES)                 # of the recorded sweep, two pairs at each size


@pytest.fixture(scope="module")
def plan():
    exercise, = (e for e in cells.exercises(NOTEBOOK) if e.name == "06.4")
    namespace = {"math": math}
    exec(exercise.solution, namespace)
    return namespace["plan"]


@pytest.fixture(scope="module")
def said():
    """The text of the solution."""
    text, = (c.source for c in NOTEBOOK.cells
             if "def plan" in c.source and "solution" in cells.tags(c))
    return text


def half_width(pairs):
    """Up to a factor."""
    x = [*map(math.log, SIZES)]
    middle = sum(n * a for n, a in zip(pairs, x)) / sum(pairs)
    Q = sum(n * (a - middle) ** 2 for n, a in zip(pairs, x))
    return t_quantile(0.95, sum(pairs) - 5) / math.sqrt(Q)


def test_the_check_has_the_sizes_of_the_record_and_the_plans_of_the_solution(plan):
    assert [*map(round, SIZES)] == [*map(round, nb06.SIZES)]
    for budget, known in nb06.PLANS:
        assert plan(nb06.SIZES, budget) == known


def test_four_times_the_funds(plan, said):
    pairs = plan(SIZES, 4 * FUNDS)
    *first, last = pairs
    gain = half_width([8] * 5) / half_width(pairs)
    assert (f"{', '.join(map(str, first))} and {last} pairs, and its interval is "
            f"{gain:.1f} times as narrow as that of eight") in said
    assert f"third size get {pairs[2]} pairs" in said


def test_what_a_small_half_width_takes(plan, said):
    _, found = scaling.advantage(RUNS["block"], RUNS["prenorm"])
    assert f"{found.half_width:.4f}" == "0.0069"
    enough = half_width([2] * 5) * 0.001 / found.half_width
    funds = next(k for k in range(1, 99) if half_width(plan(SIZES, k * FUNDS)) <= enough)
    equal = next(n for n in range(2, 999) if half_width([n] * 5) <= enough)
    assert f"takes {funds} times" in said and f"{equal / 2:.0f} times with equal" in said
    assert half_width(plan(SIZES, 1.2 * FUNDS)) < half_width([2] * 5) / 2


def test_what_two_sizes_buy(said):
    def worth(c):
        return (math.log(c) / (1 + math.sqrt(c))) ** 2

    second, third, fourth, largest = map(worth, SIZES[1:])
    assert (f"{second:.2f} for the second size, {third:.2f} for the third, "
            f"{fourth:.2f} for the fourth and {largest:.2f} for the largest") in said
    c, small, large = SIZES[2], math.sqrt(SIZES[2]), 1         # pairs, for any budget
    Q = small * large / (small + large) * math.log(c) ** 2
    assert Q / (small + large * c) == pytest.approx(third)


def test_students_factor_falls_as_the_task_says():
    task, = (c.source for c in NOTEBOOK.cells if "Exercise 06.4" in c.source)
    assert f"from {t_quantile(0.95, 5):.2f} for the recorded" in task
    assert f"to {t_quantile(0.95, 10_000):.2f} for very many" in task
