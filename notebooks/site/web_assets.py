"""reveal.js and MathJax as files of our own: site and slides load nothing from afar.

Both come inside packages that pip installs (the extra `site`): sphinx-revealjs and
django-static-mathjax, of which only the files listed here are taken. The checksums are
those of the pinned versions; another version has to be looked at before it is trusted.
"""

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

REVEAL = {  # below sphinx_revealjs/_static/revealjs
    "dist/reveal.js": "46538b52db48724192f59bf46f5e851a18e302777c46f4a34c32709d010d6a29",
    "dist/reveal.css": "68f915a11ebf7203c0446576b7e952ff61c5dd02134a8a226ffaf62ed42136d2",
    "plugin/notes/notes.js":
        "df1201d19d03241a2897d39c3d38768177df1cbd4bde06327b321cb83461ae89",
}
MATHJAX = {  # below mathjax/static/mathjax/es5; fonts are inside
    "tex-svg.js": "2af9375000b5a3669be94d436ae1c61159855283cd18b3ee9817fb71c8f94c84",
}


def reveal(to: Path) -> None:
    """Copy reveal.js into the folder `to`."""
    copy(package("sphinx_revealjs") / "_static" / "revealjs", REVEAL, to)


def mathjax(to: Path) -> None:
    """Copy MathJax, TeX in and SVG out, into the folder `to`."""
    copy(package("mathjax") / "static" / "mathjax" / "es5", MATHJAX, to)


def package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed: make site and make slides install it")
    return Path(spec.origin).parent


def copy(folder: Path, files: dict[str, str], to: Path) -> None:
    """Copy `files` (name -> SHA-256). Raises ValueError for a file that differs."""
    for name, wanted in files.items():
        data = (folder / name).read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != wanted:
            raise ValueError(
                f"{folder / name} has SHA-256 {found}, not {wanted}; install the version "
                "in constraints.txt, or check the new one and put its sum here"
            )
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, to / name)
