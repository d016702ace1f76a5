"""Fetch one file so that its final name only ever holds the right bytes."""

import socket
from http.client import HTTPException
from pathlib import Path

from torch.hub import download_url_to_file

TIMEOUT_SECONDS = 30  # without an answer, or between two pieces of one


class DownloadError(RuntimeError):
    """The file could not be fetched; the message says why, and what to do instead."""


def download(url: str, path: Path, sha256: str, instead: str) -> None:
    """Fetch `url` into `path`, with a progress bar.

    torch.hub writes to a temporary name of its own in the same folder and renames it
    once the checksum is right: `path` holds the whole file or none, also when two
    processes fetch it at once, and a failure leaves nothing behind.

    A connection that is cut is noticed by the checksum. A server that stalls is given
    up after TIMEOUT_SECONDS: torch.hub has no timeout and would wait for ever, so for
    that long it is the default of every new socket of this process.

    Raises DownloadError with the URL, the cause and then the sentence `instead`, which
    tells how to do without this download.
    """
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=sha256)
    # No server, a stall or no permission; a torn answer; a wrong checksum.
    except (OSError, HTTPException, RuntimeError) as error:
        raise DownloadError(f"could not download {url} ({error}). {instead}") from None
    finally:
        socket.setdefaulttimeout(default_timeout)
