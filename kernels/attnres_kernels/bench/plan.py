"""Which stages there are, how long each may take, and the process that each one is.

Limits add up to 417 s for half A and 285 s for half B. What a stage is expected to take
was measured on an H200 with 16 cores in November 2026, but for `beside_peers`, which is an
estimate; `train` and `notebooks` go on for as long as they may.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Stage(NamedTuple):
    """A module of attnres_kernels.bench.stages."""

    name: str
    expected_s: int
    limit_s: int


# Of each half the groups that follow each other; stages of a group run side by side, of
# which at most one is timed.
PLAN = {
    "A": [
        [Stage("environment", 7, 12)],
        [Stage("warm", 87, 120), Stage("gpu_tests", 73, 105)],
        [Stage("sweep", 21, 30)],
        [Stage("cells", 50, 70)],
        [Stage("phases", 20, 35)],
        [Stage("model", 100, 125)],
        [Stage("decode", 17, 25)],
    ],
    "B": [
        [Stage("train", 105, 115), Stage("compile_peers", 102, 145),
         Stage("agreement", 70, 95), Stage("notebooks", 105, 115)],
        [Stage("beside_peers", 100, 140)],
    ],
}
DRY_LIMIT_S = 600                      # of any stage: a slow CPU says nothing about them
STAGES = {stage.name: stage for half in PLAN.values() for group in half for stage in group}


def longest_s(half: str) -> int:
    """Seconds that a half takes at most."""
    return sum(max(stage.limit_s for stage in group) for group in PLAN[half])


def run_group(group: list[Stage], out: Path, dry: bool) -> list[dict]:
    """Run stages side by side, each in a process of its own that is stopped at its limit:
    a row {stage, seconds, limit_s, outcome} for each. They write OUT/STAGE.json, and what
    they print goes to OUT/STAGE.log."""
    processes = []
    with ThreadPoolExecutor() as waiting:
        try:
            for stage in group:
                processes.append(start(stage.name, out, dry))
            limits = [DRY_LIMIT_S if dry else stage.limit_s for stage in group]
            return [*waiting.map(finished, group, processes, limits)]
        finally:                           # Ctrl-C comes to this process alone
            for process in processes:
                stop(process)


def start(name: str, out: Path, dry: bool) -> subprocess.Popen:
    module = "attnres_kernels.bench.worker"
    command = [sys.executable, "-m", module, name, "--out", str(out)]
    with open(Path(out, f"{name}.log"), "wb") as log:
        return subprocess.Popen(
            command, env=environment(dry), stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,        # a group, to be stopped with all its shares
        )


def finished(stage: Stage, process: subprocess.Popen, limit_s: float) -> dict:
    """Wait for a stage that has just begun, at most until its limit."""
    began = time.monotonic()
    try:
        code = process.wait(limit_s)
        outcome = "done" if code == 0 else f"failed with exit code {code}"
    except subprocess.TimeoutExpired:
        stop(process)
        outcome = f"cut at its limit of {limit_s} s"
    seconds = round(time.monotonic() - began, 1)
    return dict(stage=stage.name, seconds=seconds, limit_s=limit_s, outcome=outcome)


def stop(process: subprocess.Popen) -> None:
    """End the stage and the processes that it has started."""
    with suppress(ProcessLookupError):     # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(dry: bool) -> dict[str, str]:
    """What a stage finds in its environment: the same packages, caches that all stages
    share, and in a dry run no GPU and Triton's interpreter."""
    caches = Path(tempfile.gettempdir(), "attnres_bench")
    shared = dict(
        TRITON_CACHE_DIR=str(caches / "triton"), OMP_NUM_THREADS="2",
        TORCHINDUCTOR_CACHE_DIR=str(caches / "inductor"), TORCHINDUCTOR_COMPILE_THREADS="8",
    )
    always = dict(
        PYTHONPATH=os.pathsep.join(filter(None, sys.path)), PYTHONUNBUFFERED="1",
        PYTHONWARNINGS="ignore", TQDM_DISABLE="1",
    )
    inherited = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    without_gpu = dict(CUDA_VISIBLE_DEVICES="", TRITON_INTERPRET="1") if dry else {}
    return shared | inherited | always | without_gpu
