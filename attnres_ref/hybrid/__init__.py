"""The layers of a Kimi-Linear-style hybrid: KDA, MLA and mixtures of experts."""

from attnres_ref.hybrid.kda import KDA
from attnres_ref.hybrid.layers import MLA, MoE

__all__ = ["KDA", "MLA", "MoE"]
