"""The recorded sweeps: which runs each consists of. `record.py` trains them."""

from attnres_ref.model import LMConfig
from attnres_ref.presets import PRESETS, Preset
from attnres_ref.sweep import Trial
from attnres_ref.training import TrainConfig

SIZE = PRESETS["cpu"]
SEEDS = (0, 1, 2)
MAIN = ("prenorm", "block", "full")

# Notebooks 04 to 07 compare many runs: a smaller model, about a minute a run on one core.
STUDY = Preset(
    "study",
    dict(d_model=64, n_layers=16, n_heads=2, context=128),
    TrainConfig(steps=400, batch_size=8, eval_every=50, checkpoint_every=100),
)
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)


def baseline() -> dict[str, list[Trial]]:
    """PreNorm alone: peak learning rate x initialisation of the output projections."""
    return {
        "tinyshakespeare": [
            Trial(
                f"prenorm-lr{lr:g}-{'scaled' if scaled else 'plain'}-seed{seed}",
                SIZE.lm("prenorm", scaled_init=scaled),
                SIZE.training(lr=lr, seed=seed),
            )
            for seed in (0,)
            for lr in (1e-3, 2e-3, 4e-3, 8e-3)
            for scaled in (False, True)
        ]
    }


def residuals() -> dict[str, list[Trial]]:
    """PreNorm, Block (S=4) and Full at the recipe chosen for PreNorm; seeds are paired."""
    return {
        corpus: [
            Trial(f"{residual}-seed{seed}", SIZE.lm(residual), SIZE.training(seed=seed))
            for seed in SEEDS
            for residual in MAIN
        ]
        for corpus in ("tinyshakespeare", "python_sources")
    }


def query_rate() -> dict[str, list[Trial]]:
    """The AttnRes runs again, with pseudo-queries that learn at a quarter of the rate."""
    return {
        "tinyshakespeare": [
            Trial(
                f"{residual}-query0.25-seed{seed}",
                SIZE.lm(residual),
                SIZE.training(seed=seed, query_lr_scale=0.25),
            )
            for seed in SEEDS
            for residual in ("block", "full")
        ]
    }


def study(residual: str, seed: int, **changes) -> Trial:
    """A run of STUDY with some fields of LMConfig or TrainConfig changed. Its name says
    which, so that sweeps share the runs they have in common."""
    name = "-".join([residual, *(f"{key}{value:g}" for key, value in changes.items())])
    of_model = {k: v for k, v in changes.items() if k in LMConfig.__dataclass_fields__}
    of_train = {k: v for k, v in changes.items() if k not in of_model}
    return Trial(
        f"{name}-seed{seed}",
        STUDY.lm(residual, **of_model),
        STUDY.training(seed=seed, **of_train),
    )


def rates() -> dict[str, list[Trial]]:
    """Peak learning rate x residual: the baseline's best, and each at its own."""
    return {
        "python_sources": [
            study(residual, seed, lr=lr)
            for lr in RATES
            for seed in SEEDS
            for residual in MAIN
        ]
    }


SWEEPS = {sweep.__name__: sweep for sweep in (baseline, residuals, query_rate, rates)}
