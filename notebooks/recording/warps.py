"""Why few warps: the read compiled for 1 to 16 of them, by how it finds its sources.

    python notebooks/recording/warps.py          # writes recorded/warps.json

Beside them the backward, as it is launched. All are compiled ahead of time for an H100, so
no GPU is needed. Rows are those of `python -m attnres_kernels.ahead`, which explains them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from attnres_kernels import kernels, launch
from attnres_kernels.ahead import Cell, read_cells, row, table
from attnres_kernels.interpret import interpreting, kernel, tl, triton
from attnres_kernels.parts import join
from attnres_ref.training.provenance import provenance, require_clean

SIZES, WARPS = [(n, d) for d in (1024, 4096) for n in (9, 33)], (1, 2, 4, 8, 16)


@kernel
def forward_by_pick(sources, w_ptr, h_ptr, n, T, eps, D: tl.constexpr,
                    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, STAGES: tl.constexpr):
    """The read, but each source is chosen among BLOCK_N pointers."""
    lanes = tl.arange(0, BLOCK_D)
    inside = lanes < D
    w = tl.load(w_ptr + lanes, mask=inside, other=0.0)
    for t in range(tl.program_id(0), T, tl.num_programs(0)):
        at = tl.cast(t, tl.int64) * D + lanes
        acc = tl.zeros([BLOCK_D], tl.float32)
        m, l = tl.full([], -float("inf"), tl.float32), tl.full([], 0.0, tl.float32)
        for i in tl.range(0, n, num_stages=STAGES):
            source = sources[0]
            for j in tl.static_range(1, BLOCK_N):
                source = tl.where(i == j, sources[j], source)
            v = tl.load(source + at, mask=inside, other=0.0).to(tl.float32)
            acc, m, l = join(acc, m, l, v, w, eps, D)
        tl.store(h_ptr + at, (acc / l).to(h_ptr.dtype.element_ty), mask=inside)


def cells() -> Iterator[Cell]:
    for name, how, absent in (("pick", forward_by_pick, ()),
                              ("addresses", kernels.forward_kernel, ("gain_ptr",))):
        for n, d in SIZES:
            options = launch.tiles(n, d, launch.FORWARD)
            for warps in WARPS:
                chosen = options | dict(num_warps=warps)
                yield Cell(name, how, n, d, n + 1, chosen, absent)
    yield from (cell for cell in read_cells(SIZES) if cell.name == "backward")


def main() -> None:
    require_clean()
    if interpreting():                 # compiling needs a Python that does not interpret
        again = [sys.executable, __file__]
        subprocess.run(again, env=os.environ | {"TRITON_INTERPRET": "0"}, check=True)
        return
    rows = [row(90, cell) for cell in cells()]
    print(table(rows))
    made = provenance(torch.device("cpu"), triton=triton.__version__)
    record = dict(rows=[asdict(made) for made in rows], **made)
    path = Path(__file__).parents[1] / "recorded" / "warps.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
