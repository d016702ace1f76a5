"""A run's folder: one atomic checkpoint and one line of metrics per step.

Whenever the run is killed or the power fails, the folder holds a whole checkpoint, or
none. The checkpoint contains the metrics of its steps, so that what metrics.jsonl lacks
can be written again.
"""

import io
import json
import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from attnres_ref.training.disk import locked, sync_folder, write_atomically

RUN = "model", "train", "data"         # of an identity: where they differ, the runs do


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used, with the file and the way out."""


class RunDirectory:
    """checkpoint.pt, metrics.jsonl and result.json in one folder.

    identity: JSON, what makes a checkpoint belong to this run (model, train, data); under
    "made" what else its numbers depend on: where that has changed, a warning says so.
    Raises OSError when the folder cannot be made, ValueError when it is not named.
    """

    def __init__(self, folder: str | Path, identity: dict, resume: bool):
        if not os.fspath(folder):
            raise ValueError("checkpoint_dir is '': name a folder, or None to keep nothing")
        try:
            self.folder = Path(folder).expanduser()
        except RuntimeError as error:
            raise ValueError(f"checkpoint_dir is '{folder}': {error}") from None
        self.identity, self.resume = identity, resume
        self.checkpoint = self.folder / "checkpoint.pt"
        self.metrics = self.folder / "metrics.jsonl"
        self.result = self.folder / "result.json"
        self.saved = None              # step of the checkpoint
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)

    def locked(self):
        """Context: within, this process alone trains in the folder."""
        return locked(self.folder / ".lock")

    def restore(self) -> dict | None:
        """The last checkpoint's state, or None when the run has not saved one yet.

        Metrics of later steps are dropped: the resumed run writes them again. Raises
        CheckpointError for a damaged file or another run's; if `resume` is False, for any.
        """
        saved = self.checkpoint.exists()
        found = self.metrics.read_bytes() if self.metrics.exists() else b""
        if not self.resume and (saved or found):
            raise CheckpointError(
                f"checkpoint_dir {self.folder} already holds a run: "
                "resume it (--resume), or choose another folder"
            )
        if found.count(b"\n") > 1 and not saved:       # the first step saves one
            raise CheckpointError(
                f"{self.checkpoint} is gone, but {self.metrics.name} has many lines: "
                "restore the checkpoint, or choose another folder"
            )
        if not saved:
            if found:
                said = f"{self.checkpoint} is not there: the run begins anew"
                warnings.warn(said, stacklevel=2)
            with self.writing():
                self.result.unlink(missing_ok=True)
                write_atomically(self.metrics, b"")
                for parent in self.folder.parents:     # which may be new, too
                    sync_folder(parent)
            return None
        state = load_checkpoint(self.checkpoint)
        self.saved = state["step"]
        changed = differences(state["identity"], self.identity)
        if other := [words for words in changed if words.startswith(RUN)]:
            raise CheckpointError(
                f"{self.checkpoint} belongs to another configuration "
                f"({'; '.join(other)}): use the same one, or another folder"
            )
        if changed and self.saved < self.identity["train"]["steps"]:
            warnings.warn(
                f"{self.checkpoint} was made otherwise ({'; '.join(changed)}): the run "
                "goes on, but bit for bit is no longer promised", stacklevel=2,
            )
        lines = found.splitlines(keepends=True)[: self.saved]
        if "metrics" not in state:     # version 0.1.0 wrote them to metrics.jsonl alone
            state["metrics"] = [json.loads(line) for line in lines]
        kept = "".join(json.dumps(line) + "\n" for line in state["metrics"]).encode()
        if not kept.startswith(b"".join(lines)) or len(state["metrics"]) != self.saved:
            raise CheckpointError(
                f"{self.metrics} does not fit {self.checkpoint.name}, which is of step "
                f"{self.saved}: delete the former and resume, the latter has its lines"
            )
        if found != kept:
            with self.writing():
                write_atomically(self.metrics, kept)
        return state

    def save(self, state: dict) -> None:
        """Replace the checkpoint; state["step"] counts the finished steps. Their metrics
        reach the disk first: no checkpoint is of a step that metrics.jsonl lacks."""
        content = io.BytesIO()         # torch.save has no OSError for a full disk
        torch.save(dict(identity=self.identity, **state), content)
        with self.writing():
            with self.metrics.open("ab") as file:
                os.fsync(file.fileno())
            write_atomically(self.checkpoint, content.getbuffer())
        self.saved = state["step"]

    def append(self, line: dict) -> None:
        with self.writing(), self.metrics.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")

    def write_result(self, result: dict) -> None:
        if result != self.read_result():
            with self.writing():
                write_atomically(self.result, json.dumps(result, indent=1).encode())

    def read_result(self) -> dict | None:
        """The finished run's result; None if it is missing, damaged or another run's."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            result = json.loads(self.result.read_bytes())
            if all(result[name] == self.identity[name] for name in RUN):
                return result
        return None

    def last_good(self) -> str:
        """For error messages: where to go on from."""
        if self.saved is None:
            return "no checkpoint was saved yet"
        return f"the last good checkpoint is {self.checkpoint}, step {self.saved}"

    @contextmanager
    def writing(self):
        """Within, an OSError names the folder and the way out."""
        try:
            yield
        except OSError as error:
            file = f": {error.filename}" if error.filename else ""
            raise type(error)(
                f"cannot write to checkpoint_dir {self.folder} ({error.strerror}{file}): "
                f"make room, or choose a folder you own; {self.last_good()}"
            ) from error


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU, as data only (no code is executed).

    Raises OSError when it cannot be read, CheckpointError when it is damaged.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
        # All there, and the step a whole number.
        state["identity"].keys(), range(state["step"])
    except Exception as error:         # torch.load raises many kinds on damaged files
        raise CheckpointError(
            f"{path} is truncated or no checkpoint of this course "
            f"({type(error).__name__}): delete it and start again, or restore a copy"
        ) from error
    return state


def resume_from(folder: RunDirectory, trainer) -> None:
    """Take `trainer` to where the folder's checkpoint is, if there is one. Raises
    CheckpointError if its weights are not those of the model."""
    if not (state := folder.restore()):
        return
    try:
        trainer.load_state_dict(state)
        for parameter, moments in trainer.optimizer.state.items():
            if moments["exp_avg"].shape != parameter.shape:
                raise ValueError(f"moments of {moments['exp_avg'].shape}")
    except Exception as error:         # each part raises its own kind
        raise CheckpointError(
            f"{folder.checkpoint} does not fit the model ({' '.join(str(error).split())}): "
            "use the code that made it, or another folder"
        ) from error
    if trainer.done == trainer.config.steps:           # this process adds nothing to it
        trainer.made = state["identity"].get("made", trainer.made)


def holds_run(folder: str | Path) -> bool:
    """Whether there is anything to resume."""
    names = "checkpoint.pt", "metrics.jsonl"
    return any(os.path.exists(os.path.expanduser(f"{folder}/{name}")) for name in names)


def differences(there, here, name: str = "") -> list[str]:
    """Where two JSON values differ, in words; what one of them lacks is None in it."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = [
            differences(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
            for key in here | there
        ]
        return sum(found, [])
    return [] if there == here else [f"{name}: {there!r} there, {here!r} here"]
