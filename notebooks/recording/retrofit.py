"""Does a retrofit pay? A trained PreNorm model goes on as PreNorm, as Block, as Full.

    python notebooks/recording/retrofit.py rates              # recorded/retrofit_rates.json
    python notebooks/recording/retrofit.py judged             # recorded/retrofit.json
    python notebooks/recording/retrofit.py judged --part 0/2  # every second run
    python notebooks/recording/retrofit.py judged --so-far    # write what is there, no more

Written before any of the runs, but for the rates beyond the grid, which joined it before
any judged run. With queries at zero a trained PreNorm model and its AttnRes twin are one
function, so the weights move over without a loss. All arms then see the same further
batches, as many as they were trained on, from a fresh optimiser with a warm-up.

The primary tests are Block and Full less PreNorm, two-sided and together at 5 % (Holm). Two
more arms say what a retrofit could reach: Block and Full that were so from the start, going
on alike. Recipes are chosen for each arm on seed 100 and the tuning half, the best two of
them again on seed 101; the judging half sees the chosen ones, on fresh seeds. Goes on where
it stopped; `rates` is called again for the best two.
"""

import argparse
import json
import os
from dataclasses import dataclass, replace
from statistics import mean

import torch

import plan
from attnres_ref import LM
from attnres_ref.study.sweep import Trial
from attnres_ref.training.provenance import provenance, require_clean
from attnres_ref.training.trainer import Trainer, run_steps, train
from frozen import loss
from plan import CORPUS, JUDGING_WINDOWS, STUDY, TUNING_SEEDS, TUNING_WINDOWS
from record import FOLDER, part, rounded, stop_if_any, write
from tiny_data import load

RUNS = FOLDER / "retrofit"
ARMS = {                               # arm -> trained as, goes on as
    "prenorm": ("prenorm", "prenorm"),
    "block": ("prenorm", "block"),
    "full": ("prenorm", "full"),
    "block_from_start": ("block", "block"),
    "full_from_start": ("full", "full"),
}
PRIMARY = (("block", "prenorm"), ("full", "prenorm"))
SEEDS = range(16)                      # if time ends before: the seeds all arms have
RATES = (7e-4, 1.4e-3, 2.8e-3, 5.7e-3)     # the highest is what PreNorm was trained with
QUERY_SCALES = (1.0, 4.0, 16.0)        # queries begin at zero and have less time: own rate
# Added when the grid's best stood at its ends, before the judging half had been seen.
BEYOND_RATES, BEYOND_SCALES = 1.1e-2, 0.25
N_FINALISTS = 2
CURVE_WINDOWS = 256                    # of the half, at every validation on the way


@dataclass(frozen=True)
class Retrofit:
    """One run: an arm, a seed, and the two rates."""

    arm: str
    seed: int
    lr: float
    query_lr_scale: float = 1.0

    @property
    def name(self) -> str:
        rates = f"lr{self.lr:g}-query{self.query_lr_scale:g}"
        return f"{self.arm}-{rates}-seed{self.seed}"

    @property
    def half(self) -> str:
        return "tuning" if self.seed in TUNING_SEEDS else "judging"

    @property
    def trained(self) -> Trial:
        """The whodunnit's run of this seed, with that arm's own recipe."""
        residual, _ = ARMS[self.arm]
        return plan.run(STUDY, residual, self.seed, plan.recipes()[residual], 64)

    @property
    def continued(self) -> Trial:
        """The same model on other batches: their seed is not the first run's."""
        model = STUDY.lm(ARMS[self.arm][1], scaled_init=True)
        recipe = STUDY.training(
            seed=1000 + self.seed, lr=self.lr, query_lr_scale=self.query_lr_scale,
            eval_windows=CURVE_WINDOWS,
        )
        return Trial(self.name, model, recipe)


def rates() -> list[Retrofit]:
    """Each arm from the same rates; where queries begin at zero, each with theirs. Then
    the best two of an arm on the second seed; and where the best stands at an end of a
    range, its neighbour beyond that end, on both seeds."""
    grid = [
        Retrofit(arm, TUNING_SEEDS[0], lr, scale)
        for lr in RATES for scale in QUERY_SCALES for arm in ARMS
        if scale == 1 or arm in ("block", "full")
    ]
    if not all(file(run).exists() for run in grid):
        return grid
    finalists = []
    for arm in ARMS:
        of_arm = [run for run in grid if run.arm == arm]
        ranked = sorted(of_arm, key=lambda run: read(run)["val_loss"])
        best = ranked[0]
        further = [replace(best, lr=BEYOND_RATES)] if best.lr == RATES[-1] else []
        if arm in ("block", "full") and best.query_lr_scale == QUERY_SCALES[0]:
            further.append(replace(best, query_lr_scale=BEYOND_SCALES))
        finalists += [
            replace(run, seed=TUNING_SEEDS[1]) for run in [*ranked[:N_FINALISTS], *further]
        ]
        finalists += further
    return grid + finalists


def chosen(records: list[dict]) -> dict[str, tuple[float, float]]:
    """arm -> its two rates: the lowest mean of those that ran on both tuning seeds."""
    found = {}
    for record in records:
        rate = record["train"]["lr"], record["train"]["query_lr_scale"]
        found.setdefault(record["arm"], {}).setdefault(rate, []).append(record["val_loss"])
    return {
        arm: min((mean(losses), rate) for rate, losses in by_rate.items()
                 if len(losses) == len(TUNING_SEEDS))[1]
        for arm, by_rate in found.items()
    }


def judged() -> list[Retrofit]:
    """All arms at their own recipes, seed after seed."""
    recipes = chosen(plan.runs("retrofit_rates"))
    return [Retrofit(arm, seed, *recipes[arm]) for seed in SEEDS for arm in ARMS]


def measured(run: Retrofit, corpus) -> dict:
    """Trains the run. `start_loss` is that of the model as it was converted, before a step,
    and `trained_loss` of the model it was; both on the windows of the curve."""
    corpus = corpus.validated_on(run.half)
    windows = corpus.validation_windows(CURVE_WINDOWS, STUDY.model["context"])
    first, then = run.trained, run.continued
    before = trained_model(first, corpus)
    trainer = Trainer(then.model, then.train, corpus, device="cpu")
    taken = trainer.model.load_state_dict(before.state_dict(), strict=False)
    new = set(taken.missing_keys)
    if taken.unexpected_keys or not new <= {"stream.queries", "stream.queries_norm"}:
        raise RuntimeError(f"{run.name}: {taken}")
    start_loss, queries = loss(trainer.model, *windows), query_sizes(trainer.model)
    done = run_steps(trainer, None, query_sizes)
    lines = [line for line in done.metrics if "val_loss" in line]
    n = TUNING_WINDOWS if run.half == "tuning" else JUDGING_WINDOWS
    every = corpus.validation_windows(n, STUDY.model["context"])
    return dict(
        name=run.name, arm=run.arm, seed=run.seed, model=done.result["model"],
        train=done.result["train"], data=done.result["data"], step=done.result["step"],
        trained=first.name, trained_loss=loss(before, *windows), start_loss=start_loss,
        val_loss=loss(done.model, *every), windows=n,
        val_curve=[[line["step"], round(line["val_loss"], 5)] for line in lines],
        query_rms=[[0, queries["query_rms"]],
                   *([line["step"], line["query_rms"]] for line in lines)],
        **provenance(torch.device("cpu")),
    )


def trained_model(trial: Trial, corpus) -> LM:
    """The model of the first run, trained if it is not there. Processes that want the same
    one at once train it twice and get the same bits."""
    path = RUNS / f"{trial.name}.pt"
    if not path.exists():
        run = train(trial.model, trial.train, corpus, device="cpu")
        unfinished = path.with_suffix(f".{os.getpid()}")
        torch.save(run.model.state_dict(), unfinished)
        unfinished.replace(path)
    model = LM(trial.model)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def query_sizes(model: LM) -> dict[str, list[float]]:
    """RMS of every read's query; none of PreNorm."""
    queries = getattr(model.stream, "queries", torch.empty(0, 1))
    return rounded(dict(query_rms=queries.detach().square().mean(-1).sqrt().tolist()))


def file(run: Retrofit):
    return RUNS / f"{run.name}.json"


def read(run: Retrofit) -> dict:
    return json.loads(file(run).read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", choices=["rates", "judged"])
    parser.add_argument(
        "--part", type=part, default="0/1", help="K/N: every N-th run from the K-th"
    )
    parser.add_argument(
        "--so-far", action="store_true", help="train nothing, write what is there"
    )
    options = parser.parse_args(arguments)

    require_clean()
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    sweep, corpus = dict(rates=rates, judged=judged)[options.sweep], load(CORPUS)
    if not options.so_far:
        for run in sweep()[options.part]:
            if not file(run).exists():
                text = json.dumps(measured(run, corpus)) + "\n"
                file(run).write_text(text, encoding="utf-8")
                print(f"measured {run.name}", flush=True)
    runs = sweep()                     # the finalists, once their grid is there
    if not options.so_far:
        stop_if_any([run.name for run in runs if not file(run).exists()])
    name = "retrofit" if options.sweep == "judged" else "retrofit_rates"
    write(name, {CORPUS: [read(run) for run in runs if file(run).exists()]})


if __name__ == "__main__":
    main()
