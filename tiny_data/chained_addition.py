"""Chained additions: variables defined by variables defined by variables ..."""

from dataclasses import dataclass

import numpy as np

from tiny_data.corpus import VOCAB_SIZE, at_least
from tiny_data.puzzles import IGNORED, Puzzles, check_vocabulary, shuffles


@dataclass(frozen=True)
class ChainedAddition(Puzzles):
    """Assignments such as a = 3, b = a + 4, c = b + 1 (modulo m) in random order, then
    the question for every variable: what is its value?

    There are `hops` levels of `width` variables. One of level k adds a constant to a
    random variable of level k - 1 (of level 1: is a constant), so that its value takes
    k dependent steps. Names, constants and references are random. An assignment is
    one token; a question is one, the variable's name.

    Raises ValueError for too small a vocabulary, a modulus below 2, or too few puzzles.
    """

    modulus: int = 3               # m
    hops: int = 3                  # levels, the largest k
    width: int = 2                 # variables of each level
    vocab_size: int = VOCAB_SIZE   # tokens that the model knows

    n_asked = 1                    # tokens of a question
    name = "chained_addition"

    def __post_init__(self):
        super().__post_init__()
        at_least(2, modulus=self.modulus)
        check_vocabulary(self, "modulus, hops or width")
        if self.modulus**self.n_variables < 60:
            raise ValueError(
                f"hops {self.hops} and width {self.width} give {self.n_variables} "
                f"variables modulo {self.modulus}: too few puzzles to hold some out; "
                "raise one of the three"
            )

    @property
    def n_variables(self) -> int:
        return self.width * self.hops

    @property
    def chance(self) -> float:
        """1 / m: who misses one constant of the sum knows nothing about it."""
        return 1 / self.modulus

    # Tokens: 0 padding; then m values, the variables, and the assignments (variable,
    # reference, constant), where the last reference stands for none.

    @property
    def n_tokens(self) -> int:
        n = self.n_variables
        return 1 + self.modulus + n + n * (n + 1) * self.modulus

    @property
    def n_stated(self) -> int:
        return self.n_variables

    @property
    def first_assignment(self) -> int:
        return 1 + self.modulus + self.n_variables

    def draw(self, rng, batch_size):
        """By variable, what it refers to (n_variables: nothing) and the constant:
        [B, n_variables, 2]."""
        n, shape = self.n_variables, (batch_size, self.hops, self.width)
        names = shuffles(rng, batch_size, n).reshape(shape)
        choices = rng.integers(self.width, size=(batch_size, self.hops - 1, self.width))
        above = np.take_along_axis(names[:, :-1], choices, axis=2)
        nothing = np.full((batch_size, 1, self.width), n)
        references = np.concatenate([nothing, above], axis=1)
        constants = rng.integers(self.modulus, size=shape)
        facts = np.empty((batch_size, n, 2), int)
        rows = np.arange(batch_size)[:, None]
        facts[rows, names.reshape(batch_size, n), 0] = references.reshape(batch_size, n)
        facts[rows, names.reshape(batch_size, n), 1] = constants.reshape(batch_size, n)
        return facts

    def state(self, rng, facts):
        n = self.n_variables
        variables = shuffles(rng, len(facts), n)
        listed = np.take_along_axis(facts, variables[:, :, None], axis=1)
        references, constants = listed[:, :, 0], listed[:, :, 1]
        written = (variables * (n + 1) + references) * self.modulus + constants
        return self.first_assignment + written

    def ask(self, rng, facts, n_places):
        n = self.n_variables
        variables = shuffles(rng, len(facts), n)[:, :n_places]   # each at most once
        references, constants = facts[:, :, 0], facts[:, :, 1]
        values, k = np.zeros((2, len(facts), n + 1), int)        # the last: of nothing
        for _ in range(self.hops):                               # a level settles at a time
            values[:, :n] = np.take_along_axis(values, references, axis=1) + constants
            k[:, :n] = np.take_along_axis(k, references, axis=1) + 1
        answers = np.take_along_axis(values % self.modulus, variables, axis=1)
        asked = 1 + self.modulus + variables
        return asked, 1 + answers, np.take_along_axis(k, variables, axis=1)

    def solve(self, tokens):
        n, assignments, targets = self.n_variables, {}, []
        for token in tokens:
            targets.append(IGNORED)
            if token >= self.first_assignment:
                pair, constant = divmod(token - self.first_assignment, self.modulus)
                variable, reference = divmod(pair, n + 1)
                assignments[variable] = reference, constant
            elif token > self.modulus:
                at, total = token - 1 - self.modulus, 0
                while at != n:
                    at, constant = assignments[at]
                    total += constant
                targets[-1] = 1 + total % self.modulus
        return targets
