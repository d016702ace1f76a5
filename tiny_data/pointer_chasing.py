"""Pointer chasing: follow a map k times."""

from dataclasses import dataclass

import numpy as np

from tiny_data.corpus import VOCAB_SIZE
from tiny_data.puzzles import IGNORED, Puzzles, check_vocabulary, shuffles


@dataclass(frozen=True)
class PointerChasing(Puzzles):
    """A map f over n symbols, then questions (k, s), k = 1 .. hops: what is f^k(s)?

    Each pair s -> f(s) is one token, so that a hop is one look-up by attention: k hops
    are k dependent look-ups. A question is two tokens, k and s; its answer is due at s.
    The map is one cycle through all symbols. So f^k(s) differs from s and from all
    symbols on the way, none is a more likely answer than another, and going backwards
    (f^k = f^-(n - k)) is no shorter, since hops is at most n / 2.

    Raises ValueError for settings without such a map and for too small a vocabulary.
    """

    n_symbols: int = 8             # n
    hops: int = 4                  # the largest k
    vocab_size: int = VOCAB_SIZE   # tokens that the model knows

    n_asked = 2                    # tokens of a question
    name = "pointer_chasing"

    def __post_init__(self):
        super().__post_init__()
        if self.n_symbols < 6:
            raise ValueError(
                f"n_symbols is {self.n_symbols}: make it at least 6, or there are too "
                "few maps to hold some out"
            )
        if self.hops > self.n_symbols // 2:
            raise ValueError(
                f"hops is {self.hops}: a cycle of n_symbols = {self.n_symbols} is shorter "
                f"backwards, so use at most {self.n_symbols // 2} hops or more symbols"
            )
        check_vocabulary(self, "n_symbols or hops")

    @property
    def chance(self) -> float:
        """1 / (n - 1): any symbol but the start. Who follows j of the k steps can
        exclude j more."""
        return 1 / (self.n_symbols - 1)

    # Tokens: 0 padding; then n symbols, `hops` numbers k, and n * n pairs.

    @property
    def n_tokens(self) -> int:
        return 1 + self.n_symbols + self.hops + self.n_symbols**2

    @property
    def n_stated(self) -> int:
        return self.n_symbols

    @property
    def first_pair(self) -> int:
        return 1 + self.n_symbols + self.hops

    def draw(self, rng, batch_size):
        """The map [B, n]: entry s is f(s)."""
        order = shuffles(rng, batch_size, self.n_symbols)        # along the cycle
        f = np.empty_like(order)
        np.put_along_axis(f, order, np.roll(order, -1, axis=1), axis=1)
        return f

    def state(self, rng, facts):
        starts = shuffles(rng, len(facts), self.n_symbols)
        ends = np.take_along_axis(facts, starts, axis=1)
        return self.first_pair + starts * self.n_symbols + ends

    def ask(self, rng, facts, n_places):
        shape = len(facts), n_places // self.n_asked             # [B, questions]
        k = rng.integers(1, self.hops + 1, size=shape)
        starts = rng.integers(self.n_symbols, size=shape)
        powers = [facts]                                         # f^1, f^2, ... [B, n]
        while len(powers) < self.hops:
            powers.append(np.take_along_axis(facts, powers[-1], axis=1))
        rows = np.arange(len(facts))[:, None]
        answers = np.stack(powers)[k - 1, rows, starts]
        return (
            interleaved(self.n_symbols + k, 1 + starts),
            interleaved(np.full(shape, IGNORED), 1 + answers),
            interleaved(np.zeros(shape, int), k),
        )

    def solve(self, tokens):
        f, targets = {}, []
        for place, token in enumerate(tokens):
            targets.append(IGNORED)
            if token >= self.first_pair:
                start, end = divmod(token - self.first_pair, self.n_symbols)
                f[start] = end
            elif 1 <= token <= self.n_symbols:
                at, k = token - 1, tokens[place - 1] - self.n_symbols
                for _ in range(k):
                    at = f[at]
                targets[-1] = 1 + at
        return targets


def interleaved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[B, n] and [B, n] -> [B, 2 n], taking turns."""
    return np.stack([first, second], axis=2).reshape(len(first), -1)
