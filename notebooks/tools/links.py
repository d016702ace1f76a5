"""Write the repository's public address wherever a reader clicks or clones.

    python notebooks/tools/links.py owner/name    # what `make links REPO=...` does
    python notebooks/tools/links.py               # stamp the present setting again
    python notebooks/tools/links.py --check       # name whatever disagrees

The setting is `repo` under [tool.attnres] in pyproject.toml. From it come the Colab
badges, `git clone` lines, the bootstrap cells and the address in CITATION.cff. Needs only
the standard library.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BOOTSTRAP = '''\
# Finds the course's code; on Colab, fetches it first. Nothing to edit here.
import os, subprocess, sys
from pathlib import Path

repo = "{repo}"
places = ("..", ".", "course")
home = next((p for p in places if Path(p, "attnres_ref").is_dir()), None)
if home is None:
    home, url = "course", "https://github.com/" + repo
    subprocess.run(["git", "clone", "--depth", "1", url, home], check=True)
os.chdir(Path(home, "notebooks"))
sys.path[:0] = [os.path.abspath(place) for place in (".", "..", "../kernels")]'''

ADDRESS = r"[\w.-]+/[\w.-]+"
SETTING = re.compile(rf'^(repo = ")({ADDRESS})(?=")', re.MULTILINE)
PLACES = [
    re.compile(rf"(colab\.research\.google\.com/github/)({ADDRESS})"),
    re.compile(rf"(git clone [^\n`]*?https://github\.com/)({ADDRESS})"),
    re.compile(rf"(repository-code: https://github\.com/)({ADDRESS})"),
]
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def setting(root: Path = ROOT) -> str:
    """The address in pyproject.toml, "owner/name"."""
    found = SETTING.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError('pyproject.toml needs repo = "owner/name" in [tool.attnres]')
    return found[2]


def badge(repo: str, name: str) -> str:
    """The markdown of the Colab badge of notebook file `name`."""
    url = f"https://colab.research.google.com/github/{repo}/blob/main/notebooks/{name}"
    return f"[![Open in Colab]({BADGE})]({url})"


def bootstrap(repo: str) -> str:
    """The source of the one bootstrap cell that all notebooks share."""
    return BOOTSTRAP.format(repo=repo)


def restamped(text: str, repo: str) -> str:
    """`text` with `repo` in every badge address and clone command."""
    for place in PLACES:
        text = place.sub(rf"\g<1>{repo}", text)
    return text


def restamped_notebook(text: str, repo: str) -> str:
    """The notebook's JSON with `repo` in its markdown and its bootstrap cell."""
    notebook = json.loads(text)
    before = json.dumps(notebook)
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "bootstrap" in cell["metadata"].get("tags", []):
            new = bootstrap(repo)
        else:
            new = restamped(source, repo)
        if new != source:
            cell["source"] = new.splitlines(keepends=True)
    if json.dumps(notebook) == before:
        return text
    # The form in which Jupyter itself saves a notebook.
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def restamped_files(repo: str, root: Path = ROOT) -> dict[Path, str]:
    """What each file that disagrees with `repo` should hold instead."""
    wanted = {}
    files = [root / "README.md", root / "CITATION.cff"]
    files += sorted((root / "notebooks").glob("*.md"))
    for path in [f for f in files if f.exists()]:
        wanted[path] = restamped(path.read_text(encoding="utf-8"), repo)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        wanted[path] = restamped_notebook(path.read_text(encoding="utf-8"), repo)
    pyproject = root / "pyproject.toml"
    text = pyproject.read_text(encoding="utf-8")
    wanted[pyproject] = SETTING.sub(rf"\g<1>{repo}", text)
    return {p: t for p, t in wanted.items() if t != p.read_text(encoding="utf-8")}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Stamp the public address.")
    parser.add_argument("repo", nargs="?", help="owner/name; default: the setting")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    repo = options.repo or setting(root)
    if not re.fullmatch(ADDRESS, repo):
        parser.error(f"repo must look like owner/name, not {repo!r}")
    stale = restamped_files(repo, root)
    for path, text in stale.items():
        print("disagrees:" if options.check else "wrote", path.relative_to(root))
        if not options.check:
            path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{repo}: {'all agree' if not stale else f'{len(stale)} files'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
