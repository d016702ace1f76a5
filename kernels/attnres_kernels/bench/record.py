"""The record of one stage: a JSON file that is whole after every row."""

import json
import os
import time
from pathlib import Path

import torch

from attnres_kernels.interpret import triton
from attnres_ref.training.provenance import provenance

DRY = "a dry run on the CPU: nothing was measured"


class Record:
    """OUT/STAGE.json: {"stage", facts of the run, "rows"}.

    A row is on disk when `add` returns, so a stage that is cut loses only the row under
    way. A file that is being written has another name, or a cut could leave half of it.
    """

    def __init__(self, out: Path, stage: str, device: torch.device, **facts):
        self.path, self.began = Path(out, f"{stage}.json"), time.perf_counter()
        dry = device.type == "cpu"
        made = provenance(device, triton=getattr(triton, "__version__", None), dry=dry)
        if dry:
            made["device"] = DRY
        self.content = dict(stage=stage, **made, **facts, rows=[])
        self.save()

    def note(self, **facts) -> None:
        """Add to the facts of the stage."""
        self.content |= facts
        self.save()

    def add(self, **row) -> None:
        row["at_s"] = round(time.perf_counter() - self.began, 2)
        self.content["rows"].append(row)
        self.save()
        print(json.dumps(row), flush=True)

    def save(self) -> None:
        unfinished = self.path.with_suffix(".unfinished")
        text = json.dumps(self.content) + "\n"
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, self.path)
