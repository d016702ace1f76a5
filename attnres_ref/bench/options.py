"""What a benchmark refuses before it measures anything: types for argparse's options."""

import argparse
import os
from pathlib import Path


def count(text: str) -> int:
    """A whole number above 0. Raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def output_file(text: str) -> Path:
    """A file that can be written. Raises ArgumentTypeError for one that cannot."""
    path = Path(text).expanduser()
    place = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no file that can be written here")
    return path
