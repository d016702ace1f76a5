"""Draw the README's figures from recorded runs: notebooks/figures/*.png.

    python notebooks/recording/figures.py

The heat map needs trained weights, which are too large to keep here; record.py leaves
their depth weights in recorded/depth_weights.json.
"""

import argparse
from pathlib import Path

from attnres_ref import plots
from attnres_ref.notebook import recorded
from attnres_ref.study import compare


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    weights = recorded("depth_weights")["full"]
    losses = compare.final_losses(recorded("residuals")["python_sources"])
    figures = {
        "full_weights": plots.depth_heat_map(weights, "Full AttnRes, trained"),
        "final_losses": plots.final_losses(losses, "Python sources, three seeds"),
    }
    for name, figure in figures.items():
        path = Path(__file__).parents[1] / "figures" / f"{name}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
        print(f"wrote notebooks/figures/{path.name}")


if __name__ == "__main__":
    main()
