"""Launch options of our read, warps by stages, at the widths and depths that decide.

n = 9 is what Block reads at L = 32 and S = 4, n = 33 what Full reads there; launch.FORWARD
and launch.BACKWARD have one choice per width, so it has to serve both. `report` names the
best. The one-read backward (attnres_kernels.ring) has a row where it would be taken, with
its errors against float64, for no interpreter can run it, so no test has.
"""

from contextlib import contextmanager

from attnres_kernels import launch
from attnres_kernels.bench import clock, gate, operators, peers

CELLS = dict(                          # n, T, d
    cuda=[(n, T, d) for d, T in ((4096, 8192), (1024, 8192), (7168, 8192), (384, 8192))
          for n in (9, 33)],
    cpu=[(2, 4, 16)],
)
WARPS, STAGES = (1, 2, 4, 8, 16), (2, 3, 4)
RING_WARPS = 2, 4, 8


def measure(record, device) -> None:
    record.note(
        copy_gb_per_s=clock.copy_bandwidth(device),
        now=dict(forward=[*launch.FORWARD.items()], backward=[*launch.BACKWARD.items()]),
    )
    for n, T, d in CELLS[device.type]:
        sets = operators.sets_of(n, T, d, device)
        for warps, stages in options(d, device):
            for part in operators.PARTS:
                row = dict(n=n, T=T, d=d, warps=warps, stages=stages, part=part)
                with launched_with(warps, stages):
                    record.add(**row, **timed_or_why(part, sets, device))
                clock.free_memory(device)
        for warps in RING_WARPS:
            with in_a_ring(warps):
                if launch.in_ring(sets[0][1], gain=None):
                    row = dict(n=n, T=T, d=d, kind="ring", warps=warps, part="backward")
                    record.add(**row, **ring_or_why(n, T, d, sets, device))
            clock.free_memory(device)


def timed_or_why(part, sets, device) -> dict:
    try:
        return operators.timed(peers.ours, part, sets, device, rounds=5)
    except Exception as error:             # too much shared memory, or registers
        return dict(error=clock.told(error))


def ring_or_why(n, T, d, sets, device) -> dict:
    try:
        errors = gate.errors_against_float64(peers.ours, device, size=(n, min(T, 512), d))
        return dict(gate=errors, **operators.timed(peers.ours, "backward", sets, device))
    except Exception as error:
        return dict(error=clock.told(error))


def options(d: int, device) -> list[tuple[int, int]]:
    """Warps and stages worth a try: 8 to 64 elements a thread; with fewer threads idle,
    with more the registers spill."""
    if device.type == "cpu":
        return [(4, 3), (8, 2)]
    per_warp = launch.power_of_two(d) // 32
    return [(w, s) for w in WARPS if 8 <= per_warp // w <= 64 for s in STAGES]


@contextmanager
def launched_with(warps: int, stages: int):
    """The reads of all widths are launched with these."""
    before = launch.FORWARD, launch.BACKWARD
    launch.FORWARD = launch.BACKWARD = {launch.WIDEST: (warps, stages)}
    try:
        yield
    finally:
        launch.FORWARD, launch.BACKWARD = before


@contextmanager
def in_a_ring(warps: int):
    """Backwards whose sources fit into half of an H100's shared memory take the ring."""
    before = launch.RING_BYTES, launch.RING_WARPS
    launch.RING_BYTES, launch.RING_WARPS = 113 << 10, {launch.WIDEST: warps}
    try:
        yield
    finally:
        launch.RING_BYTES, launch.RING_WARPS = before
