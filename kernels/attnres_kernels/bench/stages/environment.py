"""What the machine is, how fast it copies, and whether a backward can be captured."""

import shutil
import subprocess

from attnres_kernels.bench import clock, operators, peers

ASKED = "name,driver_version,clocks.sm,clocks.mem,power.draw,power.limit"
PATIENCE_S = 5


def measure(record, device) -> None:
    for _ in range(2):
        record.add(copy_gb_per_s=clock.copy_bandwidth(device))
    record.note(nvidia_smi=nvidia_smi())   # just after work: idle clocks say nothing
    sets = operators.sets_of(2, 16, 64, device)[:1]
    for part in operators.PARTS:
        _, why = clock.as_graph(operators.calls_of(part, peers.ours, sets), device)
        record.add(part=part, graph=why is None, why=why)


def nvidia_smi() -> str | None:
    """Driver, clocks and power; None where the command is missing, or does not answer."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, f"--query-gpu={ASKED}", "--format=csv"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout
