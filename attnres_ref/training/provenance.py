"""What a recorded number needs to be believed: device, versions, commit."""

import platform
import subprocess
from pathlib import Path

import torch


def provenance(device: torch.device) -> dict:
    """JSON facts about this run's machine and code; no paths, no host name."""
    return dict(
        device=device_name(device),
        python=platform.python_version(),
        torch=torch.__version__,
        commit=commit(),
    )


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"


def commit() -> str | None:
    """Short hash of the checkout this file lies in; None outside a git checkout."""
    folder = Path(__file__).parent
    try:
        out = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=10, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()


def require_clean() -> None:
    """Raises RuntimeError where a *.py of the checkout is not as the commit has it."""
    status = ["git", "status", "--porcelain", "--", "*.py"]
    root = Path(__file__).parents[2]
    changed = subprocess.run(status, cwd=root, capture_output=True, text=True).stdout
    if changed:
        raise RuntimeError(f"commit first, so that a record names its code:\n{changed}")
