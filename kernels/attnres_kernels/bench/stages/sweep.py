"""Launch options of our read, warps by stages, at the widths and depths that decide.

n = 9 is what Block reads at L = 32 and S = 4, n = 33 what Full reads there; launch.FORWARD
and launch.BACKWARD have one choice per width, so it has to serve both. The one-read
backward (attnres_kernels.ring) has a row where it would be taken, with its errors against
float64, for no interpreter can run it, so no test has. What is best so far is noted after
every cell as `chosen`; `cells` measures our read with it, and `report` names it.
"""

from contextlib import contextmanager, nullcontext

from attnres_kernels import launch
from attnres_kernels.bench import clock, gate, operators, peers
from attnres_kernels.bench.choice import choose

CELLS = dict(                          # n, T, d
    cuda=[(n, T, d) for d, T in ((4096, 8192), (1024, 8192), (7168, 8192), (384, 8192))
          for n in (9, 33)],
    cpu=[(2, 4, 16)],
)
WARPS, STAGES = (1, 2, 4, 8, 16), (2, 3, 4)
RING_WARPS = 2, 4, 8


def measure(record, device) -> None:
    now = dict(forward=[*launch.FORWARD.items()], backward=[*launch.BACKWARD.items()])
    record.note(copy_gb_per_s=clock.copy_bandwidth(device), now=now)
    for n, T, d in CELLS[device.type]:
        sets = operators.sets_of(n, T, d, device)
        for warps, stages in options(d, device):
            for part in operators.PARTS:
                row = dict(n=n, T=T, d=d, warps=warps, stages=stages, part=part)
                with launched_with((warps, stages), (warps, stages)):
                    record.add(**row, **timed_or_why(part, sets, device))
                clock.free_memory(device)
        for warps in RING_WARPS:
            with in_a_ring(warps):
                if launch.in_ring(sets[0][1], gain=None):
                    row = dict(n=n, T=T, d=d, kind="ring", warps=warps, part="backward")
                    record.add(**row, **ring_or_why(n, T, d, sets, device))
            clock.free_memory(device)
        record.note(chosen=choose(record.content["rows"], now))


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
def launched_with(forward: tuple[int, int], backward: tuple[int, int]):
    """The reads of all widths are launched with these warps and stages; no backward takes
    the ring."""
    options = dict(FORWARD={launch.WIDEST: forward}, BACKWARD={launch.WIDEST: backward})
    with replaced(**options, RING_BYTES=0):
        yield


@contextmanager
def in_a_ring(warps: int):
    """Backwards whose sources fit into half of an H100's shared memory take the ring."""
    settings = dict(RING_BYTES=113 << 10, RING_WARPS={launch.WIDEST: warps})
    with replaced(**settings, RING_NARROWEST=1):
        yield


@contextmanager
def as_chosen(chosen: list[dict], d: int):
    """Reads of width d are launched as the sweep has `chosen`. Raises ValueError if it has
    no choice for a part of them."""
    best = {choice["part"]: choice for choice in chosen if choice["d"] == d}
    if best.keys() != set(operators.PARTS):
        raise ValueError(f"at d {d} the sweep has a choice for {sorted(best)} alone")
    options = [(best[part]["warps"], best[part]["stages"]) for part in operators.PARTS]
    ring = best["backward"]["ring"]
    faster = ring is not None and ring["ratio"] < 1
    with launched_with(*options), in_a_ring(ring["warps"]) if faster else nullcontext():
        yield


@contextmanager
def replaced(**settings):
    """Settings of `launch`, for all threads: autograd's launches the backward."""
    before = {name: getattr(launch, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(launch, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(launch, name, value)
