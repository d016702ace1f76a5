"""Files and folders that you name: where they are, and what is in them."""

import errno
import os
import stat
from pathlib import Path

LARGEST = 2**32  # bytes: a text is held in memory, as a copy of the file


def expanded(path: str | os.PathLike) -> Path:
    """The path, with a "~" replaced by the home folder it stands for.

    Raises TypeError for what is no path, OSError if that home is not known.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {path!r}: it must be a string or a pathlib.Path")
    full = Path(os.path.expanduser(path))
    if str(path).startswith("~") and not full.is_absolute():
        raise FileNotFoundError(
            f"no home folder is known for {path}: give the path in full, or set HOME"
        )
    return full


def user_cache() -> Path:
    """attnres/ in the folder XDG_CACHE_HOME, else in ~/.cache.

    Raises OSError if the home folder is not known. As its specification wants, a
    relative XDG_CACHE_HOME is as good as none.
    """
    named = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))
    return expanded(named if os.path.isabs(named) else "~/.cache") / "attnres"


def read(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError that says why not, and what to do.

    A pipe or a device such as /dev/zero may never end: nothing is read from it. Nor
    from a file that gives its size as 0, as those of /proc do: it counts as empty.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "a folder, a pipe or a device, not a file")
        if status.st_size > LARGEST:
            size = f"{status.st_size / 2**30:.1f} GiB, more than {LARGEST >> 30} GiB"
            raise OSError(errno.EFBIG, size)
        return path.read_bytes() if status.st_size else b""
    except OSError as error:
        raise type(error)(
            f"cannot read {path} ({error.strerror}): give the path of a text file "
            "that exists and that you may read"
        ) from None
