"""Every exercise: the stub is unsolved, the solution passes, wrong answers fail."""

import linecache
import signal
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from operator import mul

import pytest
import torch

import cells
import exercises
from attnres_kernels.interpret import MISSING
from exercises import box
from wrong_answers import WRONG

NOTEBOOKS = map(cells.read, cells.notebooks())
EXERCISES = [exercise for notebook in NOTEBOOKS for exercise in cells.exercises(notebook)]


def outcome(exercise, source, monkeypatch):
    """Run the notebook's `imports` cells, then `source`, then the check."""
    monkeypatch.chdir(cells.ROOT / "notebooks")
    namespace = {"__name__": "__main__"}
    exec(exercise.imports, namespace)
    run_as_cell(source, namespace)
    return exercises.outcome(exercise.name, namespace[exercise.answer])


def run_as_cell(source, namespace):
    """As IPython does: its lines are in linecache, where Triton looks for a kernel's."""
    name = f"<cell {hash(source)}>"
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    exec(compile(source, name, "exec"), namespace)


@pytest.mark.parametrize("part, expected", [("stub", "unsolved"), ("solution", "passed")])
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_stub_is_unsolved_and_solution_passes(exercise, part, expected, monkeypatch):
    found = outcome(exercise, getattr(exercise, part), monkeypatch)
    assert found.status == expected, found


def planted(exercise, old, new):
    """The notebook's solution with one bug in it."""
    if old is None:
        return textwrap.dedent(new)
    found = exercise.solution.count(old)
    assert found == 1, f"{exercise.name}: {old!r} stands {found} times in the solution"
    return exercise.solution.replace(old, new)


@pytest.mark.parametrize("exercise, old, new, phrase", [
    pytest.param(exercise, *answer, id=f"{exercise.name}-{answer[-1]}")
    for exercise in EXERCISES
    for answer in WRONG.get(exercise.name, [])
])
def test_a_wrong_answer_is_told_its_bug(exercise, old, new, phrase, monkeypatch):
    found = outcome(exercise, planted(exercise, old, new), monkeypatch)
    said = box.as_text(exercise.name, found)
    assert found.status == "failed" and phrase in said, said


def test_every_exercise_has_a_check_and_wrong_answers():
    in_notebooks = sorted(exercise.name for exercise in EXERCISES)
    assert in_notebooks == exercises.names()
    assert in_notebooks == sorted(name for name, answers in WRONG.items() if answers)


@pytest.mark.parametrize("missing, expected", [
    ("interpreting", ("passed", "")),      # values are right, and no one counts
    ("available", ("unsolved", MISSING)),
])
def test_a_kernel_is_checked_as_far_as_can_be(missing, expected, monkeypatch, capsys):
    (exercise,) = (e for e in EXERCISES if e.name == "09.4")
    old, new = next((old, new) for old, new, phrase in WRONG["09.4"] if "6 u" in phrase)
    assert outcome(exercise, planted(exercise, old, new), monkeypatch)[0] == "failed"
    monkeypatch.setattr(exercises.nb09, missing, lambda: False)
    assert outcome(exercise, planted(exercise, old, new), monkeypatch)[:2] == expected
    said = capsys.readouterr().out
    assert ("values are checked, loads cannot be counted" in said) == ("passed" in expected)


# --- the framework, on an exercise of its own ---------------------------------------


@pytest.fixture
def double(monkeypatch):
    """Exercise 99.1: a function that doubles."""
    monkeypatch.setattr(exercises, "_checks", {})
    monkeypatch.setattr(exercises, "_solved", set())
    monkeypatch.setattr(exercises, "names", lambda: sorted(exercises._checks))

    @exercises.exercise("99.1")
    def doubles(answer):
        if answer(3) != 6:  # not `assert`, to which pytest adds words of its own
            raise AssertionError("3 should give 6:\n   is the factor right?")

    return "99.1"


def in_a_cell(body):
    namespace = {"__name__": "__main__"}
    run_as_cell(f"def answer(x):\n    {body}\n", namespace)
    return namespace["answer"]


@pytest.mark.parametrize("answer, status, message", [
    (lambda x: 2 * x, "passed", ""),
    (partial(mul, 2), "passed", ""),
    (None, "unsolved", ""),
    (..., "unsolved", ""),
    (in_a_cell("raise NotImplementedError"), "unsolved", ""),
    (in_a_cell("raise NotImplementedError('no Triton')"), "unsolved", "no Triton"),
    (lambda x: ..., "unsolved", ""),
    (lambda x: None, "unsolved", "your function returned None"),
    (in_a_cell("return 3 * x"), "failed", "3 should give 6: is the factor right?"),
    (lambda: 1, "failed", None),
    (5, "failed", "TypeError: 'int' object is not callable"),
])
def test_outcome(double, answer, status, message):
    found = exercises.outcome(double, answer)
    assert found.status == status
    assert message is None or found.message == message


def test_check_prints_a_line_and_the_score_and_does_not_raise(double, capsys):
    exercises.exercise("99.2")(str.upper)
    for answer in (lambda x: 2 * x, ..., lambda: 0):
        exercises.check(double, answer)
    passed, one, unsolved, none, failed, _ = capsys.readouterr().out.splitlines()
    assert passed == "99.1 passed" and unsolved == "99.1 not solved yet"
    assert failed.startswith("99.1 not yet right: TypeError: ")
    assert (one, none) == ("1 of 2 solved", "0 of 2 solved")


@pytest.mark.parametrize("body, message", [
    ("return x[0]", "TypeError: 'int' object is not subscriptable"),
    ("return answer(x)", "RecursionError: maximum recursion depth exceeded"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("raise SystemExit(0)", "your code leaves Python: let it return its answer"),
    ("for _ in range(10**8): pass", "stopped after 0.2 s: is there a loop without an"),
])
def test_what_does_not_return_is_told_its_line(double, monkeypatch, body, message):
    monkeypatch.setattr(exercises, "SECONDS", 0.2)
    found = exercises.outcome(double, in_a_cell(body))
    assert found.status == "failed" and found.message.startswith(message), found
    said = box.as_text(double, found)
    assert said.endswith(f" (your line 2, in answer: {body})")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_an_answer_that_swallows_every_exception_is_stopped(double, monkeypatch):
    def answer(x):
        while True:
            with suppress(BaseException):
                sum(range(100))

    monkeypatch.setattr(exercises, "SECONDS", 0.2)
    assert exercises.outcome(double, answer).message.startswith("stopped after 0.2 s")


def test_a_limit_within_another_does_not_end_it():
    stopped = pytest.raises(exercises.OutOfTime, match="after 0.2 s")
    with stopped, exercises.time_limit(0.2):
        with exercises.time_limit(5):
            pass
        time.sleep(2)


def test_exit_in_a_notebook_does_not_end_the_kernel(double, monkeypatch):
    class Shell:
        ask_exit = lambda self: None               # and the kernel ends after the cell

    shell = Shell()
    monkeypatch.setattr(exercises, "get_ipython", lambda: shell)
    left = exercises.outcome(double, lambda x: shell.ask_exit())
    assert "leaves Python" in left.message
    assert not vars(shell)


def test_a_thread_has_no_alarm_and_can_check(double):
    passed = ThreadPoolExecutor(1).submit(exercises.outcome, double, partial(mul, 2))
    assert passed.result().status == "passed"


def test_an_interrupt_is_not_swallowed(double):
    with pytest.raises(KeyboardInterrupt):
        exercises.outcome(double, in_a_cell("raise KeyboardInterrupt"))


def test_an_unknown_exercise_is_an_error(double):
    with pytest.raises(KeyError, match="there is no exercise '99.9'; there are 99.1"):
        exercises.check("99.9", 1)


def test_two_checks_cannot_share_a_name(double):
    with pytest.raises(ValueError, match="two checks for exercise 99.1"):

        @exercises.exercise("99.1")
        def another(answer):
            pass


def test_a_check_meets_torch_as_new_and_leaves_the_notebooks_alone(double):
    drawn = []
    made = lambda answer: drawn.append(torch.rand(3, requires_grad=True) + 0)
    exercises.exercise("99.2")(made)
    exercises.outcome("99.2", 1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with torch.device("meta"), torch.inference_mode():
        exercises.outcome("99.2", 1)
        assert torch.ones(2).is_meta and not torch.is_grad_enabled()
    found = torch.rand(3)
    torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)
    assert torch.equal(*drawn) and drawn[1].dtype == torch.float32
    assert drawn[1].requires_grad and not drawn[1].is_inference()
