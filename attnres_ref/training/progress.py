"""The progress bar of a long loop."""

import sys

from tqdm import tqdm


def progress_bar(*arguments, **look) -> tqdm:
    """tqdm's bar, on standard error; in a notebook on standard output, since Jupyter
    draws what comes on standard error as an error, on red."""
    in_a_notebook = type(sys.stdout).__module__ == "ipykernel.iostream"
    file = sys.stdout if in_a_notebook else sys.stderr
    return tqdm(*arguments, file=file, mininterval=1.0, **look)
