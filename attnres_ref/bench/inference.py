"""Tokens per second of prefill and decoding, four ways to read depth, eager and compiled.

Ratios are medians of paired rounds, against PreNorm run in the same way.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch._inductor import metrics
from torch.utils._python_dispatch import TorchDispatchMode

from attnres_ref.bench import timing
from attnres_ref.inference.cache import Cached, forget, with_cache
from attnres_ref.inference.two_phase import TwoPhase
from attnres_ref.model import LM, LMConfig

SIZE = dict(d_model=512, n_layers=32, n_heads=8, context=512, block_size=4)
CASES = {                              # name: residual, how its stream is read
    "PreNorm": ("prenorm", lambda stream: stream),
    "Block layer-wise": ("block", lambda stream: stream),
    "Block two-phase": ("block", TwoPhase),
    "Full two-phase": ("full", TwoPhase),
}
COMPILED = ", compiled"


@torch.no_grad()
@torch._dynamo.config.patch(recompile_limit=64)        # all twins run one function
def measure(rounds: int, prompt: int = 256, n_new: int = 16, **size) -> dict:
    """Rows by case, as it is and compiled: prefill and decode in tokens/s, their time
    ratios to PreNorm, and the operations that one token of decoding takes.

    A round prefills `prompt` tokens and decodes `n_new` after them, batch 1. Decoding
    is interleaved token by token: a round's time for a case is the sum of its tokens.
    """
    config, device = SIZE | size, timing.default_device()
    tokens = torch.randint(256, (1, prompt + n_new), device=device)
    twins, operations = {}, {}
    for name, (residual, schedule) in CASES.items():
        torch.manual_seed(0)
        model = LM(LMConfig(residual=residual, **config)).to(device)
        for parameter in model.stream.parameters():     # as if trained: reads that differ
            parameter.normal_(std=0.1)
        for kind, count in (("", aten_calls), (COMPILED, kernels)):
            twin = twins[name + kind] = with_cache(model, schedule(model.stream))
            if kind:
                twin.step.compile(fullgraph=True, dynamic=False)
            twin(tokens[:, :prompt])
            operations[name + kind] = count(partial(twin.step, tokens[:, :1]))

    seconds = timing.interleaved(
        turns(twins, tokens, prompt), rounds, partial(timing.now, device)
    )
    rows = {name: dict(operations=operations[name]) for name in twins}
    for (name, part), times in seconds.items():
        n_tokens = prompt if part == "prefill" else n_new
        base = f"PreNorm{COMPILED}" if name.endswith(COMPILED) else "PreNorm"
        rows[name][f"{part}_tokens_per_s"] = n_tokens / statistics.median(times)
        rows[name][f"{part}_time_ratio"] = timing.paired_ratio(times, seconds[base, part])
    return rows


def turns(twins: dict[str, Cached], tokens: torch.Tensor, prompt: int) -> list[tuple]:
    """The steps of one round."""
    steps = []
    for name, twin in twins.items():
        steps.append((None, partial(forget, twin)))
        steps.append(((name, "prefill"), partial(twin, tokens[:, :prompt])))
    for token in tokens[:, prompt:].split(1, dim=1):
        steps += [((name, "decode"), partial(twin, token)) for name, twin in twins.items()]
    return steps


class Calls(TorchDispatchMode):
    """Counts the calls of ATen that do more than make room or look at a tensor in another
    shape."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view and "empty" not in str(function)
        return function(*args, **(kwargs or {}))


def aten_calls(run: Callable) -> int:
    with Calls() as calls:
        run()
    return calls.count


def kernels(run: Callable) -> int:
    """Kernels of a run, whose first call compiles them: what Inductor generates, and the
    calls of ATen (matrix products, attention) that it makes between them."""
    before = metrics.generated_kernel_count
    run()
    generated = metrics.generated_kernel_count - before
    with torch.profiler.profile() as profile:
        run()
    inside = [event for event in profile.events() if event.name.startswith("aten::")
              and event.cpu_parent and "CompiledFxGraph" in event.cpu_parent.name]
    return generated + sum("empty" not in event.name for event in inside)


def table(rows: dict) -> str:
    return timing.table(rows, [
        ("tokens per second", "{name:26s}"),
        ("prefill", "{prefill_tokens_per_s:9.1f}"), ("time", "{prefill_time_ratio:6.3f}x"),
        ("decode", "{decode_tokens_per_s:9.1f}"), ("time", "{decode_time_ratio:6.3f}x"),
        ("operations", "{operations:11d}"),
    ])
