"""The mutant arena: every mutant is one, tests kill what they should, and a bad test does
no harm."""

import re

import pytest
import torch
from torch import nn

import exercises
from attnres_ref import BlockAttnRes, FullAttnRes
from attnres_ref.plots import kills
from exercises import arena, mutants

PACKAGE = {
    mutants.Full: FullAttnRes,
    mutants.Block: lambda n_layers, d_model, size=4: BlockAttnRes(n_layers, d_model, size),
}
ALL = [*mutants.FULL, *mutants.BLOCK]


def observables(make, *size):
    """All that can be seen of a stream of 8 layers: reads and gradients of a new one and of
    one with random parameters, and what a kept state reads after a write."""
    found = []
    for awake in (False, True):
        torch.manual_seed(0)
        stream = make(8, 6, *size).double()
        if awake:
            for parameter in stream.parameters():
                nn.init.normal_(parameter)
        outputs = torch.randn(9, 2, 3, 6, dtype=torch.float64, requires_grad=True)
        for layer in range(9):
            # Copies: what is written in place must not reach the other reads' outputs.
            state = arena.written(stream, [v.clone() for v in outputs[: layer + 1]])
            read = stream.read(state, layer)
            wanted = outputs, stream.queries, stream.queries_norm
            gradients = torch.autograd.grad(
                read.square().sum(), wanted, materialize_grads=True, allow_unused=True
            )
            found += [read, *gradients]
        with torch.no_grad():
            state = arena.written(stream, [v.clone() for v in outputs[:3]])
            stream.write(state, 2, outputs[3])
            found.append(stream.read(state, 2))
    return found


def alike(found, expected):
    return all(map(torch.allclose, found, expected))


@pytest.mark.parametrize("right, size", [
    (mutants.Full, ()), *((mutants.Block, (size,)) for size in (1, 3, 4, 8)),
])
def test_the_right_streams_are_the_packages(right, size):
    assert alike(observables(right, *size), observables(PACKAGE[right], *size))


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_every_mutant_differs_from_its_right_stream(mutant):
    sizes = [(3,), (4,)] if mutant.right is mutants.Block else [()]
    differs = []
    for size in sizes:
        try:
            same = alike(observables(mutant.make, *size), observables(mutant.right, *size))
        except RuntimeError:               # autograd refuses what was changed in place
            same = False
        differs.append(not same)
    assert any(differs)


def test_every_mutant_is_planted_in_one_place():
    lost = mutants.FULL[0]._replace(old="no such line")
    twice = mutants.FULL[0]._replace(old="self")
    for mutant in (lost, twice):
        with pytest.raises(ValueError, match="stands there other than once"):
            _ = mutant.make
    assert len({str(mutant) for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_shows_its_bug_and_fits_a_notebooks_line(mutant):
    title, *lines = str(mutant).splitlines()
    assert title == f"{mutant.name}: {mutant.what}"
    gone = [line[4:] for line in lines if line.startswith("  - ")]
    come = [line[4:] for line in lines if line.startswith("  + ")]
    assert len(gone) == 1 and come and len(gone + come) == len(lines)
    assert mutant.old.splitlines()[0] in gone[0]
    assert mutant.new.splitlines()[0] in come[0]
    assert max(map(len, [f"{title}    ", *lines])) <= 80


def crosses(result):
    return {
        name: "".join("x" if kill else "." for kill in row)
        for name, row in result.kills.items()
    }


def test_which_given_test_kills_which_mutant_of_full():
    result = arena.run(arena.GIVEN, mutants.FULL)
    assert crosses(result) == {
        "oracle":           "xxx.....xx.....",
        "source_sets":      "xxxx....xx.....",
        "gradients_arrive": "x.x.........x..",
        "old_state_stays":  "..............x",
    }
    assert result.survivors == [5, 6, 7, 8, 11, 12, 14] and not result.false_alarms


def test_which_given_test_kills_which_mutant_of_block():
    result = arena.run(arena.GIVEN, mutants.BLOCK)
    assert crosses(result) == {
        "oracle":           "....xxxxx.....",
        "gradients_arrive": "......x....x.x",
        "old_state_stays":  ".............x",
    }
    assert list(result.false_alarms) == ["source_sets"]      # it is of Full alone
    assert result.survivors == [1, 2, 3, 4, 10, 11, 13]


def test_what_is_printed_names_the_dead_and_only_numbers_the_living():
    result = arena.run([arena.old_state_stays], mutants.FULL[-2:])
    assert str(result).splitlines() == [
        "1 of 2 mutants killed",
        f"  2 write in place: {mutants.FULL[-1].what}",
        "still alive: 1",
    ]


# --- tests of a reader --------------------------------------------------------------

TWO = mutants.FULL[:2]


def is_mutant(make):
    return make is not mutants.Full


def survive(make):
    pass


def kill(make):
    assert not is_mutant(make)


def kill_by_another_error(make):
    if is_mutant(make):
        raise SystemExit


def false_alarm(make):
    raise AssertionError("far too strict")


@pytest.mark.parametrize("test, row", [
    (survive, [False, False]), (kill, [True, True]), (kill_by_another_error, [True, True]),
])
def test_whatever_is_raised_kills(test, row):
    assert arena.run([test], TWO).kills == {test.__name__: row}


@pytest.mark.parametrize("test, words", [
    (false_alarm, "false_alarm is thrown out, .* as well: AssertionError far too strict$"),
    (..., "^a test is thrown out, .*: TypeError 'ellipsis' object is not callable$"),
])
def test_a_false_alarm_is_thrown_out(test, words):
    result = arena.run([test, survive], TWO)
    assert result.kills == {"survive": [False, False]} and result.survivors == [1, 2]
    assert re.search(words, str(result).splitlines()[-1])
    status, message = exercises.outcome("02.3", [test])[:2]
    assert status == "failed" and "is thrown out, because the right stream" in message


def test_the_check_of_a_false_alarm_leads_to_the_readers_line():
    with pytest.raises(AssertionError, match="far too strict") as caught:
        arena.assert_none_survives([false_alarm], TWO)
    assert caught.traceback[-1].name == "false_alarm"


def test_one_that_remembers_its_first_stream_is_thrown_out():
    seen = []

    def only_once(make):
        seen.append(make)
        assert len(seen) == 1

    assert list(arena.run([only_once], TWO).false_alarms) == ["only_once"]


def test_tests_of_one_name_have_a_row_each():
    assert list(arena.run([survive, survive, survive], TWO).kills) == [
        "survive", "survive'", "survive''"
    ]


def test_a_test_without_an_end_is_stopped(monkeypatch):
    def hang(make):
        while True:
            pass

    def hang_on_mutants(make):
        if is_mutant(make):
            hang(make)

    monkeypatch.setattr(arena, "SECONDS", 0.2)
    result = arena.run([hang, hang_on_mutants], TWO)
    assert "OutOfTime stopped after 0.2 s" in str(result)
    assert result.kills == {"hang_on_mutants": [True, True]}


def test_an_interrupt_is_passed_on():
    def interrupt(make):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arena.run([interrupt], TWO)


def test_every_stream_meets_the_same_random_numbers():
    drawn = []
    arena.run([lambda make: drawn.append(torch.rand(()).item())], TWO)
    assert len(drawn) == 4 and len({*drawn}) == 1


def test_the_check_has_the_score_and_one_hint():
    status, message = exercises.outcome("02.3", [])[:2]
    assert (status, message) == (
        "failed",
        f"8 of 15 mutants killed; the first alive is number 5: {mutants.FULL[4].look}",
    )
    assert exercises.outcome("03.5", [])[1].startswith("7 of 14 mutants killed")
    assert exercises.outcome("02.3", ...)[0] == "unsolved"


def test_the_map_has_a_cross_where_a_test_killed_and_marks_the_living():
    ax = kills.kill_map({"a": [True, False, False], "b": [True, True, False]}).axes[0]
    found = [tuple(line.get_xydata()[0]) for line in ax.lines]
    assert found == [(1, 0), (1, 1), (2, 1)]
    bold = [label.get_text() for label in ax.get_xticklabels()
            if label.get_fontweight() == "bold"]
    assert bold == ["3"] and "alive" in ax.get_xlabel()
    assert ax.figure.get_suptitle() == "2 of 3 killed"
    assert kills.kill_map({"a": [True]}).axes[0].get_xlabel() == "mutant"
