"""The kernels on one GPU, beside other implementations and the bandwidth of a copy.

    python -m attnres_kernels.bench --json notebooks/recorded/bench_gpu.json
    python -m attnres_kernels.bench --half A --out DIR          at most 7 minutes
    python -m attnres_kernels.bench --half B --out DIR          at most 5 minutes
    python -m attnres_kernels.bench sweep cells --out DIR       these stages alone
    python -m attnres_kernels.bench report --out DIR --json FILE
    python -m attnres_kernels.bench --dry                       all stages, tiny, on a CPU

It needs torch, triton, numpy and tqdm, with `kernels` and the repository on PYTHONPATH;
matplotlib only for --plot. Stages, their limits and what they cover: plan.py and stages/.

Protocol: the bandwidth of a plain copy first. Every contender passes a comparison with
float64, on independent and on nearly equal sources, or is named and left out. All get
the same list of inputs; calls are replayed as CUDA graphs, in turns, over inputs that
together exceed the L2 cache, except for few tokens, which lie in it as when a model
decodes. Numbers are medians with their quartiles. Each stage is a process with a time
limit and writes row by row, so a cut loses only the row under way.
Without a GPU it checks the kernels on a tiny case, and measures nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch

from attnres_kernels import interpreting
from attnres_kernels.bench import peers, report
from attnres_kernels.bench.gate import errors_against_float64
from attnres_kernels.bench.plan import PLAN, STAGES, longest_s, run_group
from attnres_kernels.bench.record import DRY, Record
from attnres_ref.bench.options import output_file
from attnres_ref.training.provenance import require_clean

REPORT = "report"


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    only_report = options.stages == [REPORT]
    writes = options.json or options.plot
    if options.dry and writes:
        sys.exit(f"This is {DRY}. There is nothing to write.")
    if not (only_report or options.dry or torch.cuda.is_available()):
        print(tiny_check())
        if writes or options.stages or options.half:
            sys.exit("There is nothing to write.")
        return
    failed = []
    if not only_report:
        if options.json:
            require_clean()
        options.out.mkdir(parents=True, exist_ok=True)
        failed = run(groups_of(options), options.out, options.dry)
    record = report.joined(report.read(options.out))
    print(f"This was {DRY}." if record["dry"] else report.table(record))
    if writes and (record["dry"] or record["dirty"]):
        why = DRY if record["dry"] else "made by code that was not committed"
        sys.exit(f"What {options.out} holds is {why}. There is nothing to write.")
    if options.json:
        text = json.dumps(record, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8", newline="\n")
    if options.plot:
        # Not above: it brings matplotlib, which the machine with the GPU may not have.
        from attnres_kernels.bench import figures

        figures.roofline(record).savefig(options.plot, dpi=110)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}; see {options.out}/STAGE.log")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("stages", nargs="*", type=stage, help=f"{', '.join(STAGES)}; or {REPORT}, alone")
    add("--half", choices=PLAN, help="; ".join(f"{k}: {longest_s(k)} s" for k in PLAN))
    add("--out", type=Path, default=Path("build/bench_gpu"), help="folder of the records")
    add("--dry", action="store_true", default=bool(os.environ.get("DRY")),
        help="tiny, on the CPU, in Triton's interpreter; also DRY=1")
    add("--json", type=output_file, help="write the joined record here")
    add("--plot", type=output_file, help="write the roofline plot here, as PNG")
    options = parser.parse_args(arguments)
    if options.stages and options.half:
        parser.error(f"--half {options.half} and stages: choose one")
    if REPORT in options.stages and len(options.stages) > 1:
        parser.error(f"{REPORT} and other stages: every run ends with a report anyway")
    return options


def stage(text: str) -> str:
    """A stage's name, or `report`. Raises ArgumentTypeError for anything else."""
    if text not in STAGES and text != REPORT:
        names = ", ".join([*STAGES, REPORT])
        raise argparse.ArgumentTypeError(f"{text!r} is no stage: choose from {names}")
    return text


def groups_of(options) -> dict[str, list]:
    """Groups of stages by the name of their run."""
    if options.stages:
        return {"stages": [[STAGES[name]] for name in options.stages]}
    return {half: PLAN[half] for half in ([options.half] if options.half else PLAN)}


def run(groups: dict[str, list], out: Path, dry: bool) -> list[str]:
    """Run them; the names of the stages that failed. One that was cut has not: what it has
    measured until then counts, and the report says that it was cut."""
    device, failed = torch.device("cpu" if dry else "cuda"), []
    if dry:
        print(f"This is {DRY}.")
    for stages in groups.values():
        for name in (stage.name for group in stages for stage in group):
            for earlier in out.glob(f"{name}*.json"):
                earlier.unlink()
    records = {name: Record(out, f"run_{name}", device) for name in groups}
    report.joined(report.read(out))        # raises before minutes are spent, if ever
    for name, stages in groups.items():
        for group in stages:
            for row in run_group(group, out, dry):
                records[name].add(**row)
                if row["outcome"] != "done":
                    log = Path(out, f"{row['stage']}.log")
                    text = log.read_text(encoding="utf-8", errors="replace")
                    print(*text.splitlines()[-5:], sep="\n")
                if row["outcome"].startswith("failed"):
                    failed.append(row["stage"])
    return failed


def tiny_check() -> str:
    """What can be said without a GPU: our own read passes the gate, in the interpreter."""
    if not interpreting():
        return "No GPU here and no interpreter: measured nothing, checked nothing."
    errors = errors_against_float64(peers.ours, torch.device("cpu"), torch.float32)
    worst = max(errors.values())
    assert worst < 1e-4, errors
    return f"No GPU here: measured nothing. In the interpreter, largest error {worst:.0e}."


if __name__ == "__main__":
    main()
