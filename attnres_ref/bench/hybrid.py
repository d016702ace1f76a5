"""The hybrid's two questions of time: what chunks save KDA, and what Block AttnRes adds.

Ratios are medians of paired rounds.
"""

from functools import partial

import torch
import torch.nn.functional as F

from attnres_ref.bench import timing
from attnres_ref.hybrid.kda import kda_chunked, kda_recurrent
from attnres_ref.model import LM, LMConfig
from attnres_ref.training import TrainConfig, make_optimizer
from attnres_ref.training.recipe import after_step

SIZE = dict(
    d_model=128, n_layers=16, n_heads=4, context=128, block_size=6,
    layers="kda,moe,kda,moe,kda,moe,mla,moe",
)
LOOP, CHUNKS = "KDA, token by token", "KDA, in chunks"
PRENORM, BLOCK = "hybrid, PreNorm", "hybrid, Block S=6"
BASES = {CHUNKS: LOOP, BLOCK: PRENORM}                   # case: what its ratio is against


def measure(rounds: int, batch: int = 8, tokens: int = 512, **size) -> dict:
    """Rows {time_ms, time_ratio} by case: forward + backward of one KDA over `tokens`
    tokens of one sequence, and a whole training step of the model."""
    config, device = SIZE | size, timing.default_device()
    steps = [
        (LOOP, kda_case(kda_recurrent, tokens, config, device)),
        (CHUNKS, kda_case(kda_chunked, tokens, config, device)),
        (PRENORM, step_case("prenorm", batch, config, device)),
        (BLOCK, step_case("block", batch, config, device)),
    ]
    seconds = timing.interleaved(steps, rounds, partial(timing.now, device))
    return timing.compared(seconds, BASES)


def kda_case(kda, tokens: int, config: dict, device):
    width = config["d_model"] // config["n_heads"]
    shape = 1, config["n_heads"], tokens, width
    q, k, v = torch.randn(3, *shape, device=device)
    g, beta = -torch.rand(shape, device=device), torch.rand(shape[:3], device=device)
    leaves = [x.requires_grad_() for x in (q, F.normalize(k, dim=-1), v, g, beta)]

    def run():
        o, _ = kda(*leaves)
        torch.autograd.grad(o.sum(), leaves)

    return run


def step_case(residual: str, batch: int, config: dict, device):
    torch.manual_seed(0)
    model = LM(LMConfig(residual=residual, **config)).to(device)
    optimizer = make_optimizer(model, TrainConfig())
    x = torch.randint(256, (batch, config["context"]), device=device)

    def run():
        F.cross_entropy(model(x).flatten(0, 1), x.roll(-1, 1).flatten()).backward()
        optimizer.step()
        after_step(model)
        optimizer.zero_grad(set_to_none=True)

    return run


def table(rows: dict) -> str:
    named = {
        name: row | dict(beside=f"of {BASES[name]}" if name in BASES else "")
        for name, row in rows.items()
    }
    return timing.table(named, [
        ("", "{name:20s}"), ("ms", "{time_ms:8.1f}"), ("time", "{time_ratio:6.3f}x"),
        ("", "{beside}"),
    ])
