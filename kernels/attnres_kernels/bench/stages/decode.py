"""One token after a prompt of 2048, and the prompt, by schedule of the depth reads.

Decoding is eager and as a CUDA graph, which takes the launches of hundreds of small
kernels out of the time. The graph has to give the same logits, and its time is compared
with that of PreNorm's graph in rounds in which the two take turns.
"""

from functools import partial

import torch

from attnres_kernels.bench import clock
from attnres_kernels.bench.model import BASE, as_it_is, fused, in_two_phases
from attnres_kernels.depth import depth_attention
from attnres_ref import LM, LMConfig
from attnres_ref import depth_attention as reference
from attnres_ref.bench.timing import interleaved, now, paired_ratio
from attnres_ref.inference import two_phase
from attnres_ref.inference.cache import Cached, forget, with_cache
from attnres_ref.views import with_parts

SIZE = dict(
    cuda=dict(d_model=1024, n_layers=32, n_heads=16, context=4096, block_size=8),
    cpu=dict(d_model=8, n_layers=4, n_heads=2, context=4, block_size=2),
)
PROMPT = dict(cuda=2048, cpu=2)
DTYPE = dict(cuda=torch.bfloat16, cpu=torch.float32)
ROUNDS, TOKENS = dict(cuda=20, cpu=1), dict(cuda=10, cpu=1)     # TOKENS in each turn


def in_two_phases_of_pytorch(net: LM) -> LM:
    return with_parts(net, stream=two_phase.TwoPhase(net.stream))


CASES = {                              # name: residual, depth operator, how it is seen
    BASE: ("prenorm", reference, as_it_is),
    "Block, fused": ("block", depth_attention, fused),
    "Full, fused": ("full", depth_attention, fused),
    "Block, two phases, kernels": ("block", depth_attention, in_two_phases),
    "Full, two phases, kernels": ("full", depth_attention, in_two_phases),
    "Block, layer by layer, kernels": ("block", depth_attention, as_it_is),
    "Block, two phases, PyTorch": ("block", reference, in_two_phases_of_pytorch),
}


def measure(record, device) -> None:
    prompt = PROMPT[device.type]
    record.note(size=SIZE[device.type], prompt=prompt)
    tokens = torch.randint(256, (1, prompt + 1), device=device)
    prompt, token = tokens.tensor_split([prompt], 1)
    base = None                            # PreNorm's graph, which is the first case's
    for case in CASES:
        try:
            twin = cached_model(case, device)
            run, facts = graph_of(twin, prompt, token, device)
            base = run if case == BASE else base
            record.add(case=case, **facts, ratio_to_prenorm=ratio(run, base, device))
        except Exception as error:
            record.add(case=case, error=clock.told(error))
        twin = run = None
        clock.free_memory(device)


@torch.no_grad()
def cached_model(case: str, device) -> Cached:
    residual, attend, seen_as = CASES[case]
    torch.manual_seed(0)
    with device:                           # a CPU takes seconds to draw the weights
        net = LM(LMConfig(residual=residual, **SIZE[device.type]), attend)
    for parameter in net.stream.parameters():      # zeros would read a plain mean
        parameter.normal_(std=0.1)
    net = seen_as(net.to(DTYPE[device.type]).eval())
    return with_cache(net, net.stream)


@torch.no_grad()
def graph_of(twin: Cached, prompt, token, device) -> tuple:
    """One token after the prompt as a graph, and facts: milliseconds of the prompt and of
    the token, eager and as a graph, and how far the graph's logits are from the eager
    ones, relative to the largest."""
    def prefill():
        forget(twin)
        return twin(prompt)

    prefill_ms = clock.times_ms(prefill, 1, device, rounds=5)
    prefill()
    one_token = partial(twin.step, token)      # which does not move on: always the same one
    eager_ms = clock.times_ms(one_token, 1, device)
    exact = one_token()
    run, why = clock.as_graph([one_token], device)
    graph_ms = clock.times_ms(run, 1, device)
    (logits,) = run()
    gap = ((logits - exact).abs().max() / exact.abs().max()).item()
    return run, dict(
        prefill_ms=clock.quartiles(prefill_ms), eager_ms=clock.quartiles(eager_ms),
        graph_ms=clock.quartiles(graph_ms), graph=why is None, why=why,
        logits_differ_by=gap,
    )


@torch.no_grad()
def ratio(run, base, device) -> float | None:
    """The time of a token by that of `base`; None where PreNorm has none."""
    if base is None:
        return None
    turns = [(name, partial(repeated, call, TOKENS[device.type]))
             for name, call in ((BASE, base), ("case", run))]
    seconds = interleaved(turns, ROUNDS[device.type], partial(now, device))
    return paired_ratio(seconds["case"], seconds[BASE])


def repeated(call, times: int) -> None:
    for _ in range(times):
        call()
