"""What a contender has to show before it is timed: the right numbers."""

import torch
from torch import Tensor

from attnres_kernels.bench import clock
from attnres_kernels.bench.peers import EPS, Attend
from attnres_ref import depth_attention as reference

LIMIT = 0.02                           # largest relative error of a bfloat16 read


def inputs(n, T, d, device, dtype=torch.bfloat16, noise=1.0, seed=0):
    """w [d] float32 and n sources [T, d]; noise < 1: sources are nearly equal."""
    generator = torch.Generator(device).manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, device=device)
    shared = normal(T, d) if noise < 1 else 0.0
    sources = [(shared + noise * normal(T, d)).to(dtype) for _ in range(n)]
    leaves = [x.requires_grad_() for x in (2 * d**-0.5 * normal(d), *sources)]
    return leaves[0], leaves[1:]


def passing(contenders: dict[str, Attend], record, device, size=(9, 8, 128)) -> dict:
    """The contenders that pass, and a row for each: its errors, or why it is left out.
    size: n, T and d of the comparison."""
    passed = {}
    for name, attend in contenders.items():
        try:
            record.add(contender=name, gate=check(attend, device, size))
            passed[name] = attend
        except Exception as error:         # whatever a peer cannot do, it is named
            record.add(contender=name, left_out=clock.told(error))
        clock.free_memory(device)
    return passed


def check(attend: Attend, device, size=(9, 8, 128)) -> dict[str, float]:
    """Its errors; raises ValueError if h is wrong. Gradients are reported, not judged."""
    errors = errors_against_float64(attend, device, size=size)
    if not max(errors["h independent"], errors["h correlated"]) <= LIMIT:    # nor NaN
        raise ValueError(f"h is wrong by {errors}")
    return errors


def errors_against_float64(
    attend, device, dtype=torch.bfloat16, size=(9, 8, 128)
) -> dict[str, float]:
    """Largest relative errors of h, and of dw and dv where there is a backward, on both
    kinds of input."""
    errors = {}
    for kind, noise in (("independent", 1.0), ("correlated", 0.05)):
        w, sources = inputs(*size, device, dtype, noise)
        wide = [x.detach().double().requires_grad_() for x in (w, *sources)]
        exact = read_and_gradients(in_float64, wide[0], wide[1:])
        for name, value in read_and_gradients(attend, w, sources).items():
            gap = (value.double() - exact[name]).abs().max() / exact[name].abs().max()
            errors[f"{name} {kind}"] = gap.item()
    return errors


def in_float64(w, sources):
    return reference(w, sources, eps=EPS)


def read_and_gradients(attend, w, sources) -> dict[str, Tensor]:
    """h [T, d], and dw [d] and dv [n, T, d] of a fixed dh where there is a backward."""
    h = attend(w, sources)
    if not h.requires_grad:
        return dict(h=h)
    dh = torch.linspace(-1, 1, h.numel(), device=h.device).view_as(h).to(h)
    dw, *dv = torch.autograd.grad(h, [w, *sources], dh)
    return dict(h=h.detach(), dw=dw, dv=torch.stack(dv))
