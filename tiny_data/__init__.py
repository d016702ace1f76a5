"""What models train on: byte-level texts that fit in memory, and generated puzzles."""

import os

from tiny_data.chained_addition import ChainedAddition
from tiny_data.corpus import VOCAB_SIZE, Corpus
from tiny_data.files import expanded
from tiny_data.pointer_chasing import PointerChasing
from tiny_data.sources import python_sources, text_file, tinyshakespeare

__all__ = [
    "VOCAB_SIZE",
    "ChainedAddition",
    "Corpus",
    "PointerChasing",
    "load",
    "python_sources",
    "text_file",
    "tinyshakespeare",
]


def load(name: str | os.PathLike) -> Corpus:
    """The corpus "python_sources", "tinyshakespeare", or the text file at that path.

    Raises ValueError if `name` is none of the three, OSError if the path cannot be
    read, TypeError if it is no path. A file that is called like a corpus is reached as
    "./name", or through `text_file`.
    """
    path, name = expanded(name), os.fspath(name)
    named = {"python_sources": python_sources, "tinyshakespeare": tinyshakespeare}
    if name in named:
        return named[name]()
    if not name or not os.path.exists(path):
        raise ValueError(
            f"unknown corpus {name!r}: choose 'python_sources', "
            "'tinyshakespeare' or the path of a text file (no file has this path)"
        )
    return text_file(path)
