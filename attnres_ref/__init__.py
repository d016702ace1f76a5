"""Attention Residuals from scratch: the reference, in plain PyTorch.

Read depth.py, streams.py, model.py, training/recipe.py and training/trainer.py, in this
order: they are the whole idea. They import each other only, but for the trainer, which
leans on four helpers beside it (one process or many, Ctrl-C, the code's commit, the folder
of a run). Every other file uses them. This one gathers names from everywhere.
"""

# Importing these two is what adds their layers to LAYERS and their streams to STREAMS.
from attnres_ref import hybrid, variants
from attnres_ref.depth import depth_attention
from attnres_ref.inference.two_phase import attend_with_stats, merge, two_phase_forward
from attnres_ref.model import LM, LMConfig
from attnres_ref.streams import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.training import train

__all__ = [
    "LM", "LMConfig", "BlockAttnRes", "FullAttnRes", "PreNorm", "attend_with_stats",
    "depth_attention", "hybrid", "merge", "train", "two_phase_forward", "variants",
]
