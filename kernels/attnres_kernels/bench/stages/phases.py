"""The two phases of Algorithm 1 without gradients, on the kernels and in PyTorch.

Phase 1 reads n blocks for S queries and writes S means: n + S passes over [T, d]. Phase 2
reads a mean and the partial sum and writes h: 3 passes. `differs_by`: largest difference
from PyTorch's result, by the largest number in that.
"""

from functools import partial

import torch

from attnres_kernels import phases
from attnres_kernels.bench import clock, gate, operators
from attnres_kernels.bench.report import bytes_per_s
from attnres_ref.inference import two_phase as reference

SIZES = dict(                          # T, d, n, S
    cuda=[(8192, 4096, 4, 16), (8192, 1024, 4, 8), (1, 4096, 4, 16), (1, 1024, 4, 8)],
    cpu=[(2, 16, 2, 2)],
)
BY = {"kernels": phases, "PyTorch": reference}


@torch.no_grad()
def measure(record, device) -> None:
    record.note(copy_gb_per_s=clock.copy_bandwidth(device))
    for T, d, n, S in SIZES[device.type]:
        _, (*completed, partial_sum) = gate.inputs(n + 1, T, d, device)
        completed = tuple(completed)
        queries = torch.randn(S, d, device=device) / d**0.5
        exact = reference.phase_one(queries, completed)[0]
        joint = reference.phase_two(exact, queries[:1], (partial_sum,))
        for by, module in BY.items():
            row = dict(by=by, T=T, d=d, n=n, S=S)
            try:
                one = partial(module.phase_one, queries, completed)
                first = one()[0]
                two = partial(module.phase_two, first, queries[:1], (partial_sum,))
                parts = (("phase 1", one, n + S, first.mean, exact.mean),
                         ("phase 2", two, 3, two(), joint))
                for part, call, passes, ours, right in parts:
                    gap = (ours - right).abs().max() / right.abs().max()
                    n_calls = operators.repeats(1, passes * T * d * 2, device)
                    run, why = clock.as_graph([call] * n_calls, device)
                    ms = clock.quartiles(clock.times_ms(run, n_calls, device))
                    record.add(
                        **row, part=part, ms=ms, differs_by=gap.item(),
                        gb_per_s=bytes_per_s(passes, T, d, ms[1]),
                        graph=why is None, why=why,
                    )
            except Exception as error:
                record.add(**row, error=clock.told(error))
        clock.free_memory(device)
