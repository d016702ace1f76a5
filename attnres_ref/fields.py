"""Numbers that are given: one check for arguments, and one for whole configurations."""

import math
from collections.abc import Iterable
from dataclasses import fields
from numbers import Integral, Real

import numpy as np


def is_whole(value, least: int, most: float = math.inf) -> bool:
    """Whether `value` is a whole number from `least` to `most`; True and False are not."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    return is_integer and least <= value <= most


def is_real(value, least: float) -> bool:
    """Whether `value` is a finite number, at least `least`."""
    return isinstance(value, Real) and least <= value < math.inf


KINDS = {int: (Integral, "a whole number"), float: (Real, "a finite number"),
         bool: (bool, "True or False"), str: (str, "a string")}


def check_types(config) -> None:
    """Give every field of a dataclass the type it declares, int, float, bool or str.

    A NumPy number becomes Python's, so that a configuration can be saved and compared;
    where something would be lost (2.5 steps, nan, "4"): ValueError that names the field.
    """
    for field in fields(config):
        if field.type not in KINDS:
            continue
        value, (kind, words) = getattr(config, field.name), KINDS[field.type]
        value = value.item() if isinstance(value, np.generic) else value
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if not fits or kind is Real and not math.isfinite(value):
            raise ValueError(f"{field.name} is {value!r}: it must be {words}")
        object.__setattr__(config, field.name, field.type(value))


def check_bounds(config, names: Iterable[str], least: float, above: bool = False) -> None:
    """Raise ValueError that names the first field below `least`, or not above it."""
    for name in names:
        value = getattr(config, name)
        if value < least or above and value == least:
            rule = "above" if above else "at least"
            raise ValueError(f"{name} is {value}: it must be {rule} {least}")
