"""Our read, also with what the sweep has chosen, beside the equations in PyTorch.

At T = 8192, which is training and prefill, the bandwidth decides. At T = 64 and T = 1,
which is decoding, latency decides, and it hardly depends on the width, so three depths and
two widths show it. The cell that most decides comes first. "ours, swept" has a row at the
depths and widths of the sweep: at others its kernels would have to be compiled first.
"""

import json
from functools import partial

from attnres_kernels.bench import clock, gate, operators, peers
from attnres_kernels.bench.peers import SWEPT
from attnres_kernels.bench.stages import sweep

CELLS = dict(                          # n, T, d
    cuda=[(n, 8192, d) for d in (4096, 1024) for n in (9, 33, 2)]
    + [(n, 8192, d) for d in (7168, 384) for n in (9, 33)]
    + [(n, T, d) for T in (1, 64) for d in (4096, 1024) for n in (9, 33, 2)]
    + [(n, 8192, d) for d in (4096, 1024) for n in (5, 17)],
    cpu=[(2, 4, 16), (3, 1, 16)],
)


def measure(record, device) -> None:
    record.note(copy_gb_per_s=clock.copy_bandwidth(device))
    contenders = gate.passing(peers.AT_HAND, record, device)
    swept = swept_settings(record, device)
    for n, T, d in CELLS[device.type]:
        here, settings = contenders, {}
        if (n, d) in swept:
            here, settings = contenders | {SWEPT: peers.ours}, {SWEPT: swept[n, d]}
        operators.measure_cell(record, here, n, T, d, device, settings=settings)


def swept_settings(record, device) -> dict:
    """By (n, d) a context in which our read is launched as the sweep has chosen, where it
    then passes the gate. A row for each, or one that says why there are none."""
    path, passed = record.path.with_name("sweep.json"), {}
    if not path.exists():
        record.add(contender=SWEPT, left_out=f"{path.name} is not there: run sweep before")
        return passed
    chosen = json.loads(path.read_text(encoding="utf-8")).get("chosen", [])
    for n, _, d in sweep.CELLS[device.type]:
        settings = partial(sweep.as_chosen, chosen, d)
        try:
            with settings():
                errors = gate.check(peers.ours, device, (n, 8, d))
            record.add(contender=SWEPT, n=n, d=d, gate=errors)
            passed[n, d] = settings
        except Exception as error:         # the sweep was cut before this width
            record.add(contender=SWEPT, n=n, d=d, left_out=clock.told(error))
        clock.free_memory(device)
    return passed
