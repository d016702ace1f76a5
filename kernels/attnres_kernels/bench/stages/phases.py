"""The two phases of Algorithm 1 and their gradients, on the kernels and in PyTorch.

Passes over [T, d] that each has to make: phase 1 reads n blocks for S queries and writes S
means, n + S; its gradients read S more and write n, 2 n + S. Phase 2 reads a mean and the
partial sum and writes h, 3. With the addition and the next layer's norm it reads three and
writes two, 5; its gradients read four and write two, 6. `differs_by`: the largest
difference from PyTorch's result, by the largest number in that.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from attnres_kernels import phases
from attnres_kernels.bench import clock, gate, operators
from attnres_kernels.bench.report import bytes_per_s
from attnres_ref.inference import two_phase as reference

SIZES = dict(                          # T, d, n, S
    cuda=[(8192, 4096, 4, 16), (8192, 1024, 4, 4), (1, 4096, 4, 16), (1, 1024, 4, 8)],
    cpu=[(2, 16, 2, 2)],
)
EPS = 1e-5


def one_by_one(first, query, sources, output, out_norm_weight, out_eps):
    """What phase 2 fuses, in PyTorch."""
    partial_sum = sources[0] + output
    h = reference.phase_two(first, query, (partial_sum,)).to(output.dtype)
    weight = out_norm_weight.to(h.dtype)
    return F.rms_norm(h, h.shape[-1:], weight, out_eps), partial_sum


BY = {                                 # name: phase 1, phase 2, phase 2 with all it fuses
    "kernels": (phases.phase_one, phases.phase_two, phases.phase_two),
    "PyTorch": (reference.phase_one, reference.phase_two, one_by_one),
}


def measure(record, device) -> None:
    record.note(copy_gb_per_s=clock.copy_bandwidth(device))
    for T, d, n, S in SIZES[device.type]:
        _, sources = gate.inputs(n + 2, T, d, device)
        torch.manual_seed(0)
        queries = (torch.randn(S, d, device=device) / d**0.5).requires_grad_()
        right = calls("PyTorch", queries, sources)
        for by in BY:
            row = dict(by=by, T=T, d=d, n=n, S=S)
            try:
                for part, (call, passes) in calls(by, queries, sources).items():
                    expected = right[part][0]()
                    gap = max(map(apart, call(), expected))
                    n_calls = operators.repeats(1, passes * T * d * 2, device)
                    run, why = clock.as_graph([call] * n_calls, device)
                    ms = clock.quartiles(clock.times_ms(run, n_calls, device))
                    record.add(
                        **row, part=part, ms=ms, differs_by=gap,
                        gb_per_s=bytes_per_s(passes, T, d, ms[1]),
                        graph=why is None, why=why,
                    )
            except Exception as error:
                record.add(**row, error=clock.told(error))
            clock.free_memory(device)


def calls(by: str, queries, sources) -> dict[str, tuple[Callable[[], list], int]]:
    """part: (a call that returns tensors, passes over [T, d])"""
    *completed, fresh, newest = sources
    n, S, completed = len(completed), len(queries), tuple(completed)
    phase_one, phase_two, with_all = BY[by]
    reads = phase_one(queries, completed)
    first = reference.Read(*(x.detach().requires_grad_() for x in reads[0]))
    query, gain = queries[:1].detach().requires_grad_(), torch.ones_like(queries[0])
    fused = partial(with_all, first, query, (fresh,), output=newest,
                    out_norm_weight=gain.detach(), out_eps=EPS)
    return {
        "phase 1": (lambda: means(phase_one(queries.detach(), completed)), n + S),
        "phase 2": (lambda: [phase_two(first, query, (fresh,))], 3),
        "phase 2 + output + norm": (fused, 5),
        "phase 1, gradients": (gradients(means(reads), [queries, *completed]), 2 * n + S),
        "phase 2 + output + norm, gradients": (
            gradients(fused(), [*first, query, fresh, newest]), 6
        ),
    }


def means(reads) -> list:
    return [read.mean for read in reads]


def gradients(outputs, leaves) -> Callable[[], list]:
    ones = [torch.ones_like(output) for output in outputs]
    return partial(torch.autograd.grad, outputs, leaves, ones, retain_graph=True)


def apart(ours, right) -> float:
    return ((ours - right).abs().max() / right.abs().max()).item()
