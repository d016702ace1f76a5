"""The ledger: what the paper claims beside what the recorded runs of this course say.

    python notebooks/recording/ledger.py            # write it into notebooks/README.md
    python notebooks/recording/ledger.py --check    # fail if the table there is stale

Every number and every verdict is computed from notebooks/recorded/*.json, in claims.py
and claims_hybrid.py.
"""

import argparse
import sys
from pathlib import Path

import claims
import claims_hybrid

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- ledger: written by recording/ledger.py -->", "<!-- end of the ledger -->"


def table() -> str:
    """The whole ledger in Markdown."""
    parts = (*claims.PARTS, *claims_hybrid.PARTS)
    rows = ["| " + " | ".join(claim) + " |" for part in parts for claim in part()]
    head = ["| the paper | here | spread (95 %) | verdict |", "|---|---|---|---|"]
    return "\n".join(head + rows)


def rewritten(text: str, content: str) -> str:
    """`text` with `content` between the two markers. Raises ValueError without them."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the table is stale")
    options = parser.parse_args(arguments)
    text = README.read_text(encoding="utf-8")
    fresh = rewritten(text, table())
    if options.check and fresh != text:
        sys.exit("the ledger is stale: run python notebooks/recording/ledger.py")
    README.write_text(fresh, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
