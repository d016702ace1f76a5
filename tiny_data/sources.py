"""Where the texts come from: Python code, TinyShakespeare, your own file."""

import hashlib
import importlib.util
import os
import tarfile
from collections.abc import Collection
from pathlib import Path

from tiny_data.corpus import Corpus
from tiny_data.download import download
from tiny_data.files import expanded, read, user_cache

TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/"
    "data/tinyshakespeare/input.txt"
)
TINYSHAKESPEARE_SHA256 = (
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
)

PACKED = Path(__file__).with_name("python_sources.tar.xz")  # made by tiny_data.pack

# fmt: off
SKIPPED_FOLDERS = {
    "site-packages", "dist-packages",           # other people's packages
    "test", "tests", "_tests", "idle_test",     # half of the volume
    "idlelib", "lib2to3", "turtledemo",         # programs rather than libraries
    "encodings", "pydoc_data",                  # tables and prose rather than code
}
# fmt: on
GENERATED_PREFIX = "_sysconfigdata"  # such files hold the machine's build paths


def python_sources(packages: Collection[str] = ()) -> Corpus:
    """The source code of Python 3.11's standard library, which comes with the course: 9 MB,
    the same on every machine.

    `packages` adds installed packages by import name: ("torch", "numpy") makes it
    more than 50 MB. That text depends on the versions installed, so compare results
    by `fingerprint`.

    Raises ModuleNotFoundError for a package that is not installed, ValueError for one
    without Python source, TypeError for what is no collection of names.
    """
    several = isinstance(packages, Collection) and not isinstance(packages, str)
    if not several or not all(isinstance(name, str) for name in packages):
        raise TypeError(
            f"packages is {packages!r}: it must be a tuple of names, as ('numpy',)"
        )
    files = unpacked(PACKED)
    for package in packages:
        files |= _package_files(package)
    return Corpus.from_bytes("python_sources", join_files(files))


def unpacked(path: Path) -> dict[str, bytes]:
    """The files of an archive by name, as `tiny_data.pack.pack` got them."""
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def join_files(files: dict[str, bytes]) -> bytes:
    """The files, given by relative name, as one text, separated by a newline.

    They are ordered by the sha256 of their name: an order that mixes the folders, so
    that the tail is a fair sample, and is the same on every machine. Of files with
    equal contents one is kept, or validation would hold a text that was trained on.
    """
    order = sorted(files, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    texts = dict.fromkeys(files[name] for name in order)
    return b"\n".join(text for text in texts if text)


def python_files(root: Path, prefix: str = "") -> dict[str, bytes]:
    """The Python source below a folder, by name; files that cannot be read are left out."""
    files = {}
    for folder, subfolders, names in os.walk(root):
        # os.walk descends into what is left in this list.
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in names:
            path = Path(folder, name)
            named = name.endswith(".py") and not name.startswith(GENERATED_PREFIX)
            if named and path.is_file():  # reading a pipe might never end
                files |= _source(path, prefix + path.relative_to(root).as_posix())
    return files


def _source(path: Path, name: str) -> dict[str, bytes]:
    try:
        return {name: path.read_bytes().replace(b"\r\n", b"\n")}
    except OSError:
        return {}


def _package_files(package: str) -> dict[str, bytes]:
    try:
        spec = importlib.util.find_spec(package)  # looks, does not run the package
    except (ImportError, ValueError):  # a missing parent; a name that is not a name
        spec = None
    if spec is None:
        raise ModuleNotFoundError(
            f"python_sources: package {package!r} is not installed in this "
            "environment; install it or take it out of packages"
        )
    files = {}
    for folder in spec.submodule_search_locations or ():
        files |= python_files(Path(folder), prefix=f"{package}/")
    if not files and spec.origin and spec.origin.endswith(".py"):
        files = _source(Path(spec.origin), f"{package}.py")  # a single module
    if not files:
        raise ValueError(
            f"python_sources: package {package!r} has no Python source files; "
            "take it out of packages"
        )
    return files


def tinyshakespeare() -> Corpus:
    """1.1 MB of Shakespeare's plays.

    From the folder ATTNRES_DATA_DIR, if it has tinyshakespeare/input.txt, else from the
    user's cache. The cache is filled by a download, unless ATTNRES_DATA_DIR is set.

    Raises DownloadError if the text cannot be fetched, OSError if it is not where
    ATTNRES_DATA_DIR says, cannot be read or no home folder is known, ValueError if
    the file at hand has other bytes than expected.
    """
    path = _tinyshakespeare_path()
    text = read(path)
    received = hashlib.sha256(text).hexdigest()
    if received != TINYSHAKESPEARE_SHA256:
        raise ValueError(
            f"{path} is not TinyShakespeare: its sha256 is {received}, not "
            f"{TINYSHAKESPEARE_SHA256}; delete or replace this file"
        )
    return Corpus.from_bytes("tinyshakespeare", text)


def _tinyshakespeare_path() -> Path:
    """Where the file is, after a download if it has to be."""
    name = "tinyshakespeare/input.txt"
    by_hand = (
        f"put the file under a folder of yours as {name} and set ATTNRES_DATA_DIR to "
        "that folder"
    )
    folder = os.environ.get("ATTNRES_DATA_DIR", "").strip()
    if folder and os.path.exists(path := Path(os.path.expanduser(folder), name)):
        return path
    try:
        path = user_cache() / name
    except OSError as error:
        raise OSError(f"{error}; or {by_hand}") from None
    if os.path.exists(path):
        return path
    if folder:
        raise FileNotFoundError(
            f"ATTNRES_DATA_DIR is {folder!r}, and no {name} that you may read is there: "
            "correct it, or unset it, and the file is downloaded"
        )
    download(
        TINYSHAKESPEARE_URL, path, TINYSHAKESPEARE_SHA256,
        instead=f"Three ways out: {by_hand}; or put it in the cache as {path}; or use "
        "python_sources, which needs no download",
    )
    return path


def text_file(path: str | os.PathLike) -> Corpus:
    """Your own text, read as bytes.

    Raises OSError (FileNotFoundError, PermissionError, ...) if it cannot be read, is no
    file or is larger than 4 GiB, ValueError if it is empty, TypeError for no path.
    """
    path = expanded(path)
    text = read(path)
    if not text:
        raise ValueError(f"the text file {path} is empty: give one with some text")
    return Corpus.from_bytes(f"text_file:{path.name}", text)
