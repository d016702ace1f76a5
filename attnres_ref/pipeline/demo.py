"""A model trained on a pipeline of real processes, beside one process.

    python -m torch.distributed.run --standalone --nproc-per-node 4 \\
        -m attnres_ref.pipeline.demo

One rank for each process: gloo on CPUs, nccl where every process has a GPU. On several
machines start the same on each, with torch.distributed.run's own options, for instance
--nnodes 2 --rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29400 for --standalone.
"""

import argparse
import logging
import os
import sys

import torch.distributed as dist

from attnres_ref.pipeline.launch import device
from attnres_ref.pipeline.layout import MODES, Layout, cached_formula, naive_formula
from attnres_ref.pipeline.trial import Trial, trial
from attnres_ref.training.distributed import process_group


def main(arguments: list[str] | None = None) -> None:
    """Under torch.distributed.run, on every rank; rank 0 prints."""
    parser = argparse.ArgumentParser(
        prog="python -m torch.distributed.run --standalone --nproc-per-node 4 "
        "-m attnres_ref.pipeline.demo",
        description="The pipeline cache on real processes, in each mode.",
    )
    add = parser.add_argument
    add("--n-virtual", type=int, default=2, help="chunks on each rank")
    add("--n-layers", type=int, default=16)
    add("--block-size", type=int, default=4, help="layers per AttnRes block")
    add("--microbatches", type=int, default=8)
    add("--steps", type=int, default=3)
    options = parser.parse_args(arguments)
    if "RANK" not in os.environ:
        parser.error("there are no ranks: start it through torch.distributed.run, as above")

    cut = options.n_virtual, options.n_layers, options.block_size
    try:
        with process_group():
            found = {
                mode: trial(
                    Layout(dist.get_world_size(), *cut, mode), options.microbatches,
                    options.steps,
                )
                for mode in MODES
            }
            if dist.get_rank() == 0:
                layout = Layout(dist.get_world_size(), *cut)
                print(report(layout, found, options.microbatches, options.steps))
    except ValueError as error:
        sys.exit(f"error: {error}")


def report(layout: Layout, found: dict[str, Trial], n_microbatches: int, steps: int) -> str:
    """Two tables: equal to one process? And what was sent?"""
    lines = [
        f"P = {layout.n_ranks} ranks ({dist.get_backend()}, {device().type}), "
        f"V = {layout.n_virtual}, L = {layout.n_layers}, S = {layout.block_size}, "
        f"{n_microbatches} micro-batches, float64",
        "",
        f"{steps} training steps against one process, largest |difference|:",
        f"{'':10s}{'loss':>9s}{'gradient':>11s}   loss by step",
    ]
    for mode, one in found.items():
        losses = " ".join(f"{loss:.4f}" for loss in one.losses)
        lines.append(
            f"{mode:10s}{one.loss_difference:9.1e}{one.gradient_difference:11.1e}"
            f"   {losses}"
        )
    names = "".join(f"{f'{c}>{c + 1}':>6s}" for c in layout.transitions)
    lines += [
        "",
        "tensors [B, T, d] per transition and micro-batch, counted on the engine:",
        f"{'':10s}{names}{'total':>8s}{'back':>8s}{'KiB a step':>13s}",
    ]
    for mode, one in found.items():
        counts = "".join(f"{count:6g}" for count in one.forward)
        lines.append(
            f"{mode:10s}{counts}{sum(one.forward):8g}{sum(one.backward):8g}"
            f"{sum(one.n_bytes) / 1024:13.1f}"
        )
    per_chunk = layout.n_layers / layout.block_size / layout.n_chunks
    sizes = layout.n_ranks, layout.n_virtual, per_chunk
    partials = sum(map(layout.has_partial, layout.transitions))
    lines += [
        "",
        f"Eq. 7, naive: {naive_formula(*sizes):g}; Eq. 8, received: "
        f"{cached_formula(*sizes):g}. Not in them: the embedding, and partial sums on "
        f"{partials} of {len(layout.transitions)} transitions.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    main()
