"""A text as one long row of bytes, and the windows a language model reads from it."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral

import numpy as np
import torch

VOCAB_SIZE = 256  # a token is a byte

# The validation split's parts, in hundredths of it: recipes are chosen on the tuning half,
# and what was chosen is compared on the judging half, which no choice has seen.
PARTS = {"all": (0, 100), "tuning": (0, 50), "judging": (50, 100)}


@dataclass(frozen=True, eq=False)
class Corpus:
    """A named text. The first 90 % are for training, the last 10 % for validation.

    Raises ValueError for tokens that are not [n_bytes] uint8 and an unknown part.
    """

    name: str  # "python_sources", "tinyshakespeare" or "text_file:<basename>"
    tokens: torch.Tensor  # [n_bytes] uint8, the whole text; batches come from its device
    validation: str = "all"  # one of PARTS: the part of the validation split that `val` is

    def __post_init__(self):
        if self.validation not in PARTS:
            raise ValueError(
                f"validation is {self.validation!r}: choose one of {sorted(PARTS)}"
            )
        kind = getattr(self.tokens, "dtype", type(self.tokens).__name__)
        if kind != torch.uint8 or self.tokens.dim() != 1:
            raise ValueError(f"tokens is {kind}: it must be a row of bytes, [n] uint8")

    @classmethod
    def from_bytes(cls, name: str, text: bytes) -> "Corpus":
        """Raises ValueError if `text` is empty, TypeError if it is not bytes."""
        if not isinstance(text, bytes | bytearray | memoryview):
            raise TypeError(f"text is of {type(text)}: it must be bytes, as b'...'")
        if not text:
            raise ValueError(
                f"corpus {name!r} is empty (0 bytes): give it a text to train on"
            )
        # bytearray, because torch warns about memory it must not write to.
        return cls(name, torch.frombuffer(bytearray(text), dtype=torch.uint8))

    @property
    def train(self) -> torch.Tensor:
        """[n_train] uint8, a view of `tokens`."""
        return self.tokens[: self._n_train]

    @property
    def val(self) -> torch.Tensor:
        """[n_val] uint8, a view of `tokens`: the part of the split that is used."""
        split = self.tokens[self._n_train :]
        first, last = (len(split) * part // 100 for part in PARTS[self.validation])
        return split[first:last]

    def validated_on(self, part: str) -> "Corpus":
        """The same text with one half of its validation split, "tuning" or "judging", or
        with "all" of it. Raises ValueError for another part."""
        return replace(self, validation=part)

    @property
    def fingerprint(self) -> dict:
        """What results are stamped with: {"name", "bytes", "sha256" of the bytes}, and
        "validation" where that is one half."""
        text = dict(name=self.name, bytes=len(self.tokens), sha256=self._sha256)
        half = {} if self.validation == "all" else {"validation": self.validation}
        return text | half

    def batch(
        self, seed: int, step: int, batch_size: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Random windows of the training split: (inputs, targets), [B, T] int64.

        A pure function of its arguments: there is no generator state to save, so a
        resumed run draws the batches that the uninterrupted run would have drawn.

        Raises ValueError for a size below 1, a negative seed or step, one that is not a
        whole number, and a training split shorter than `context + 1` bytes.
        """
        at_least(1, batch_size=batch_size, context=context)
        batch_size, context = int(batch_size), int(context)    # NumPy's may be of 8 bits
        rng = np.random.default_rng(seed_of_step(seed, step))
        n_starts = self._count_starts("train", context)
        starts = rng.integers(n_starts, size=batch_size)
        return _windows(self.train, torch.from_numpy(starts), context)

    def validation_windows(
        self, n_windows: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows of the validation split: (inputs, targets), [n_windows, T] int64.

        They are fixed and evenly spaced, the first at the split's first byte and the
        last at its end. No byte is a target twice if the split has
        `n_windows * context + 1` bytes; in a shorter one the windows overlap.

        Raises ValueError for a size below 1 or no whole number, and for a validation
        split shorter than `context + 1` bytes.
        """
        at_least(1, n_windows=n_windows, context=context)
        n_windows, context = int(n_windows), int(context)
        last_start = self._count_starts("val", context) - 1
        steps = torch.arange(n_windows, device=self.tokens.device)
        starts = steps * last_start // max(n_windows - 1, 1)
        return _windows(self.val, starts, context)

    @property
    def _n_train(self) -> int:
        return len(self.tokens) * 9 // 10

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.tokens.cpu().numpy()).hexdigest()

    def _count_starts(self, split: str, context: int) -> int:
        """How many windows of `context + 1` bytes the split has; at least one."""
        length = len(self.train if split == "train" else self.val)
        if length < context + 1:
            raise ValueError(
                f"corpus {self.name!r} is too short: its {split} split has {length} of "
                f"its {len(self.tokens)} bytes, and context={context} needs "
                f"{context + 1}; use a longer text or a shorter context"
            )
        return length - context


def _windows(
    split: torch.Tensor, starts: torch.Tensor, context: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows that begin at `starts` [B], and the same one byte later. Wherever
    the text is, also where torch.set_default_device names another place."""
    offsets = torch.arange(context + 1, device=split.device)
    positions = starts.to(split.device)[:, None] + offsets  # [B, T + 1]
    windows = split[positions]
    return windows[:, :-1].long(), windows[:, 1:].long()


def seed_of_step(seed: int, step: int) -> np.random.SeedSequence:
    """The step-th child of the seed. Raises ValueError if one of the two is negative or
    not a whole number.

    A torch.Generator would be worse at this: on the CPU it looks at 32 bits of its
    seed only, so distinct pairs collide.
    """
    at_least(0, seed=seed, step=step)
    return np.random.SeedSequence(seed, spawn_key=(step,))


def at_least(minimum: int, **arguments: int) -> None:
    """Raises ValueError that names the first argument below `minimum`, or that is no
    whole number. True and False are none; NumPy's are."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} is {value!r}: it must be a whole number")
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
