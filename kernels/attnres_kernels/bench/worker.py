"""The process of one stage: `python -m attnres_kernels.bench.worker STAGE --out DIR`."""

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path

from attnres_kernels.bench import clock
from attnres_kernels.bench.plan import STAGES
from attnres_kernels.bench.record import Record


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=int, help="which of the stage's shares this does")
    options = parser.parse_args(arguments)
    module = importlib.import_module(f"attnres_kernels.bench.stages.{options.stage}")
    device = clock.own_device()
    if options.share is not None:
        module.share(options.share, module.SHARES[device.type], options.out, device)
    elif hasattr(module, "SHARES"):
        record = Record(options.out, options.stage, device)
        in_shares(record, options.stage, module.SHARES[device.type], options.out)
    else:
        module.measure(Record(options.out, options.stage, device), device)


def in_shares(record: Record, stage: str, n_shares: int, out: Path) -> None:
    """Run all shares at once, a row for each; exit with an error if one failed."""
    command = [sys.executable, "-m", "attnres_kernels.bench.worker", stage,
               "--out", str(out), "--share"]
    began = time.monotonic()
    processes = [subprocess.Popen([*command, str(k)]) for k in range(n_shares)]
    for k, process in enumerate(processes):
        code = process.wait()
        record.add(share=k, exit_code=code, seconds=round(time.monotonic() - began, 1))
    if any(process.returncode for process in processes):
        sys.exit(f"{stage}: a share failed")


if __name__ == "__main__":
    main()
