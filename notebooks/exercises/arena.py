"""The mutant arena of notebooks 02 and 03: tests that are to find planted bugs.

    result = run([oracle, source_sets], mutants.FULL)    # a test is a function of `make`
    print(result)                      # which mutants were killed, and their bugs

`make(n_layers, d_model)` gives a new stream, right or mutated; Block's takes a block_size,
too, which is 4 if none is given. Whatever a test raises kills the mutant, if only the right
stream passes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from attnres_ref import LM, LMConfig, PreNorm
from exercises import time_limit, torch_as_new
from exercises.mutants import Mutant

SECONDS = 3                    # for one test of one stream; most take a hundredth of one

Test = Callable[[Callable[..., nn.Module]], None]


def written(stream, outputs):
    """The state after the embedding, outputs[0], and those of the layers."""
    state = stream.begin(outputs[0])
    for layer, output in enumerate(outputs[1:]):
        state = stream.write(state, layer, output)
    return state


def oracle(make):
    """A new model computes PreNorm's function."""
    tokens, logits = torch.arange(24).reshape(2, 12), []
    for stream in (PreNorm(8, 32), make(8, 32)):
        torch.manual_seed(0)
        model = LM(LMConfig(d_model=32, n_layers=8, context=12))
        model.stream = stream
        logits.append(model.double()(tokens))
    assert torch.allclose(*logits, rtol=0, atol=1e-10)


def source_sets(make):
    """Every read of a new stream is the mean of all outputs so far."""
    stream, outputs = make(4, 5), torch.eye(5)
    for layer in range(5):
        so_far = outputs[: layer + 1]
        found = stream.read(written(stream, so_far), layer)
        assert torch.allclose(found, so_far.mean(0))


def gradients_arrive(make):
    """The final read sends a gradient to every output."""
    stream, outputs = make(4, 5), torch.eye(5, requires_grad=True)
    stream.read(written(stream, outputs), 4).sum().backward()
    assert (outputs.grad != 0).any(-1).all()


def old_state_stays(make):
    """A state reads the same after something else was made of it."""
    stream, outputs = make(4, 5), torch.eye(5)
    state = written(stream, outputs[:3])
    before = stream.read(state, 2)
    stream.write(state, 2, outputs[3])
    assert torch.equal(stream.read(state, 2), before)


GIVEN = oracle, source_sets, gradients_arrive, old_state_stays


class Result(NamedTuple):
    """What `run` found. Printed: a line for each mutant that was killed."""

    mutants: Sequence[Mutant]
    kills: Mapping[str, list[bool]]            # of each test, in the order of mutants
    false_alarms: Mapping[str, BaseException]  # of tests that the right stream fails

    @property
    def survivors(self) -> list[int]:
        """Numbers of the mutants, from 1, that no test killed."""
        numbers = range(1, len(self.mutants) + 1)
        return [n for n in numbers if not any(row[n - 1] for row in self.kills.values())]

    @property
    def score(self) -> str:
        n = len(self.mutants)
        return f"{n - len(self.survivors)} of {n} mutants killed"

    def __str__(self) -> str:
        lines = [
            f"{number:3d} {mutant.name}: {mutant.what}"
            for number, mutant in enumerate(self.mutants, start=1)
            if number not in self.survivors
        ]
        alive = ", ".join(map(str, self.survivors)) or "none"
        alarms = [false_alarm(*alarm) for alarm in self.false_alarms.items()]
        return "\n".join([self.score, *lines, f"still alive: {alive}", *alarms])


def run(tests: Sequence[Test], mutants: Sequence[Mutant]) -> Result:
    """Every test on every mutant. A test that the right stream fails, before or after
    these, or that does not end, is thrown out."""
    right, kills, false_alarms = mutants[0].right, {}, {}
    streams = [mutant.make for mutant in mutants]
    for test in tests:
        name = getattr(test, "__name__", "a test")
        while name in kills or name in false_alarms:
            name += "'"
        if (error := failure(test, right)) is None:
            found = [failure(test, stream) is not None for stream in streams]
            error = failure(test, right)       # a test with a memory would fail now
        if error is None:
            kills[name] = found
        else:
            false_alarms[name] = error
    return Result(mutants, kills, false_alarms)


def failure(test: Test, make: type) -> BaseException | None:
    """What the test raises for this stream, with seeds set and a time limit."""
    try:
        with torch_as_new(), time_limit(SECONDS):
            test(make)
    except KeyboardInterrupt:
        raise
    except BaseException as error:             # time_limit's is no Exception
        return error
    return None


def false_alarm(name: str, error: BaseException) -> str:
    said = " ".join(f"{type(error).__name__} {error}".split())
    return f"{name} is thrown out, because the right stream fails it as well: {said}"


def assert_refuses(test: Callable[[Callable], bool], what: str, right: Mapping,
                   broken: Mapping, hint: str = "") -> None:
    """For exercises whose answer is a test, true for what it refuses: it has to let all of
    `right` pass and none of `broken`; both: name -> what is tested. An error refuses."""
    for name, one in right.items():
        assert not test(one), f"your test refuses a right {what}, the {name}{hint}"

    def refused(one):
        try:
            return test(one)
        except Exception:
            return True

    escaped = [name for name, one in broken.items() if not refused(one)]
    assert not escaped, (
        f"{len(escaped)} of {len(broken)} broken {what}s escape your test, among them one "
        + escaped[0]
    )


def with_mine(given: Sequence[Test], mine: Sequence[Test]) -> list[Test]:
    """The lesson's tests and the reader's, who may have forgotten the brackets."""
    assert isinstance(mine, list | tuple), (
        f"my_tests is a {type(mine).__name__}: put your functions into a list"
    )
    return [*given, *mine]


def assert_none_survives(tests: Sequence[Test], mutants: Sequence[Mutant]) -> None:
    """For the checks of the exercises: the message has the score and one hint."""
    result = run(tests, mutants)
    for name, error in result.false_alarms.items():
        raise AssertionError(false_alarm(name, error)).with_traceback(error.__traceback__)
    if alive := result.survivors:
        raise AssertionError(
            f"{result.score}; the first alive is number {alive[0]}: "
            f"{mutants[alive[0] - 1].look}"
        )
