"""Other implementations of the same read, to be measured beside ours.

Each contender is attend(w, sources) -> h with w = query * norm weight and a norm weight
of one, so that all get the same inputs. Peers are optional packages: `load` names the
missing ones with the reason.
"""

import os
from collections.abc import Callable

import torch

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


def flash_attn_res() -> Attend:
    from flash_attn_res import phase_1_batched_attention_triton_op as phase_1

    return lambda w, sources: phase_1(torch.stack(sources), w[None], EPS)[0][0]


LOADERS = {                            # name: how to get it, what to install
    "ours": (lambda: ours, "triton"),
    "eager": (lambda: stacked, "torch"),
    "torch.compile": (lambda: torch.compile(stacked, dynamic=False), "torch"),
    "FLA level 1": (lambda: fla(1), "fla-core einops"),
    "FLA level 0": (lambda: fla(0), "fla-core einops"),
    "FLA Gluon": (lambda: fla(1, gluon=True), "fla-core einops"),
    "fast-attnres": (fast_attnres, "fast-attnres"),
    "Liger, with stack": (liger, "liger-kernel"),
    "flash-attn-res, with stack": (flash_attn_res, "flash-attn-res"),
}


def load() -> tuple[dict[str, Attend], dict[str, str]]:
    """The contenders at hand, and by name why the others are missing."""
    contenders, missing = {}, {}
    for name, (loader, packages) in LOADERS.items():
        try:
            contenders[name] = loader()
        except Exception as error:         # a peer may fail to import in its own way
            missing[name] = f"{type(error).__name__}: {error}; pip install {packages}"
    return contenders, missing
