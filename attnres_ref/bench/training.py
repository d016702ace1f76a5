"""What AttnRes costs in one training step on this machine: time and saved bytes.

    python -m attnres_ref.bench                    (make bench)

Forward + backward of the whole model, all variants interleaved in one process so
that drift hits them alike; ratios are medians of paired rounds. Nothing else
should run beside it.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from attnres_ref.depth import depth_attention, stacked_depth_attention
from attnres_ref.model import LM, LMConfig
from attnres_ref.study.probes import saved_bytes
from attnres_ref.training.provenance import provenance

CASES = {                              # name: residual, depth operator
    "PreNorm": ("prenorm", depth_attention),
    "Block S=4": ("block", depth_attention),
    "Full": ("full", depth_attention),
    "Block S=4, stacked": ("block", stacked_depth_attention),
    "Full, stacked": ("full", stacked_depth_attention),
}


def measure(rounds: int, batch: int = 4, **size) -> dict:
    """Rows {time_ms, time_ratio, saved_bytes, saved_ratio} by case, against PreNorm."""
    config = dict(d_model=256, n_layers=16, context=256, block_size=4) | size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens = torch.randint(256, (batch, config["context"]), device=device)
    models = {}
    for name, (residual, attend) in CASES.items():
        torch.manual_seed(0)
        models[name] = LM(LMConfig(residual=residual, **config), attend).to(device)

    def loss(model):
        return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())

    seconds = {name: [] for name in models}
    for round_ in tqdm(range(-2, rounds), desc="rounds", mininterval=1.0):     # 2 warm up
        for name, model in models.items():
            model.zero_grad(set_to_none=True)
            began = now(device)
            loss(model).backward()
            if round_ >= 0:
                seconds[name].append(now(device) - began)
    saved = {
        name: saved_bytes(model, lambda: loss(model)) for name, model in models.items()
    }
    return {
        name: dict(
            time_ms=1e3 * statistics.median(times),
            time_ratio=statistics.median(
                ours / base for ours, base in zip(times, seconds["PreNorm"])
            ),
            saved_bytes=saved[name],
            saved_ratio=saved[name] / saved["PreNorm"],
        )
        for name, times in seconds.items()
    }


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def table(rows: dict) -> str:
    lines = [
        f"{'forward + backward':20s} {'ms':>8s} {'time':>7s} {'saved MB':>9s} {'saved':>7s}"
    ]
    for name, row in rows.items():
        lines.append(
            f"{name:20s} {row['time_ms']:8.1f} {row['time_ratio']:6.3f}x "
            f"{row['saved_bytes'] / 1e6:9.1f} {row['saved_ratio']:6.3f}x"
        )
    return "\n".join(lines)


def command(description: str, measure, table, **facts) -> None:
    """A benchmark's command line: measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    rows = measure(options.rounds)
    print(table(rows))
    if options.json:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        record = dict(rows=rows, rounds=options.rounds, **facts, **provenance(device))
        options.json.write_text(json.dumps(record, indent=1) + "\n")

