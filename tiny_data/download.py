"""Fetch one file so that its final name only ever holds the right bytes."""

import contextlib
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from tqdm import tqdm

TIMEOUT_SECONDS = 30  # without an answer, or between two pieces of one


class DownloadError(RuntimeError):
    """The file could not be fetched; the message says why. Nothing was written."""


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch `url` into `path`, with a progress bar.

    The bytes go to a temporary name in the same folder, which is renamed to `path`
    once their checksum is `sha256`: a reader of `path` sees the whole file or none.

    Raises DownloadError if there is no server, no permission to write, a connection
    that is cut, or a file with other bytes. A file already at `path` is then kept.
    """
    # A name of its own, so that two notebooks that start together do not meet.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, temporary)
        received = _sha256(temporary)
        if received != sha256:
            raise DownloadError(
                f"{url} sent other bytes than expected (sha256 {received}, "
                f"not {sha256}), perhaps the login page of a network"
            )
        os.replace(temporary, path)
    except urllib.error.HTTPError as error:
        error.close()  # it is the open response, too
        raise DownloadError(f"{url}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} to {path.parent}: {error}") from None
    finally:  # also after Ctrl-C; once renamed there is nothing left to remove
        with contextlib.suppress(OSError):
            temporary.unlink()


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        announced = response.headers.get("Content-Length")
        total = int(announced) if announced else None
        with (
            open(path, "wb") as file,
            tqdm.wrapattr(file, "write", total=total, desc="download") as sink,
        ):
            shutil.copyfileobj(response, sink)
    received = path.stat().st_size
    if total is not None and received != total:
        # Not every Python version reports this by itself.
        raise DownloadError(f"{url} was cut after {received} of {total} bytes")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
