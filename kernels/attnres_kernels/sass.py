"""A compiled kernel's machine code (SASS): its registers, and how long its loops are."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from attnres_kernels.interpret import triton

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);")
JUMP = re.compile(r"\bBRA(?:\.\S+)? (?:\S+, )?(0x[0-9a-f]+)")


@dataclass(frozen=True)
class Loop:
    """Instructions from `start` to the jump back at `end`, both included (addresses)."""

    start: int
    end: int

    def holds(self, address: int) -> bool:
        return self.start <= address <= self.end


@dataclass(frozen=True)
class Program:
    """Instructions by address, as one warp meets them."""

    code: dict[int, str]

    def loops(self) -> list[Loop]:
        """Every jump back closes a loop. The last instruction, which jumps to itself and
        is never reached, closes none."""
        jumps = {at: JUMP.search(text) for at, text in self.code.items()}
        targets = {at: int(jump[1], 16) for at, jump in jumps.items() if jump}
        return [Loop(target, at) for at, target in targets.items() if target < at]

    def innermost(self) -> list[Loop]:
        """The loops that hold no other, as they lie in the code."""
        loops = self.loops()
        holds_one = lambda loop: any(loop.holds(x.end) for x in loops if x != loop)
        return sorted((x for x in loops if not holds_one(x)), key=lambda x: x.start)

    def length(self, loop: Loop) -> int:
        return sum(loop.holds(at) for at in self.code)

    def per_token(self, n: int) -> int:
        """Instructions that a warp needs for a token. If the loop over tokens holds loops,
        they are over sources and make n rounds each. What else it has counts once, whether
        or not it is jumped over: so this is an upper bound."""
        inner = self.innermost()
        around = [x for x in self.loops() if x not in inner]
        if not around:                     # loops over sources are unrolled, or none
            return max(map(self.length, inner), default=len(self.code))
        return max(map(self.length, around)) + (n - 1) * sum(map(self.length, inner))


def disassembled(cubin: Path) -> Program:
    lines = INSTRUCTION.findall(cuobjdump("-sass", cubin))
    return Program({int(address, 16): text.strip() for address, text in lines})


def registers_and_spills(cubin: Path) -> tuple[int, int]:
    """Registers a thread, and bytes of its stack: our kernels put nothing there but what
    registers could not hold."""
    usage = cuobjdump("-res-usage", cubin)
    return tuple(int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))


def cuobjdump(option: str, cubin: Path) -> str:
    """NVIDIA's disassembler, which lies inside Triton."""
    command = [triton.knobs.nvidia.cuobjdump.path, option, str(cubin)]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout
