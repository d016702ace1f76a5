"""The ledger: what the paper claims beside what the recorded runs of this course say, and
what others measured.

    python notebooks/recording/ledger.py            # write it into notebooks/README.md
    python notebooks/recording/ledger.py --check    # fail if the tables there are stale

Every number and every verdict is computed from notebooks/recorded/*.json, in claims_*.py;
judging.py has what a verdict asks for. With some runs or none of plan.py it says so.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import claims_ablations
import claims_costs
import claims_dynamics
import claims_hybrid
import claims_open
import claims_primary
import claims_retrofit
import claims_scaling
import claims_weights
import replications
from judging import Claim, marked

README = Path(__file__).resolve().parents[1] / "README.md"
LEDGER, OTHERS = (
    (f"<!-- {name}: written by recording/ledger.py -->", f"<!-- end of the {name} -->")
    for name in ("ledger", "replications")
)
HEAD = ("claim", "the paper", "here", "95 %", "verdict")
# A heading, and the rows under it.
SUBJECTS = {
    "Side remarks, from longer runs too": (claims_primary.side_remarks,),
    "Dynamics": (claims_dynamics.dynamics,),
    "Tables 2 and 4 and Fig. 6, at one recipe": (claims_ablations.table_rows,),
    "The recipe": (claims_ablations.recipe_rows,),
    "Scaling and shape": claims_scaling.PARTS,
    "Depth mixing and weights": (claims_weights.matrices, claims_weights.patterns),
    "Costs": (claims_costs.costs,),
    "The hybrid, and reasoning": (*claims_hybrid.PARTS, claims_open.scores),
    "A trained model, converted": (claims_retrofit.retrofits,),
    "At size": (claims_open.at_size,),
}


def ledger() -> str:
    """The whole ledger in Markdown."""
    return "\n\n".join([primary_tests(), *(
        f"### {subject}\n\n{note(subject)}{table(HEAD, rows(parts))}"
        for subject, parts in SUBJECTS.items()
    )])


def rows(parts) -> Iterator[Claim]:
    return (row for part in parts for row in part())


def note(subject: str) -> str:
    """What a table needs said above it."""
    at_one_recipe = subject.endswith("at one recipe")
    return f"{claims_ablations.spreads()}\n\n" if at_one_recipe else ""


def primary_tests() -> str:
    tests = [*claims_primary.whodunnit(), *claims_primary.lasting()]
    return "\n\n".join([
        "### Primary tests", "\n".join(f"- {line}" for line in claims_primary.progress()),
        table(claims_primary.HEAD, (test.cells() for test in tests)),
    ])


def table(head: Iterable[str], cells: Iterable[Iterable[str]]) -> str:
    """A Markdown table. Where the last column is the verdict, its mark stands before it."""
    head = [*head]
    lines = [head, ["---"] * len(head)]
    for *others, last in cells:
        lines.append([*others, marked(last) if head[-1] == "verdict" else last])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def published() -> str:
    return table(replications.HEAD, replications.replications())


def rewritten(text: str, content: str, markers: tuple[str, str] = LEDGER) -> str:
    """`text` with `content` between the two markers. Raises ValueError without them."""
    begin, end = markers
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def fresh(text: str) -> str:
    return rewritten(rewritten(text, ledger()), published(), OTHERS)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a table is stale")
    options = parser.parse_args(arguments)
    text = README.read_text(encoding="utf-8")
    new = fresh(text)
    if options.check and new != text:
        sys.exit("the ledger is stale: run python notebooks/recording/ledger.py")
    README.write_text(new, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
