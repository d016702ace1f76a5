"""Files that survive a kill and a power cut, on drives of all kinds."""

import os
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path):
    """Within, no other process holds the lock `path`; a second one says that it waits. The
    lock goes with the process, however that ends. There is none on Windows and, with a
    warning, where the file system knows none (network drives)."""
    lock = None
    try:
        try:
            import fcntl
            lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError:
            warnings.warn(f"another process holds {path}: waiting for it", stacklevel=2)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            said = f"no lock {path} ({error.strerror}): let no second process train here"
            warnings.warn(said, stacklevel=2)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def write_atomically(path: Path, content) -> None:
    """Write bytes beside the target, then rename: readers, and the disk after a power cut,
    have the old file or the new. A link that lies in the way is not followed."""
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)                  # of a process that was killed
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace(source: Path, target: Path) -> None:
    """os.replace; on Windows a program that reads the target is in its way for a while."""
    for seconds in (0.1, 0.3, 1.0):
        with suppress(PermissionError):
            return os.replace(source, target)
        time.sleep(seconds)
    os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Bring the folder's list of names to the disk. Windows and some network drives cannot,
    and are left as they are."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
