"""Refuse records that cannot be true, before anything is judged by them.

    python notebooks/recording/audit.py        # all records of plan.py: a second for each

A record is refused whose labels contradict its numbers: another arm's parameters or first
reads, an untrained model, a run cut short, another text, code that nobody can look up. Two
arms of as many parameters that changed places are told apart by what they read at step 0;
so in `tuning` and `horizon_rates`, which keep no observations, a swap of Block and Full, or
of PreNorm and the loud embedding, only shows when a run is repeated.
"""

import json
import math
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

import plan
from attnres_ref import LM, LMConfig
from attnres_ref.training.provenance import git
from attnres_ref.training.recipe import TrainConfig, learning_rate
from record import observer
from tiny_data import python_sources

RECORDED = Path(__file__).parents[1] / "recorded"
ROUNDING = 1e-3                        # relative: records keep four digits

# Old records of which nobody can look up what made them, and why they are kept. The list
# only gets shorter: who records one of them again takes it out.
KNOWN = {
    "mixing": (40, "measured at 9067561, adfc214 and b00397f, which this history lacks; "
               "the models' own records in ablations.json name commits that are there"),
}


def audit(record: dict) -> None:
    """Raise ValueError that names the record and all that cannot be true of it."""
    wrong = [*of_facts(record), *of_observations(record)]
    if wrong:
        raise ValueError(f"{record['name']}: {'; '.join(wrong)}")


def audit_facts(record: dict) -> None:
    """The same without the model that is built and run for `observed`: much faster."""
    if wrong := [*of_facts(record)]:
        raise ValueError(f"{record['name']}: {'; '.join(wrong)}")


def audit_sweep(sweep: str, records: list[dict]) -> None:
    """Raise ValueError where records of a sweep contradict each other or the plan: a run
    that is there twice, also under another seed, or the other half of the validation split.
    """
    seen, half = {}, plan.HALVES[sweep]
    for record in records:
        if record["data"].get("validation") != half:
            raise ValueError(f"{record['name']}: {sweep} is validated on the {half} half")
        configuration = json.dumps([record["model"], record["train"]])
        for fact in (configuration, record["val_loss"]):
            if fact in seen:
                raise ValueError(f"{record['name']}: the same run as {seen[fact]}")
            seen[fact] = record["name"]


def of_facts(record: dict) -> Iterator[str]:
    """What is wrong with the numbers of a record."""
    model, recipe = LMConfig(**record["model"]), TrainConfig(**record["train"])
    if record["parameters"] != (found := n_parameters(model)):
        yield f"parameters is {record['parameters']}, and its model has {found}"
    if record["step"] != recipe.steps:
        yield f"step is {record['step']}, and {recipe.steps} were asked for"
    last = learning_rate(recipe.steps - 1, recipe)
    if not math.isclose(record["lr"], last, rel_tol=1e-9):
        yield f"the last step's lr is {record['lr']:g}, and its schedule ends at {last:g}"
    # Knowing how frequent each byte is would be enough for 3.04 nats, a uniform guess
    # gives 5.55: below half of that, a model has learnt more than frequencies.
    if not record["val_loss"] < (limit := math.log(model.vocab_size) / 2):
        yield f"val_loss is {record['val_loss']:.3f}, above {limit:.3f}: hardly trained"
    if not shipped().items() <= record["data"].items():
        yield f"data is {record['data']}, not the course's text"
    if record["dirty"] is not False:
        yield f"dirty is {record['dirty']}: the code was not that of its commit"
    if not in_history(record["commit"]):
        yield f"commit {record['commit']} is not in the history"


def of_observations(record: dict) -> Iterator[str]:
    """What is wrong with `observed`, where a record has it."""
    if "observed" not in record:
        return
    (first_step, first), (last_step, last) = record["observed"][0], record["observed"][-1]
    if (first_step, last_step) != (0, record["train"]["steps"]):
        yield f"observed from step {first_step} to {last_step}"
    if first == last:
        yield "nothing that was observed has changed: an untrained model"
    model, seed = LMConfig(**record["model"]), record["train"]["seed"]
    found = at_start(model, seed, record["data"].get("validation", "all"))
    for name, values in found.items():
        pairs = zip(first[name], values)
        same = all(math.isclose(*pair, rel_tol=ROUNDING) for pair in pairs)
        if not same or len(first[name]) != len(values):
            yield f"{name} at step 0 is not that of {model.residual}, seed {seed}"


@cache
def n_parameters(config: LMConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LM(config).parameters())


@cache
def at_start(config: LMConfig, seed: int, validation: str) -> dict[str, list[float]]:
    """What `record.observer` says of the untrained model."""
    torch.manual_seed(seed)
    return observer(text().validated_on(validation))(LM(config))


@cache
def text():
    return python_sources()


def shipped() -> dict:
    return text().fingerprint


def in_history(commit: str | None) -> bool:
    """Whether this checkout has the commit. True of any where git cannot say."""
    known = history()
    return known is None or bool(commit) and any(c.startswith(commit) for c in known)


@cache
def history() -> tuple[str, ...] | None:
    """All commits that led to this one; None without git, in a shallow clone, and for a
    copy of the course that lies in another project's checkout."""
    whole = git("rev-parse", "--is-shallow-repository") == "false"
    ours = git("ls-files", "--error-unmatch", "provenance.py") is not None
    commits = git("rev-list", "HEAD") if whole and ours else None
    return commits and tuple(commits.split())


def unexplained(name: str) -> list[dict]:
    """The records of a JSON whose commit cannot be looked up: its runs, or the whole. None
    of a sweep that has no runs yet."""
    content = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    if not any(content.values()):
        return []
    rows = [row for part in content.values() if isinstance(part, list) for row in part]
    runs = [row for row in rows if isinstance(row, dict) and "model" in row]
    return [run for run in runs or [content] if not in_history(run.get("commit"))]


def main() -> None:
    refused = 0
    for sweep in plan.SWEEPS:
        records = plan.runs(sweep)
        print(f"{sweep}: {len(records)} records")
        for check in (lambda: audit_sweep(sweep, records),
                      *(lambda record=record: audit(record) for record in records)):
            try:
                check()
            except ValueError as error:
                refused += 1
                print(f"  refused: {error}")
    if history() is None:
        print("commits were not looked up: no git, or a shallow clone")
    for name in sorted(path.stem for path in RECORDED.glob("*.json")):
        allowed, reason = KNOWN.get(name, (0, ""))
        if lost := len(unexplained(name)):
            print(f"{name}: of {lost} records the commit is not there. {reason}")
        refused += max(0, lost - allowed)
    sys.exit(refused and f"{refused} records are refused")


if __name__ == "__main__":
    main()
