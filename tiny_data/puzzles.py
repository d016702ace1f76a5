"""Puzzles that take k dependent steps, generated: data for which the answer is known.

Each sequence states one puzzle and asks questions about it. Only the answers are
targets; they never stand in the inputs, so no question gives away another. A tenth of
all puzzles, chosen by a hash of what the puzzle says, is for validation alone.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch

from tiny_data.corpus import at_least, seed_of_step

IGNORED = -100                         # cross_entropy's ignore_index: not an answer
HELD_OUT = 10                          # one puzzle in so many is for validation
PADDING = 0                            # the token of unused places at the end


class Batch(NamedTuple):
    """Puzzles as a model sees them; three int64 tensors [B, T]."""

    inputs: torch.Tensor
    targets: torch.Tensor              # the answer at a question's last token, else -100
    hops: torch.Tensor                 # k, the steps that answer takes; 0 where none is


class Puzzles(ABC):
    """Generated sequences with the methods of a `Corpus`, so that `train` takes them.

    A kind of puzzle says how to draw some, what their questions' answers are, and how
    both are written as tokens. A puzzle is its `facts`, an integer array [B, ...].
    """

    name: str                          # of the kind
    hops: int                          # the largest k
    vocab_size: int                    # tokens that the model knows
    n_asked: int                       # tokens of a question

    def __post_init__(self):
        """Settings become Python's own whole numbers, which a fingerprint can hold."""
        at_least(1, **vars(self))
        for name, value in vars(self).items():
            object.__setattr__(self, name, int(value))

    @property
    @abstractmethod
    def chance(self) -> float:
        """Accuracy of the best guess that follows no step."""

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """How many different tokens the kind writes, padding among them."""

    @property
    @abstractmethod
    def n_stated(self) -> int:
        """Tokens that state the puzzle, before the first question."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, batch_size: int) -> np.ndarray:
        """Facts of random puzzles, of either split."""

    @abstractmethod
    def state(self, rng: np.random.Generator, facts: np.ndarray) -> np.ndarray:
        """The facts in random order as tokens [B, n_stated]."""

    @abstractmethod
    def ask(
        self, rng: np.random.Generator, facts: np.ndarray, n_places: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As many questions as fit into n_places: tokens, targets and hops [B, ...]."""

    @abstractmethod
    def solve(self, tokens: list[int]) -> list[int]:
        """The targets of one sequence, worked out from its tokens alone."""

    @property
    def fingerprint(self) -> dict:
        """What results are stamped with: {"name", and the settings}."""
        return {"name": self.name, **asdict(self)}

    def batch(
        self, seed: int, step: int, batch_size: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Training puzzles: (inputs, targets), [B, T] int64. A pure function of its
        arguments. Raises ValueError for sizes out of range, as `sample` does."""
        return self.sample(seed_of_step(seed, step), batch_size, context)[:2]

    def validation_windows(
        self, n_windows: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed validation puzzles: (inputs, targets), [n_windows, T] int64."""
        return self.validation(n_windows, context)[:2]

    def validation(self, n_windows: int, context: int) -> Batch:
        """The same with the number of hops that each answer takes."""
        at_least(1, n_windows=n_windows)
        sequence = np.random.SeedSequence(0)
        return self.sample(sequence, n_windows, context, validation=True)

    def sample(
        self, sequence: np.random.SeedSequence, batch_size: int, context: int,
        validation: bool = False,
    ) -> Batch:
        """Puzzles of one split. Raises ValueError for a batch_size below 1, for a
        context that does not hold the puzzle and a question, and for fractions."""
        at_least(1, batch_size=batch_size, context=context)
        needed = self.n_stated + self.n_asked
        if context < needed:
            raise ValueError(
                f"context is {context}: {self.name} states a puzzle in {self.n_stated} "
                f"tokens and asks in {self.n_asked}, so it needs at least {needed}; use "
                "a longer context or a smaller puzzle"
            )
        rng = np.random.default_rng(sequence)
        facts = self.draw(rng, batch_size)
        while (wrong := is_held_out(facts) != validation).any():
            facts[wrong] = self.draw(rng, wrong.sum())
        stated = self.state(rng, facts)
        asked, answers, k = self.ask(rng, facts, context - self.n_stated)

        inputs = np.full((batch_size, context), PADDING)
        targets, hops = np.full_like(inputs, IGNORED), np.zeros_like(inputs)
        questions = np.s_[:, self.n_stated : self.n_stated + asked.shape[1]]
        inputs[:, : self.n_stated] = stated
        inputs[questions], targets[questions], hops[questions] = asked, answers, k
        return Batch(*map(torch.from_numpy, (inputs, targets, hops)))


def is_held_out(facts: np.ndarray) -> np.ndarray:
    """[B] bool: is the puzzle for validation? A function of the facts alone, so that
    no puzzle is in both splits, whatever the seeds."""
    digest = np.zeros(len(facts), np.uint64)
    for column in facts.reshape(len(facts), -1).astype(np.uint64).T:
        digest = (digest ^ (column + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
        digest ^= digest >> np.uint64(29)
    return digest % np.uint64(HELD_OUT) == 0


def shuffles(rng: np.random.Generator, batch_size: int, n: int) -> np.ndarray:
    """[B, n] random orders of 0 .. n - 1."""
    return rng.random((batch_size, n)).argsort(axis=1)


def check_vocabulary(task: Puzzles, smaller: str) -> None:
    if task.vocab_size < task.n_tokens:
        raise ValueError(
            f"vocab_size is {task.vocab_size}: {task.name} writes {task.n_tokens} tokens; "
            f"raise it (LMConfig.vocab_size, too) or make {smaller} smaller"
        )
