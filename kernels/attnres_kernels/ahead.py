"""What the kernels need of a GPU, told by their compiled code; no GPU is needed for it.

    python -m attnres_kernels.ahead --json notebooks/recorded/ahead.json

compiles every kernel for a T4 (sm_75, float16), an A100 (sm_80) and an H100 (sm_90, both
bfloat16) and prints a table. Columns:
registers   of a thread, 255 at most; more are spilled to memory, which costs passes
shared      bytes of shared memory of a program, where loads under way arrive
at once     programs that an SM holds at once (attnres_kernels.occupancy)
loop        instructions for one source, by loop over the sources, of one warp
issue       issue slots that a token needs, as a share of those that pass while its bytes
            are copied. Near 100 % the kernel cannot run at the speed of a copy

An H100 has 132 SMs with four schedulers each, which issue one instruction a cycle at
1.755 GHz, and copies at 3.0 TB/s, as assumed here and not measured. Instructions are
counted in SASS: a loop over the sources times its rounds, the rest of the loop over
tokens once (attnres_kernels.sass). Waiting (for memory, at barriers) is not in the share,
so a small one promises nothing; a large one rules the copy's speed out.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from attnres_kernels import kernels, launch, phase_backward, phase_kernels
from attnres_kernels.interpret import available, interpreting, triton
from attnres_kernels.occupancy import A100, H100, T4, resident
from attnres_kernels.phase_one_operators import backward_tiles, forward_tiles
from attnres_kernels.phase_two_operators import register_tiles
from attnres_kernels.sass import disassembled, registers_and_spills
from attnres_ref.bench.options import output_file
from attnres_ref.training.provenance import provenance, require_clean

COPY, CLOCK, SCHEDULERS = 3.0e12, 1.755e9, 4         # of an H100: bytes/s, Hz, per SM
TARGETS = {75: (T4, "*fp16"), 80: (A100, "*bf16"), 90: (H100, "*bf16")}
HALF = {"h_ptr", "dh_ptr", "mean_ptr", "output_ptr", "partial_ptr", "dpartial_ptr"}
TUPLES = dict(sources="BLOCK_N", dvs="BLOCK_N", means="N_MEANS", dmeans="BLOCK_S")
EXACT = "N"                            # where it is there, sources and dvs are as many


@dataclass(frozen=True)
class Cell:
    """One kernel at one size. `passes`: tensors of [d] that a token's program reads and
    writes in DRAM. `absent`: arguments that are None."""

    name: str
    kernel: object
    n: int
    d: int
    passes: int
    options: dict[str, int]
    absent: tuple[str, ...] = ()


def read_cells(sizes: Iterable[tuple[int, int]], gain: bool = False) -> Iterator[Cell]:
    """The read and its gradient at every (n, d)."""
    absent, norm = ((), " + norm") if gain else (("gain_ptr",), "")
    for n, d in sizes:
        forward = launch.tiles(n, d, launch.FORWARD)
        yield Cell(
            "forward" + norm, kernels.forward_kernel, n, d, n + 1, forward, absent
        )
        backward = launch.tiles(n, d, launch.BACKWARD)
        yield Cell(
            "backward" + norm, kernels.backward_kernel, n, d, 2 * n + 1, backward, absent
        )


def phase_cells() -> Iterator[Cell]:
    """Phase 1 for four queries; phase 2, and phase 2 with all that can be fused. Their
    gradients: phase 1's for as many queries as one launch takes, and for further ones,
    whose launch adds to the sources' gradients."""
    one, two = phase_kernels.phase_one_kernel, phase_kernels.phase_two_kernel
    tiles, plain = launch.tiles, ("output_ptr", "gain_ptr")
    for d in (1024, 4096):             # a program takes two of the four
        yield Cell("phase 1", one, 9, d, 9 + 4, forward_tiles(9, 4, d))
    yield Cell("phase 2", two, 3, 4096, 3 + 2, tiles(3, 4096, launch.FORWARD), plain)
    yield Cell("phase 2 + output + norm", two, 1, 4096, 5, tiles(1, 4096, launch.FORWARD))
    back_one, back_two = (
        phase_backward.phase_one_backward_kernel, phase_backward.phase_two_backward_kernel
    )
    for d, S, add in ((1024, 4, False), (1024, 4, True), (4096, 2, False), (7168, 1, True)):
        name = f"phase 1 backward, S={S}" + ", adds" * add
        options = backward_tiles(9, S, d) | dict(ADD=add)
        yield Cell(name, back_one, 9, d, 2 * 9 + S + 9 * add, options)
    for d, n in ((1024, 2), (4096, 2), (4096, 4)):         # the mean and n - 1 sources
        absent = ("dpartial_ptr", "gain_ptr")
        options = register_tiles(n, d)
        yield Cell("phase 2 backward", back_two, n, d, 2 * n + 1, options, absent)
        if n == 2:                         # all that can be fused
            yield Cell("phase 2 backward + norm", back_two, n, d, 2 * n + 2, options)


def plan() -> list[tuple[int, Cell]]:
    """What the table shows: every cell for every target."""
    sizes = [(n, d) for d in (1024, 4096, 7168) for n in (9, 33)]
    normed = read_cells([(9, 4096), (9, 7168)], gain=True)
    cells = [*read_cells(sizes), *normed, *phase_cells()]
    return [(capability, cell) for capability in TARGETS for cell in cells]


@dataclass(frozen=True)
class Row:
    """What the compiled code of a cell tells. issue: None but for an H100."""

    kernel: str
    target: str
    n: int
    d: int
    warps: int
    stages: int | None                 # None: no loop over sources waits for loads
    registers: int
    spilled_bytes: int
    shared_bytes: int
    at_once: int
    loop: list[int]
    issue: float | None


def compiled(cell: Cell, capability: int, dtype: str):
    """The cell's kernel for one architecture, as a launch would compile it: pointers to
    multiples of 16 bytes, whole numbers not specialised."""
    warps = cell.options["num_warps"]
    constants = cell.options | dict.fromkeys(cell.absent)
    del constants["num_warps"]
    signature, attributes = {}, {}
    for place, name in enumerate(cell.kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in TUPLES:
            length = constants.get(EXACT) or constants[TUPLES[name]]
            signature[name] = (dtype,) * length
            attributes |= {(place, i): [["tt.divisibility", 16]] for i in range(length)}
        elif name.endswith("_ptr"):
            kinds = dict.fromkeys(HALF, dtype) | dict(addresses_ptr="*i64")
            signature[name] = kinds.get(name, "*fp32")
            attributes[place,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if "eps" in name else "i32"
    source = triton.compiler.ASTSource(cell.kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=dict(num_warps=warps))


def row(capability: int, cell: Cell) -> Row:
    (card, dtype), options = TARGETS[capability], cell.options
    built = compiled(cell, capability, dtype)
    with TemporaryDirectory() as folder:
        cubin = Path(folder) / "cubin"
        cubin.write_bytes(built.asm["cubin"])
        program = disassembled(cubin)
        registers, spilled = registers_and_spills(cubin)
    warps, shared = options["num_warps"], built.metadata.shared
    needed = warps * program.per_token(cell.n)
    passing = cell.passes * cell.d * 2 / COPY * H100.n_sm * SCHEDULERS * CLOCK
    return Row(
        cell.name, f"sm_{capability}", cell.n, cell.d, warps, options.get("STAGES"),
        registers, spilled, shared, resident(card, warps, registers, shared),
        loop=[program.length(loop) for loop in program.innermost()],
        issue=round(needed / passing, 3) if card is H100 else None,
    )


HEAD = "kernel", "target", "n", "d", "warps", "stages", "registers", "spilled", "shared", \
    "at once", "loop", "issue"


def table(rows: Iterable[Row]) -> str:
    """The rows as text."""
    lines = [HEAD]
    for made in rows:
        *facts, loop, issue = asdict(made).values()
        share = "" if issue is None else f"{issue:.0%}"
        lines.append((*map(str, facts), " + ".join(map(str, loop)), share))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(map(str.rjust, line, widths)).rstrip() for line in lines
    )


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=output_file, help="write the record here")
    options = parser.parse_args(arguments)
    if not available():
        sys.exit("Triton is not installed here, and it brings the compiler.")
    if options.json:
        require_clean()
    if interpreting():                 # compiling needs a Python that does not interpret
        again = [sys.executable, "-m", "attnres_kernels.ahead", *arguments]
        subprocess.run(again, env=os.environ | {"TRITON_INTERPRET": "0"}, check=True)
        return
    rows = [row(capability, cell) for capability, cell in plan()]
    print(table(rows))
    if options.json:
        made = provenance(torch.device("cpu"), triton=triton.__version__)
        record = dict(rows=[asdict(made) for made in rows], **made)
        text = json.dumps(record, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
