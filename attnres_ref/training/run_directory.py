"""A run's folder: one atomic checkpoint and one line of metrics per step.

Whatever moment a run is killed at, the folder holds a whole checkpoint (or none)
and metrics that start with everything up to it; `restore` cuts off the rest.
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import torch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used, with the file and the way out."""


class RunDirectory:
    """checkpoint.pt, metrics.jsonl and result.json in one folder.

    identity: what makes a checkpoint belong to this run (configurations, data).
    Raises OSError when the folder cannot be written to, CheckpointError when it
    already holds a run and `resume` is False.
    """

    def __init__(self, folder: str | Path, identity: dict, resume: bool):
        self.folder = Path(folder)
        self.identity = identity
        self.checkpoint = self.folder / "checkpoint.pt"
        self.metrics = self.folder / "metrics.jsonl"
        self.result = self.folder / "result.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.metrics.open("a").close()
        except OSError as error:
            raise type(error)(
                f"cannot write to checkpoint_dir {self.folder} ({error.strerror}): "
                "choose a folder you own"
            ) from error
        if not resume and self.metrics.stat().st_size:
            raise CheckpointError(
                f"checkpoint_dir {self.folder} already holds a run: "
                "resume it (--resume), or choose another folder"
            )

    @contextmanager
    def locked(self):
        """Within, this process alone trains in the folder; a second one waits here. The
        lock goes with the process, however it ends. Without fcntl (Windows): no lock."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def restore(self) -> dict | None:
        """The last checkpoint's state, or None when the run has not saved one yet.

        Metrics of later steps are dropped: the resumed run writes them again.
        Raises CheckpointError for a damaged file, another run's, or missing metrics.
        """
        state = self._load() if self.checkpoint.exists() else None
        if state is None:
            self.result.unlink(missing_ok=True)        # of a run whose checkpoint is gone
        kept = 0 if state is None else state["step"]
        lines = self.metrics.read_text().splitlines(keepends=True)[:kept]
        if len(lines) < kept:
            raise CheckpointError(
                f"{self.metrics} has {len(lines)} lines, the checkpoint is of step {kept}: "
                "restore the file, or delete the folder and start again"
            )
        write_atomically(self.metrics, lambda path: path.write_text("".join(lines)))
        return state

    def save(self, state: dict) -> None:
        """Replace the checkpoint; state["step"] counts the finished steps."""
        state = {"identity": self.identity, **state}
        write_atomically(self.checkpoint, lambda path: torch.save(state, path))

    def append(self, line: dict) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def write_result(self, result: dict) -> None:
        text = json.dumps(result, indent=1)
        write_atomically(self.result, lambda path: path.write_text(text))

    def read_result(self) -> dict | None:
        """The finished run's result, None before it is finished."""
        return json.loads(self.result.read_text()) if self.result.exists() else None

    def read_metrics(self) -> list[dict]:
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def last_good(self) -> str:
        """For error messages: where to go on from."""
        if not self.checkpoint.exists():
            return "no checkpoint was saved yet"
        return f"the last good checkpoint is {self.checkpoint}, step {self._load()['step']}"

    def _load(self) -> dict:
        state = load_checkpoint(self.checkpoint)
        differences = [
            f"{part}.{name}: {state['identity'][part].get(name)!r} there, {value!r} here"
            for part, fields in self.identity.items()
            for name, value in fields.items()
            if state["identity"][part].get(name) != value
        ]
        if differences:
            raise CheckpointError(
                f"{self.checkpoint} belongs to another configuration "
                f"({'; '.join(differences)}): use the same one, or another folder"
            )
        return state


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU, as data only (no code is executed).

    Raises FileNotFoundError, or CheckpointError when the file is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["step"], state["identity"]
    except FileNotFoundError:
        raise
    except Exception as error:         # torch.load raises many kinds on damaged files
        raise CheckpointError(
            f"{path} is truncated or no checkpoint of this course "
            f"({type(error).__name__}): delete it and start again, or restore a copy"
        ) from error
    return state


def write_atomically(path: Path, write) -> None:
    """Write beside the target, then rename: readers see the old file or the new."""
    temporary = path.with_name(path.name + ".part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
