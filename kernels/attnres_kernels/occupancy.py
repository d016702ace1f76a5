"""How many programs of a compiled kernel a GPU holds at once.

A streaming multiprocessor (SM) shares its registers, its shared memory and its places
for warps among the programs that are resident; when one of the three runs out, no more
fit. The rounding follows CUDA's occupancy calculation.
"""

from dataclasses import dataclass

import torch

REGISTERS = 65536                      # of an SM, on every NVIDIA GPU since 2012


@dataclass(frozen=True)
class Card:
    """A GPU: how many SMs, and what one of them has (bytes of shared memory)."""

    name: str
    n_sm: int
    shared: int
    warps: int
    programs: int
    reserved: int = 1024               # bytes of it that CUDA keeps for each program


T4 = Card("T4", 40, 64 << 10, 32, 16, reserved=0)
A100 = Card("A100", 108, 164 << 10, 64, 32)
H100 = Card("H100", 132, 228 << 10, 64, 32)


def card_at(device: torch.device) -> Card:
    """The GPU at hand. PyTorch does not tell how many programs an SM may hold; 16 is the
    least of all GPUs since 2018."""
    facts = torch.cuda.get_device_properties(device)
    capability = facts.major, facts.minor
    return Card(
        facts.name, facts.multi_processor_count, facts.shared_memory_per_multiprocessor,
        warps=facts.max_threads_per_multi_processor // 32,
        programs=32 if capability in ((8, 0), (9, 0), (10, 0)) else 16,
        reserved=1024 if facts.major >= 8 else 0,
    )


def resident(card: Card, warps: int, registers: int, shared: int) -> int:
    """Programs that one SM holds, each of `warps` warps with `registers` a thread and
    `shared` bytes of shared memory. At least one: what does not fit cannot be launched."""
    per_warp = rounded_up(32 * registers, 256)
    by_registers = REGISTERS // per_warp // 4 * 4 // warps    # four schedulers an SM
    by_shared = card.shared // max(1, rounded_up(shared + card.reserved, 128))
    return max(1, min(card.programs, card.warps // warps, by_registers, by_shared))


def rounded_up(x: int, unit: int) -> int:
    return -(-x // unit) * unit
