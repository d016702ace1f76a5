"""Inference: Algorithm 1's two phases, generation with a cache, prefill (sec. 4.2)."""

from attnres_ref.inference.cache import forget, with_cache
from attnres_ref.inference.generation import generate_text, generate_tokens
from attnres_ref.inference.two_phase import TwoPhase, two_phase_forward

__all__ = [
    "TwoPhase", "forget", "generate_text", "generate_tokens", "two_phase_forward",
    "with_cache",
]
