"""What AttnRes costs in one training step: time and saved bytes.

Forward + backward of the whole model, ratios are medians of paired rounds.
"""

from functools import partial

import torch
import torch.nn.functional as F

from attnres_ref.bench import timing
from attnres_ref.depth import depth_attention, stacked_depth_attention
from attnres_ref.model import LM, LMConfig
from attnres_ref.study.probes import saved_bytes

SIZE = dict(d_model=256, n_layers=16, context=256, block_size=4)
CASES = {                              # name: residual, depth operator
    "PreNorm": ("prenorm", depth_attention),
    "Block S=4": ("block", depth_attention),
    "Full": ("full", depth_attention),
    "Block S=4, stacked": ("block", stacked_depth_attention),
    "Full, stacked": ("full", stacked_depth_attention),
}


def measure(rounds: int, batch: int = 4, **size) -> dict:
    """Rows {time_ms, time_ratio, saved_bytes, saved_ratio} by case, against PreNorm."""
    config, device = SIZE | size, timing.default_device()
    tokens = torch.randint(256, (batch, config["context"]), device=device)

    def loss(model):
        return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())

    steps, saved = [], {}
    for name, (residual, attend) in CASES.items():
        torch.manual_seed(0)
        model = LM(LMConfig(residual=residual, **config), attend).to(device)
        saved[name] = saved_bytes(model, partial(loss, model))
        steps.append((None, model.zero_grad))
        steps.append((name, lambda model=model: loss(model).backward()))
    seconds = timing.interleaved(steps, rounds, partial(timing.now, device))
    rows = timing.compared(seconds, dict.fromkeys(CASES, "PreNorm"))
    for name, row in rows.items():
        row |= dict(saved_bytes=saved[name], saved_ratio=saved[name] / saved["PreNorm"])
    return rows


def table(rows: dict) -> str:
    megabytes = {
        name: row | dict(saved_mb=row["saved_bytes"] / 1e6) for name, row in rows.items()
    }
    return timing.table(megabytes, [
        ("forward + backward", "{name:20s}"), ("ms", "{time_ms:8.1f}"),
        ("time", "{time_ratio:6.3f}x"), ("saved MB", "{saved_mb:9.1f}"),
        ("saved", "{saved_ratio:6.3f}x"),
    ])
