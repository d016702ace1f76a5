"""Our read beside the equations in PyTorch, at 32 cells.

Every n and d at T = 8192, which is training and prefill: there the bandwidth decides. At
T = 64 and T = 1, which is decoding, latency decides, and it hardly depends on the width,
so three depths and two widths show it. The cell that most decides comes first.
"""

from attnres_kernels.bench import clock, gate, operators, peers

NS, DS = (9, 2, 5, 17, 33), (4096, 1024, 7168, 384)
CELLS = dict(                          # n, T, d
    cuda=[(n, 8192, d) for d in DS for n in NS]
    + [(n, T, d) for T in (1, 64) for d in (4096, 1024) for n in (9, 2, 33)],
    cpu=[(2, 4, 16), (3, 1, 16)],
)


def measure(record, device) -> None:
    record.note(copy_gb_per_s=clock.copy_bandwidth(device))
    contenders = gate.passing(peers.AT_HAND, record, device)
    for n, T, d in CELLS[device.type]:
        operators.measure_cell(record, contenders, n, T, d, device)
