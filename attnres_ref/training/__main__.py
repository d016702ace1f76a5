"""The command line of `python -m attnres_ref.training`. The one module of the
reference that knows about corpora: the others take any object with their methods."""

import argparse
import sys
import warnings
from dataclasses import fields

import torch

from attnres_ref.depth import depth_attention
from attnres_ref.model import LMConfig
from attnres_ref.streams import STREAMS
from attnres_ref.training import Diverged, Run, TrainConfig, train
from attnres_ref.training.distributed import Processes, process_group
from attnres_ref.training.presets import PRESETS, current
from attnres_ref.training.run_directory import CheckpointError, holds_run
from tiny_data import load
from tiny_data.download import DownloadError


def train_command(arguments: list[str] | None = None) -> None:
    """Parse, train, print the result; one line on standard error when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m attnres_ref.training",
        description="Train one model; OUT gets metrics.jsonl, checkpoint.pt, result.json.",
    )
    add = parser.add_argument
    add("--residual", choices=sorted(STREAMS), default="block")
    add("--preset", choices=sorted(PRESETS), help="size; default: what the device suits")
    add("--data", default="python_sources", help="corpus name, or the path of a text file")
    add("--checkpoint-dir", help="folder for checkpoint and metrics; none: keep nothing")
    add("--resume", action="store_true", help="go on with the run that the folder holds")
    add("--block-size", type=int, help="layers per AttnRes block")
    for name in ("steps", "seed", "batch-size", "checkpoint-every"):
        add(f"--{name}", type=int, help="default: the preset's")
    for name in ("lr", "query-lr-scale", "query-weight-decay"):
        add(f"--{name}", type=float, help="default: the preset's")
    add("--compile", action="store_true", help="torch.compile the model")
    options = vars(parser.parse_args(arguments))
    if options["resume"] and options["checkpoint_dir"] is None:
        parser.error("--resume needs --checkpoint-dir: the folder of the run to go on with")

    try:
        with process_group(), warnings.catch_warnings():
            warnings.showwarning = in_one_line
            run = train_as(options)
            if Processes().rank == 0:
                print(
                    f"{options['residual']}: validation loss {run.val_loss:.4f} nats, "
                    f"{run.metrics[-1]['val_bits_per_byte']:.4f} bits per byte"
                )
    except (ValueError, OSError, CheckpointError, Diverged, DownloadError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if options["checkpoint_dir"] is None:
            sys.exit("interrupted: without --checkpoint-dir nothing was kept")
        sys.exit("interrupted: run the same command with --resume to go on")
    except RuntimeError as error:
        refused = torch._dynamo.exc.TorchDynamoException if options["compile"] else ()
        if not isinstance(error, refused):
            raise
        first_line = str(error).partition("\n")[0]
        sys.exit(
            f"error: torch.compile failed ({first_line}): leave out --compile or, if it "
            "misses a C++ compiler, install g++ or clang"
        )


def in_one_line(message, *_) -> None:
    """A warning, said once for all processes."""
    if Processes().rank == 0:
        print(f"warning: {message}", file=sys.stderr)


def train_as(options: dict) -> Run:
    """The run that the command line's options describe. One that bears the name of a field
    of LMConfig or TrainConfig sets that field, if it is given."""

    def given(config) -> dict:
        names = [field.name for field in fields(config)]
        return {name: options[name] for name in names if options.get(name) is not None}

    size = PRESETS[options["preset"]] if options["preset"] else current()
    model, recipe = size.lm(**given(LMConfig)), size.training(**given(TrainConfig))
    stream = STREAMS[model.residual](model, depth_attention)
    if options["block_size"] not in (None, getattr(stream, "block_size", None)):
        raise ValueError(f"--block-size: {model.residual} has no such blocks")
    folder, resume = options["checkpoint_dir"], options["resume"]
    processes = Processes()            # rank 0 looks, all of them hear what it found
    if resume and processes.any_of(processes.rank == 0 and not holds_run(folder)):
        raise CheckpointError(
            f"checkpoint_dir {folder} holds no run to resume: correct its name, or leave "
            "out --resume to begin one there"
        )
    return train(
        model, recipe, load(options["data"]), checkpoint_dir=folder, resume=resume,
        compile=options["compile"],
    )


if __name__ == "__main__":
    train_command()
