"""Draw the README's figures from recorded runs: notebooks/figures/*.png.

    python notebooks/recording/figures.py

The heat map needs trained weights, which are too large to keep here; record.py leaves
their depth weights in recorded/depth_weights.json.
"""

from pathlib import Path

from matplotlib.figure import Figure

from attnres_ref import plots
from attnres_ref.notebook import recorded
from attnres_ref.study import compare

FIGURES = Path(__file__).resolve().parents[1] / "figures"


def save(figure: Figure, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(
        FIGURES / name, dpi=110, bbox_inches="tight", metadata={"Software": None}
    )
    print(f"wrote notebooks/figures/{name}")


def main() -> None:
    weights = recorded("depth_weights")
    save(plots.depth_heat_map(weights["full"], "Full AttnRes, trained"), "full_weights.png")
    losses = compare.final_losses(recorded("residuals")["python_sources"])
    save(plots.final_losses(losses, "Python sources, three seeds"), "final_losses.png")


if __name__ == "__main__":
    main()
