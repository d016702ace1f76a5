"""The peers' compile caches, filled by many processes before the peers are timed.

They try out up to 106 choices of options at each cell, and compile them one after
another: minutes for a cell, if nobody had done it before.
"""

import sys

import torch

from attnres_kernels.bench import clock, gate, peers
from attnres_kernels.bench.stages.beside_peers import CELLS
from attnres_kernels.interpret import available

SHARES = dict(cuda=12, cpu=1)


def share(k: int, of: int, out, device) -> None:
    """The k-th share: of a peer that tunes, every of-th choice; of the others, every of-th
    contender. Cell by cell, so that the first ones are ready even if time runs out."""
    contenders, _ = peers.load(device)
    if "fast-attnres" in contenders:
        import attnres._kernels.fla_full_sources  # noqa: F401, its own first call does it
    for tuner in tuners():
        take_share(tuner, k, of)
    for n, T, d in CELLS[device.type]:
        w, sources = gate.inputs(n, T, d, device)
        for i, (name, attend) in enumerate(contenders.items()):
            if name == "eager" or name not in peers.TUNED and i % of != k:
                continue
            try:
                h = attend(w, sources)
                torch.autograd.grad(h, [w, *sources], torch.ones_like(h))
            except Exception as error:     # it fails again, and is named, where it is timed
                print(name, clock.told(error), flush=True)
        clock.free_memory(device)


def tuners() -> list:
    """The autotuned kernels of the peers that are loaded."""
    if not available():
        return []
    from triton.runtime.autotuner import Autotuner

    modules = [module for name, module in list(sys.modules.items())
               if name.partition(".")[0] in ("fla", "attnres") and module is not None]
    found = {id(value): value for module in modules for value in vars(module).values()
             if isinstance(value, Autotuner)}
    return list(found.values())


def take_share(tuner, k: int, of: int) -> None:
    """Let a tuner run each of its share's choices once, so that it is compiled, and time
    none. What it picks then is worth nothing, so it must not be kept on disk."""
    tuner.configs = tuner.configs[k::of] or tuner.configs[:1]
    tuner.cache_results = False
    tuner.do_bench = lambda call, quantiles: (call(), [1.0] * 3)[1]
