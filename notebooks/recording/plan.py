"""The experiments that decide, written down before they ran.

A judgement is only as good as what was fixed before it. So every arm is tuned alike, on
seeds and on a half of the validation split that the judgement never sees, and the primary
tests below are the ones that count; whatever else the records show is a side remark.

    python notebooks/recording/record.py tuning           # 96 runs, 40 s each on one core
    python notebooks/recording/record.py finalists        # 24 runs and a few
    python notebooks/recording/record.py whodunnit        # 162 runs, 50 s each
    python notebooks/recording/record.py horizon_rates    # 36 runs, 2 to 16 minutes each
    python notebooks/recording/record.py horizon          # 60 runs, as long
    python notebooks/recording/record.py longer           # 40 runs, 2 and 4 minutes each

Each goes on from what notebooks/recorded holds, and `--so-far` writes what is there.
"""

from dataclasses import dataclass, replace
from statistics import mean

from attnres_ref.notebook import recorded
from attnres_ref.study.sweep import Trial
from attnres_ref.training.presets import Preset
from sweeps import MAIN, SIZE, STUDY

CORPUS = "python_sources"
TUNING_SEEDS = (100, 101)              # the second for the best recipes of the first
TUNING_WINDOWS, JUDGING_WINDOWS = 1024, 3435      # the latter: all of the judging half

ALPHA = 0.05                           # of all primary tests of a question together (Holm)
MARGIN = 0.01                          # nats: "no difference" lies inside of it, whole


@dataclass(frozen=True)
class Test:
    """A primary test: is `ours` below `baseline` in validation loss? Two-sided."""

    ours: str
    baseline: str
    question: str


# ---- Question 1, the whodunnit: is it attention over depth, or a loud start cured? -------

ARMS = {
    "prenorm": "the baseline: every output with weight one",
    "block": "attends over sums of 4 layers",
    "full": "attends over all earlier outputs",
    "rezero": "attends to nothing; outputs start silent",
    "static": "mixes over depth by weights that no token changes",
    "loud": "PreNorm, embedding of RMS one, so that first outputs are not loud",
}
WHODUNNIT = (
    Test("block", "prenorm", "does Block gain over a PreNorm tuned as well?"),
    Test("full", "prenorm", "does Full?"),
    Test("full", "rezero", "does Full gain over a silent start alone?"),
    Test("full", "loud", "does Full gain over a loud embedding alone?"),
    Test("full", "static", "does it pay that tokens change the weights?"),
)
# 27 seeds see 0.01 nats with 80 % power at a paired SD of 0.018. If time ends before, the
# seeds that all arms have finished count: the clock stops the runs, no look at them does.
SEEDS = range(27)


@dataclass(frozen=True)
class Recipe:
    """What is tuned, for every arm from the same grid."""

    lr: float
    scaled_init: bool
    warmup: float                      # as a fraction of the steps

    def __str__(self) -> str:
        start = "scaled" if self.scaled_init else "plain"
        return f"lr{self.lr:g}-{start}-warmup{self.warmup:g}"


RATES = (2.8e-3, 4e-3, 5.7e-3, 8e-3, 1.1e-2, 1.6e-2)   # the outermost only where needed
GRID = [
    Recipe(lr, scaled, warmup)
    for lr in RATES[1:-1] for scaled in (False, True) for warmup in (0.1, 0.3)
]
N_FINALISTS = 4                        # recipes of an arm that run on the second seed


def run(size: Preset, residual: str, seed: int, recipe: Recipe, windows: int,
        steps: int | None = None) -> Trial:
    """Validated once, at the end: `val_loss` is what tunes or judges."""
    steps = steps or size.train.steps
    return Trial(
        f"{residual}-steps{steps}-{recipe}-seed{seed}",
        size.lm(residual, scaled_init=recipe.scaled_init),
        size.training(
            seed=seed, steps=steps, lr=recipe.lr, eval_every=steps, eval_windows=windows,
            warmup_steps=round(recipe.warmup * steps),
        ),
    )


def tuning() -> list[Trial]:
    """Every arm from every recipe of the grid, on one seed."""
    return [
        run(STUDY, arm, TUNING_SEEDS[0], recipe, TUNING_WINDOWS)
        for recipe in GRID for arm in ARMS
    ]


def finalists() -> list[Trial]:
    """Each arm's best recipes on the second seed. Where the best has an outer rate of the
    grid, the rate beyond it joins them, on both seeds. None before all of `tuning`."""
    if not complete("tuning", tuning()):
        return []
    trials = []
    for arm in ARMS:
        ranked = sorted(tuned(arm, ["tuning"]).items(), key=lambda item: mean(item[1]))
        best = [recipe for recipe, _ in ranked[:N_FINALISTS]]
        beyond = {RATES[1]: RATES[0], RATES[-2]: RATES[-1]}.get(best[0].lr)
        further = [replace(best[0], lr=beyond)] if beyond else []
        pairs = [(recipe, TUNING_SEEDS[1]) for recipe in best]
        pairs += [(recipe, seed) for recipe in further for seed in TUNING_SEEDS]
        trials += [run(STUDY, arm, seed, r, TUNING_WINDOWS) for r, seed in pairs]
    return trials


def whodunnit() -> list[Trial]:
    """Each arm at its own recipe, on fresh seeds and the judging half. Seeds are complete
    one after the other; arms change places so that two halves take equally long. None
    before all of `finalists`."""
    chosen = recipes()
    return [
        run(STUDY, arm, seed, chosen[arm], JUDGING_WINDOWS)
        for seed in SEEDS for arm in (list(chosen) if seed % 2 else reversed(chosen))
    ]


def recipes() -> dict[str, Recipe]:
    """Each arm's own, from `tuning` and `finalists`; none before both are complete."""
    if not complete("finalists", finalists()):
        return {}
    return {arm: choice(tuned(arm, ["tuning", "finalists"])) for arm in ARMS}


def tuned(residual: str, sweeps: list[str], **fields) -> dict[Recipe, list[float]]:
    """Losses on the tuning half by recipe, one for each seed; fields of TrainConfig."""
    found = {}
    for record in [record for sweep in sweeps for record in runs(sweep)]:
        model, train = record["model"], record["train"]
        if model["residual"] == residual and fields.items() <= train.items():
            warmup = round(train["warmup_steps"] / train["steps"], 3)
            recipe = Recipe(train["lr"], model["scaled_init"], warmup)
            found.setdefault(recipe, []).append(record["val_loss"])
    return found


def choice(losses: dict[Recipe, list[float]]) -> Recipe:
    """The lowest mean among the recipes that ran on the most seeds."""
    most = max(map(len, losses.values()))
    means = {recipe: mean(seeds) for recipe, seeds in losses.items() if len(seeds) == most}
    return min(means, key=means.get)


def runs(sweep: str) -> list[dict]:
    """The sweep's records; none if nothing is recorded yet."""
    try:
        return recorded(sweep).get(CORPUS, [])
    except FileNotFoundError:
        return []


def complete(sweep: str, trials: list[Trial]) -> bool:
    """Whether the sweep's JSON has all of these trials, of which there are some. From less
    nothing is chosen, because the choice would change when the rest comes."""
    there = {record["name"] for record in runs(sweep)}
    return bool(trials) and there >= {trial.name for trial in trials}


# ---- Question 2, does it last? The gap against the number of steps -----------------------

HORIZONS = (300, 600, 1200, 2400)      # each with a schedule of its own
HORIZON_RATES = (2e-3, 4e-3, 8e-3)
HORIZON_SEEDS = range(5)
LASTING = (                            # both at the longest horizon
    Test("block", "prenorm", "is Block's gain still there after eight times the steps?"),
    Test("full", "prenorm", "is Full's?"),
)


def horizon_rates() -> list[Trial]:
    """The rate anew for each arm and horizon; start and warm-up are the whodunnit's. None
    before all of `finalists`."""
    chosen = recipes()
    return [
        run(SIZE, arm, TUNING_SEEDS[0], replace(chosen[arm], lr=lr), TUNING_WINDOWS, steps)
        for steps in HORIZONS for lr in HORIZON_RATES for arm in MAIN if chosen
    ]


def horizon() -> list[Trial]:
    """Each arm at its own rate for each horizon; a horizon is there once all its rates are.
    """
    trials, tried = [], horizon_rates()
    for steps in HORIZONS:
        if complete("horizon_rates", [t for t in tried if t.train.steps == steps]):
            best = {
                arm: choice(tuned(arm, ["horizon_rates"], steps=steps)) for arm in MAIN
            }
            trials += [
                run(SIZE, arm, seed, best[arm], JUDGING_WINDOWS, steps)
                for seed in HORIZON_SEEDS for arm in (MAIN if seed % 2 else reversed(MAIN))
            ]
    return trials


# ---- A side remark: the whodunnit's arms, trained two and four times as long ------------

LONGER = (800, 1600)                   # steps; the whodunnit has 400
LONGER_ARMS = (*MAIN, "loud")
LONGER_SEEDS = range(3, 8)             # of the whodunnit's, none that older sweeps had used


def longer() -> list[Trial]:
    """Each arm from its recipe of the whodunnit, the rate included, which was tuned for 400
    steps: so this is no test, but it says how the gaps move while `horizon` is incomplete.
    If time ends before, the seeds that all arms have finished count."""
    chosen = recipes()
    return [
        run(STUDY, arm, seed, chosen[arm], JUDGING_WINDOWS, steps)
        for seed in LONGER_SEEDS if chosen
        for steps, arms in zip(LONGER, (LONGER_ARMS, LONGER_ARMS[::-1])) for arm in arms
    ]


# The half of the validation split that each sweep is measured on, and its runs.
HALVES = {"tuning": "tuning", "finalists": "tuning", "whodunnit": "judging",
          "horizon_rates": "tuning", "horizon": "judging", "longer": "judging"}
SWEEPS = {sweep.__name__: sweep for sweep in (
    tuning, finalists, whodunnit, horizon_rates, horizon, longer
)}
