"""Attention Residuals from scratch: the reference, in plain PyTorch."""

from attnres_ref.depth import attend_with_stats, depth_attention, merge
from attnres_ref.inference.two_phase import two_phase_forward
from attnres_ref.model import LM, LMConfig
from attnres_ref.streams import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.training import train

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

