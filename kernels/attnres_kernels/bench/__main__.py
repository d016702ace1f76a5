"""The kernels on one GPU, beside other implementations and the bandwidth of a copy.

    python -m attnres_kernels.bench --json notebooks/recorded/bench_gpu.json

Protocol: the bandwidth of a plain copy first. Every contender passes a comparison with
float64, on independent and on nearly equal sources, or is named and left out. All get
the same list of inputs; calls are replayed as CUDA graphs over inputs that together
exceed the L2 cache, in interleaved order. Numbers are medians with their quartiles.
Each T runs in a process of its own, so that autotuned peers begin afresh.
Without a GPU it checks the kernels on a tiny case, and measures nothing.
"""

import argparse
import json
import subprocess
import sys

import torch

from attnres_kernels import interpreting
from attnres_kernels.bench import operators, peers
from attnres_kernels.bench.gate import errors_against_float64
from attnres_kernels.bench.model import model_ratios
from attnres_kernels.bench.report import joined, roofline, table
from attnres_ref.bench.options import count, output_file
from attnres_ref.training.provenance import require_clean

TS = (1, 64, 2048, 8192)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=count, default=30)
    parser.add_argument("--json", type=output_file, help="write the record here")
    parser.add_argument(
        "--plot", type=output_file, help="write the roofline plot here, as PNG"
    )
    parser.add_argument(
        "--only-T", type=count, help="one T, its record on standard output"
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(tiny_check())
        if options.json or options.plot or options.only_T:
            sys.exit("There is nothing to write.")
        return
    if options.json:
        require_clean()
    if options.only_T is not None:
        print(json.dumps(operators.measure(options.only_T, options.rounds)))
        return
    records = [in_own_process(T, options.rounds) for T in TS]
    ratios = model_ratios(options.rounds, torch.device("cuda"))
    record = joined(records) | dict(model=ratios)
    print(table(record))
    if options.json:
        text = json.dumps(record, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8", newline="\n")
    if options.plot:
        roofline(record).savefig(options.plot, dpi=110)


def in_own_process(T: int, rounds: int) -> dict:
    """`operators.measure`, in a process whose autotuners have seen no other T."""
    command = [sys.executable, "-m", "attnres_kernels.bench",
               "--only-T", str(T), "--rounds", str(rounds)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


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
