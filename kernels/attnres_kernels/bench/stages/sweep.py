"""Launch options of our kernels, warps by stages, at the widths and depths that decide.

n = 9 is what Block reads at L = 32 and S = 4, n = 33 what Full reads there; SETTINGS has
one choice per width, so it has to serve both. `report` names the best.
"""

from contextlib import contextmanager

from attnres_kernels import launch
from attnres_kernels.bench import clock, operators, peers

CELLS = dict(                          # n, T, d
    cuda=[(n, T, d) for d, T in ((4096, 8192), (1024, 8192), (7168, 8192), (384, 8192))
          for n in (9, 33)],
    cpu=[(2, 4, 16)],
)
WARPS, STAGES = (1, 2, 4, 8, 16), (2, 3, 4)


def measure(record, device) -> None:
    record.note(
        copy_gb_per_s=clock.copy_bandwidth(device), settings=list(launch.SETTINGS.items())
    )
    for n, T, d in CELLS[device.type]:
        sets = operators.sets_of(n, T, d, device)
        for warps, stages in options(d, device):
            for part in operators.PARTS:
                row = dict(n=n, T=T, d=d, warps=warps, stages=stages, part=part)
                try:
                    with launched_with(warps, stages):
                        row |= operators.timed(peers.ours, part, sets, device, rounds=5)
                except Exception as error:
                    row["error"] = clock.told(error)
                record.add(**row)
        clock.free_memory(device)


def options(d: int, device) -> list[tuple[int, int]]:
    """Warps and stages worth a try: 8 to 64 elements a thread; with fewer threads idle,
    with more the registers spill."""
    if device.type == "cpu":
        return [(4, 3), (8, 2)]
    per_warp = launch.power_of_two(d) // 32
    return [(w, s) for w in WARPS if 8 <= per_warp // w <= 64 for s in STAGES]


@contextmanager
def launched_with(warps: int, stages: int):
    """All widths are launched with these."""
    before, launch.SETTINGS = launch.SETTINGS, {launch.WIDEST: (warps, stages)}
    try:
        yield
    finally:
        launch.SETTINGS = before
