"""The pipeline cache of sec. 4.1: laid out, simulated, and on real processes."""

from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.simulate import simulate

__all__ = ["Layout", "simulate"]
