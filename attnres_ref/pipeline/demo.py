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

from attnres_ref.pipeline.comparison import Comparison, beside_one_process
from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.training.distributed import process_group


def main() -> None:
    """Under torch.distributed.run, on every rank; rank 0 prints."""
    parser = argparse.ArgumentParser(
        prog="python -m torch.distributed.run --standalone --nproc-per-node 4 "
        "-m attnres_ref.pipeline.demo",
        description="The pipeline cache on real processes, in each mode.",
    )
    parser.add_argument("--n-virtual", type=int, default=2, help="chunks on each rank")
    parser.add_argument("--n-layers", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=4, help="layers of a block")
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("there are no ranks: start it through torch.distributed.run, as above")

    size = options.n_virtual, options.n_layers, options.block_size
    try:
        with process_group():
            layouts = [Layout(dist.get_world_size(), *size, mode) for mode in MODES]
            results = [
                beside_one_process(layout, options.microbatches, options.steps)
                for layout in layouts
            ]
            if dist.get_rank() == 0:
                print(report(layouts, results))
    except ValueError as error:
        sys.exit(f"error: {error}")


def report(layouts: list[Layout], results: list[Comparison]) -> str:
    """Equal to one process? And what was sent?"""
    one = layouts[0]
    names = "".join(f"{f'{c}>{c + 1}':>5s}" for c in one.transitions)
    lines = [
        f"P = {one.n_ranks} ranks ({dist.get_backend()}), V = {one.n_virtual}, "
        f"L = {one.n_layers}, S = {one.block_size}, float64",
        "loss by step: " + " ".join(f"{loss:.4f}" for loss in results[0].losses),
        "",
        "largest |difference|      tensors [B, T, d] per transition and micro-batch,",
        "from one process          counted on the engine; as many gradients come back",
        f"{'':10s}{'loss':>7s}{'gradient':>9s}{names}{'total':>7s}{'KiB a step':>12s}",
    ]
    for layout, result in zip(layouts, results):
        counts = "".join(f"{count:5g}" for count in result.forward)
        lines.append(
            f"{layout.mode:10s}{result.loss_difference:7.0e}"
            f"{result.gradient_difference:9.0e}{counts}{sum(result.forward):7g}"
            f"{sum(result.n_bytes) / 1024:12.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    main()
