"""Other implementations of the same read, to be measured beside ours.

Each contender is attend(w, sources) -> h with w = query * norm weight and a norm weight
of one, so that all get the same inputs. The published ones are optional packages, pinned
in constraints.txt: `pip install -c constraints.txt -e ".[peers]"`, or, where nothing can
be downloaded, `pip install --no-deps *.whl` of what `pip download --no-deps` has brought.
`load` names those that are missing, with the reason.

flash-attn-res 0.1.12 is left out: its tiles hold whole sources, and at these widths they
spill from the registers, so it would be measured at what it was not made for.
"""

import os
from collections.abc import Callable

import torch
import torch._functorch.config

from attnres_kernels.bench import clock
from attnres_kernels.depth import depth_attention
from attnres_ref.depth import stacked_depth_attention

EPS = 1e-5
Attend = Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]


def ours(w, sources):
    return depth_attention(w, sources, eps=EPS)


def stacked(w, sources):
    """The equations as they are written, in float32 as ours."""
    wide = [source.float() for source in sources]
    return stacked_depth_attention(w, wide, eps=EPS).to(sources[0].dtype)


def fla(level: int, gluon: bool = False) -> Attend:
    from fla.ops.attnres import fused_attnres

    def attend(w, sources):
        os.environ["FLA_ATTNRES_GLUON"] = str(int(gluon))       # read at every call
        one = torch.ones_like(w)
        return fused_attnres(w, sources, one, rms_eps=EPS, checkpoint_level=level)

    return attend


def fast_attnres() -> Attend:
    from attnres import attnres

    return lambda w, sources: attnres(sources, w.to(sources[0].dtype), eps=EPS)


def liger() -> Attend:
    from liger_kernel.ops.attn_res import LigerAttnResFunction

    def attend(w, sources):                # its input is a stack: the copy is part of it
        return LigerAttnResFunction.apply(torch.stack(sources), w, torch.ones_like(w), EPS)

    return attend


PUBLISHED = {                          # name: how to get it, what to install
    "FLA level 1": (lambda: fla(1), "fla-core==0.6.0 einops==0.8.2"),
    "FLA level 0": (lambda: fla(0), "fla-core==0.6.0 einops==0.8.2"),
    "FLA Gluon": (lambda: fla(1, gluon=True), "fla-core==0.6.0 einops==0.8.2"),
    "fast-attnres": (fast_attnres, "fast-attnres==2.1.0"),
    "Liger, with stack": (liger, "liger-kernel==0.8.5"),
}


TUNED = {"FLA level 1", "FLA level 0", "FLA Gluon", "fast-attnres"}    # at their first call
SWEPT = "ours, swept"                  # `ours`, launched as the sweep has chosen
AT_HAND = {"ours": ours, "eager": stacked}


def load(device) -> tuple[dict[str, Attend], dict[str, str]]:
    """All contenders that are installed, and by name why the others are missing."""
    # Or a compiled backward reuses what its forward saved, and can run only once.
    torch._functorch.config.donated_buffer = False
    contenders = AT_HAND | {"torch.compile": clock.compiled(stacked, device)}
    missing = {}
    for name, (loader, packages) in PUBLISHED.items():
        try:
            contenders[name] = loader()
        except Exception as error:         # a peer may fail to import in its own way
            missing[name] = f"{type(error).__name__}: {error}; pip install {packages}"
    return contenders, missing
