"""Write the repository's public address wherever a reader clicks or clones.

    python notebooks/tools/links.py owner/name    # what `make links REPO=...` does

The setting is `repo` under [tool.attnres] in pyproject.toml; badges, `git clone` lines,
bootstrap cells and CITATION.cff repeat it. Needs only the standard library.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "CITATION.cff", "README.md", "notebooks/*.*")

STAND_IN = "your-name/"                # the owner, as long as nobody can name one
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
ADDRESS = r"[\w.-]+/[\w.-]+"
# What stands before the address; a notebook's JSON has \" for a quotation mark.
BEFORE = (
    r'(repo = \\?"|colab\.research\.google\.com/github/|repository-code: https://github\.com/'
    r"|git clone [^\n`]*?https://github\.com/)"
)


def setting(root: Path = ROOT) -> str:
    """The address in pyproject.toml, "owner/name"."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tool"]["attnres"]["repo"]


def known(root: Path = ROOT) -> bool:
    """Has the address been set? What is made for readers leads there only then."""
    return not setting(root).startswith(STAND_IN)


def published(repo: str) -> str:
    """Where .github/workflows/pages.yml publishes the site of "owner/name"."""
    owner, _, name = repo.partition("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def colab(repo: str, name: str) -> str:
    """Where notebook file `name` opens in Colab."""
    return f"https://colab.research.google.com/github/{repo}/blob/main/notebooks/{name}"


def badge(repo: str, name: str) -> str:
    """The markdown of the Colab badge of notebook file `name`."""
    return f"[![Open in Colab]({BADGE})]({colab(repo, name)})"


def restamped_files(repo: str, root: Path = ROOT) -> dict[Path, str]:
    """What each file that disagrees with `repo` should hold instead."""
    files = sorted(path for pattern in FILES for path in root.glob(pattern))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    wanted = {p: re.sub(BEFORE + ADDRESS, rf"\g<1>{repo}", t) for p, t in texts.items()}
    return {path: text for path, text in wanted.items() if text != texts[path]}


def main(repo: str = "", root: Path = ROOT) -> None:
    if not re.fullmatch(r"[a-z0-9-]+/[\w.-]*\w", repo, re.ASCII | re.IGNORECASE):
        sys.exit(f"the address is {repo!r}; give it as make links REPO=owner/name")
    for path, text in restamped_files(repo, root).items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print("wrote", path.relative_to(root))


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
