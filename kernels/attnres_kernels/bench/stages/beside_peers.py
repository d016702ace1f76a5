"""Our read beside everything else, at the two cells that decide, and at a third one.

n = 9 is what Block reads at L = 32 and S = 4. At T = 8192 the bandwidth decides, for the
width of a large model and of a small one; at T = 1, decoding, the latency does. Each
further n or d costs minutes, for the peers try up to 106 choices of options there. FLA
does not look at T when it tunes: at T = 1 it keeps its choice for 8192, as in a model. So
this cell is the second one. Each contender is compared, and timed in turns with ours, as
soon as it has tuned, so that a cut costs only those after it. The third cell has a width at
which all of them tune anew, if time remains.
"""

from attnres_kernels.bench import clock, gate, operators, peers

CELLS = dict(                          # n, T, d
    cuda=[(9, 8192, 4096), (9, 1, 4096), (9, 8192, 1024)],
    cpu=[(2, 4, 16), (2, 1, 16)],
)


def measure(record, device) -> None:
    contenders, missing = peers.load(device)
    record.note(copy_gb_per_s=clock.copy_bandwidth(device), missing=missing)
    first, second, *rest = CELLS[device.type]
    ours = {"ours": contenders.pop("ours")}
    passed = gate.passing(ours, record, device, first)
    for name, attend in contenders.items():
        # The gate at the first cell: at another the peers would tune once more.
        if one := gate.passing({name: attend}, record, device, first):
            passed |= one
            for n, T, d in (first, second):
                operators.measure_cell(record, ours | one, n, T, d, device)
    for n, T, d in rest:
        operators.measure_cell(record, passed, n, T, d, device)
