"""Tokens per second of prefill and decoding, four ways to read depth.

Ratios are medians of paired rounds, against PreNorm.
"""

import statistics
from functools import partial

import torch

from attnres_ref.bench import timing
from attnres_ref.inference.generation import forget, with_cache
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.model import LM, LMConfig

SIZE = dict(d_model=512, n_layers=32, n_heads=8, context=512, block_size=4)
CASES = {                              # name: residual, how its stream is read
    "PreNorm": ("prenorm", lambda stream: stream),
    "Block layer-wise": ("block", lambda stream: stream),
    "Block two-phase": ("block", TwoPhase),
    "Full two-phase": ("full", TwoPhase),
}


@torch.no_grad()
def measure(rounds: int, prompt: int = 256, n_new: int = 16, **size) -> dict:
    """Rows by case: prefill and decode in tokens/s, and their time ratios to PreNorm.

    A round prefills `prompt` tokens and decodes `n_new` after them, batch 1. Decoding
    is interleaved token by token: a round's time for a case is the sum of its tokens.
    """
    config, device = SIZE | size, timing.default_device()
    tokens = torch.randint(256, (1, prompt + n_new), device=device)
    twins = {}
    for name, (residual, schedule) in CASES.items():
        torch.manual_seed(0)
        model = LM(LMConfig(residual=residual, **config)).to(device)
        for parameter in model.stream.parameters():     # as if trained: reads that differ
            parameter.normal_(std=0.1)
        twins[name] = with_cache(model, schedule(model.stream))

    steps = []
    for name, twin in twins.items():
        steps.append((None, partial(forget, twin)))
        steps.append(((name, "prefill"), partial(twin, tokens[:, :prompt])))
    for token in tokens[:, prompt:].split(1, dim=1):
        steps += [((name, "decode"), partial(twin, token)) for name, twin in twins.items()]
    seconds = timing.interleaved(steps, rounds, partial(timing.now, device))

    rows = {name: {} for name in twins}
    for (name, part), times in seconds.items():
        n_tokens = prompt if part == "prefill" else n_new
        ratio = timing.paired_ratio(times, seconds["PreNorm", part])
        rows[name][f"{part}_tokens_per_s"] = n_tokens / statistics.median(times)
        rows[name][f"{part}_time_ratio"] = ratio
    return rows


def table(rows: dict) -> str:
    return timing.table(rows, [
        ("tokens per second", "{name:18s}"),
        ("prefill", "{prefill_tokens_per_s:9.1f}"), ("time", "{prefill_time_ratio:6.3f}x"),
        ("decode", "{decode_tokens_per_s:9.1f}"), ("time", "{decode_time_ratio:6.3f}x"),
    ])
