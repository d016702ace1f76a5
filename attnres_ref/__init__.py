"""Attention Residuals from scratch: the reference, in plain PyTorch."""

from attnres_ref.depth import attend_with_stats, depth_attention, merge
from attnres_ref.model import LM, LMConfig
from attnres_ref.streams import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.two_phase import two_phase_forward

__all__ = [
    "LM",
    "LMConfig",
    "BlockAttnRes",
    "FullAttnRes",
    "PreNorm",
    "attend_with_stats",
    "depth_attention",
    "merge",
    "train",
    "two_phase_forward",
]


def __getattr__(name):
    # `train` is imported on demand: `python -m attnres_ref.training` would otherwise
    # find its own module loaded already, and warn.
    if name == "train":
        from attnres_ref.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
