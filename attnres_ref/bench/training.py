"""What AttnRes costs in one training step: time and saved bytes.

Forward + backward of the whole model, ratios are medians of paired rounds. Beside the three
models: a GPT as it is usually written, the reads chained as for training, and the equations
as they stand, with a stack of all sources.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from attnres_ref.bench import timing
from attnres_ref.bench.plain_gpt import PlainGPT
from attnres_ref.chained import chained
from attnres_ref.depth import stacked_depth_attention
from attnres_ref.model import LM, LMConfig
from attnres_ref.study.probes import saved_bytes

SIZE = dict(d_model=256, n_layers=16, context=256, block_size=4)
TIME_COLUMNS = [
    ("forward + backward", "{name:20s}"), ("ms", "{time_ms:8.1f}"),
    ("time", "{time_ratio:6.3f}x"),
]


def stacked(config: LMConfig) -> LM:
    return LM(config, stacked_depth_attention)


CASES = {                              # name: residual, how the model is built
    "PreNorm": ("prenorm", LM),
    "plain GPT": ("prenorm", PlainGPT),
    "Block S=4": ("block", LM),
    "Full": ("full", LM),
    "Block S=4, chained": ("block", lambda config: chained(LM(config))),
    "Full, chained": ("full", lambda config: chained(LM(config))),
    "Block S=4, stacked": ("block", stacked),
    "Full, stacked": ("full", stacked),
}


def measure(rounds: int, batch: int = 4, **size) -> dict:
    """Rows {time_ms, time_ratio, saved_bytes, saved_ratio} by case, against PreNorm."""
    built = models(**size)
    rows = times(built, rounds, batch)
    tokens = random_tokens(built["PreNorm"], batch)
    saved = {
        name: saved_bytes(model, partial(loss, model, tokens))
        for name, model in built.items()
    }
    for name, row in rows.items():
        row |= dict(saved_bytes=saved[name], saved_ratio=saved[name] / saved["PreNorm"])
    return rows


def models(**size) -> dict[str, nn.Module]:
    """The model of each case, all of the same seed."""
    built = {}
    for name, (residual, build) in CASES.items():
        torch.manual_seed(0)
        config = LMConfig(residual=residual, **SIZE | size)
        built[name] = build(config).to(timing.default_device())
    return built


def times(models: dict[str, nn.Module], rounds: int, batch: int) -> dict:
    """Rows {time_ms, time_ratio} by name of a model, against PreNorm's."""
    tokens, steps = random_tokens(models["PreNorm"], batch), []
    for name, model in models.items():
        steps.append((None, model.zero_grad))
        steps.append((name, lambda model=model: loss(model, tokens).backward()))
    seconds = timing.interleaved(steps, rounds, partial(timing.now, tokens.device))
    return timing.compared(seconds, dict.fromkeys(models, "PreNorm"))


def random_tokens(model: LM, batch: int):
    shape = batch, model.config.context
    return torch.randint(256, shape, device=model.head.weight.device)


def loss(model, tokens):
    return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def table(rows: dict) -> str:
    megabytes = {
        name: row | dict(saved_mb=row["saved_bytes"] / 1e6) for name, row in rows.items()
    }
    return timing.table(megabytes, [
        *TIME_COLUMNS, ("saved MB", "{saved_mb:9.1f}"), ("saved", "{saved_ratio:6.3f}x"),
    ])
