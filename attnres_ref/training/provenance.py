"""What a recorded number needs to be believed: device, versions, commit."""

import json
import platform
import subprocess
from pathlib import Path

import torch


def provenance(device: torch.device, **options) -> dict:
    """JSON facts about this run's machine, code and options; no paths, no host name."""
    return dict(
        device=device_name(device),
        python=platform.python_version(),
        torch=str(torch.__version__),              # a class of torch's otherwise
        commit=git("rev-parse", "--short", "HEAD"),    # None outside a git checkout
        dirty=None if git("rev-parse") is None else bool(uncommitted()),
        **options,
    )


def as_json(name: str, value):
    """`value` as JSON gives it back: a tuple is a list, and nan, which JSON has not, None.
    Raises ValueError for what JSON cannot hold."""
    try:
        return json.loads(json.dumps(value), parse_constant=lambda word: None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r:.200}, no JSON: {error}") from None


def require_clean() -> None:
    """Raise RuntimeError if code differs from the commit: a record made by it would name
    a commit that did not make it."""
    if changed := uncommitted():
        raise RuntimeError(
            f"{', '.join(changed)}: not committed. A record names the commit that made "
            "it, so commit first"
        )


def uncommitted() -> list[str]:
    """Python files of the checkout that differ from its commit, new ones among them."""
    lines = git("status", "--porcelain", "--", ":/*.py") or ""
    return [line.split(maxsplit=1)[1] for line in lines.splitlines()]


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"


def git(*arguments: str) -> str | None:
    """What git says of the checkout this file lies in; None where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
