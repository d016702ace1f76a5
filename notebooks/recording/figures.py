"""Draw the pictures of the README and of results.md from recorded runs,
notebooks/figures/*.png, and the README's film, notebooks/figures/unfolding.gif.

    python notebooks/recording/figures.py

The film needs the weights of a model in training, which are too large to keep here;
record.py leaves its depth weights in recorded/depth_weights.json.
"""

import argparse
import base64
from collections.abc import Iterable
from pathlib import Path

import claims
import claims_ablations
import claims_hybrid
import claims_primary
import plan
from attnres_ref import plots
from attnres_ref.notebook import recorded
from attnres_ref.plots import film, schematic
from attnres_ref.plots.study import ForestRow, forest
from attnres_ref.study import compare
from judging import Gap

FOLDER = Path(__file__).parents[1] / "figures"
LIMIT = 0.16                           # nats: beyond it a mean is written, not drawn
# Notebook 00's picture of one read: sources as the outputs that they sum, made-up weights.
READS = (
    ("prenorm", [[*range(8)]], [1]),
    ("full", [[i] for i in range(8)], [0.05, 0.3, 0.05, 0.1, 0.05, 0.25, 0.05, 0.15]),
    ("block", [[0], [1, 2, 3, 4], [5, 6, 7]], [0.2, 0.5, 0.3]),
)


def front() -> list[ForestRow]:
    """The five tests of the README's one figure; the paper's differences are elsewhere."""
    return [
        ForestRow(test.name, test.gap, test.test.ours)
        for test in claims_primary.whodunnit() if test.gap
    ]


def differences() -> list[ForestRow]:
    """Every difference of losses in the ledger, under its heading; the primary tests come
    first."""
    whodunnit, lasting = claims_primary.progress()
    return [
        ForestRow(f"Primary tests. {short(whodunnit)}"),
        *primary(claims_primary.whodunnit()),
        ForestRow(f"Primary tests. {short(lasting)}"),
        *primary(claims_primary.lasting()),
        *group("Side remarks, from longer runs too", claims_primary.side_gaps()),
        *group("Table 2, three seeds at one recipe", claims_ablations.table_2()),
        *group("Table 4 and Fig. 6, three seeds at one recipe", claims_ablations.table_4()),
        *group("The recipe, three seeds", claims_ablations.recipe()),
        *group("The hybrid, three seeds", hybrids()),
    ]


def short(progress: str) -> str:
    """Without the commands."""
    return progress.partition(";")[0].rstrip(".")


def primary(tests: Iterable[claims_primary.Primary]) -> list[ForestRow]:
    """The tests that have runs."""
    return [
        ForestRow(test.name, test.gap, test.test.ours, test.paper)
        for test in tests if test.gap
    ]


def group(heading: str, gaps: Iterable[Gap]) -> list[ForestRow]:
    rows = [ForestRow(gap.claim, gap.gap, gap.style, gap.paper) for gap in gaps]
    return [ForestRow(heading), *rows] if rows else []


def hybrids() -> Iterable[Gap]:
    found = claims_hybrid.differences(claims.loss)
    for (_, _, recipe), difference in zip(claims_hybrid.RECIPES, found):
        yield Gap(f"Block AttnRes - PreNorm, {recipe}", "block", difference)


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    full = compare.select(recorded("depth_weights")[plan.CORPUS], residual="full")[0]
    every = [(step, seen["depth_weights"]) for step, seen in full["observed"]]
    losses = compare.final_losses(recorded("residuals")[plan.CORPUS])
    figures = {
        "reads": schematic.one_read(READS, "layer 7"),
        "tests": forest(front(), "Difference of validation loss, each arm tuned alike"),
        "final_losses": plots.final_losses(losses, "Python sources, three seeds"),
        "differences": forest(differences(), "Differences of loss", LIMIT, width=10.5),
    }
    for name, figure in figures.items():
        path = FOLDER / f"{name}.png"
        path.write_bytes(base64.b64decode(plots.png(figure)))
        print(f"wrote notebooks/figures/{path.name}")
    frames = [film.unfolding(rows, step) for step, rows in every[::2]]
    film.gif(frames, FOLDER / "unfolding.gif")
    print("wrote notebooks/figures/unfolding.gif")


if __name__ == "__main__":
    main()
