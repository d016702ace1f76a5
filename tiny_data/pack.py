"""How the course's text was made: `python -m tiny_data.pack`, by CPython 3.11.7.

It packs the standard library of the Python that runs it into python_sources.tar.xz, which
lies beside this file so that everybody trains on the same text. Its licence is
PYTHON_LICENSE.txt. Another version of Python packs another text.
"""

import io
import sysconfig
import tarfile
from pathlib import Path

from tiny_data.sources import PACKED, python_files


def pack(files: dict[str, bytes], target: Path) -> None:
    """Write the files, given by relative name, into an archive that depends on nothing
    else: it holds no dates, owners or permissions. `sources.unpacked` reads it."""
    with tarfile.open(target, "w:xz", preset=9, format=tarfile.PAX_FORMAT) as archive:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))


if __name__ == "__main__":
    pack(python_files(Path(sysconfig.get_path("stdlib"))), PACKED)
