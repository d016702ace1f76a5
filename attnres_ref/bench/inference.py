"""Tokens per second of prefill and decoding on this machine, four ways to read depth.

    python -m attnres_ref.bench.inference --json notebooks/recorded/bench_inference.json

One process, all cases interleaved so that drift hits them alike; ratios are medians
of paired rounds, against PreNorm. Nothing else should run beside it.
"""

import statistics

import torch
from tqdm import tqdm

from attnres_ref.bench.training import command, now
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
    config = SIZE | size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens = torch.randint(256, (1, prompt + n_new), device=device)
    twins = {}
    for name, (residual, schedule) in CASES.items():
        torch.manual_seed(0)
        model = LM(LMConfig(residual=residual, **config)).to(device)
        for parameter in model.stream.parameters():     # as if trained: reads that differ
            parameter.normal_(std=0.1)
        twins[name] = with_cache(model, schedule(model.stream))

    seconds = {name: dict(prefill=[], decode=[]) for name in twins}
    for round_ in tqdm(range(-2, rounds), desc="rounds", mininterval=1.0):     # 2 warm up
        spent = {}
        for name, twin in twins.items():
            forget(twin)
            began = now(device)
            twin(tokens[:, :prompt])
            spent[name] = dict(prefill=now(device) - began, decode=0.0)
        for position in range(prompt, prompt + n_new):
            for name, twin in twins.items():
                began = now(device)
                twin(tokens[:, position : position + 1])
                spent[name]["decode"] += now(device) - began
        if round_ >= 0:
            for name, parts in spent.items():
                for part, time in parts.items():
                    seconds[name][part].append(time)
    base = seconds["PreNorm"]
    return {
        name: dict(
            prefill_tokens_per_s=prompt / statistics.median(times["prefill"]),
            prefill_time_ratio=paired_ratio(times["prefill"], base["prefill"]),
            decode_tokens_per_s=n_new / statistics.median(times["decode"]),
            decode_time_ratio=paired_ratio(times["decode"], base["decode"]),
        )
        for name, times in seconds.items()
    }


def paired_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs))


def table(rows: dict) -> str:
    lines = [
        f"{'tokens per second':18s} {'prefill':>9s} {'time':>7s}"
        f" {'decode':>9s} {'time':>7s}"
    ]
    for name, row in rows.items():
        lines.append(
            f"{name:18s}"
            f" {row['prefill_tokens_per_s']:9.1f} {row['prefill_time_ratio']:6.3f}x"
            f" {row['decode_tokens_per_s']:9.1f} {row['decode_time_ratio']:6.3f}x"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, table, size=SIZE)
