"""One token after a prompt of 2048, and the prompt, by schedule of the depth reads.

Decoding is eager and as a CUDA graph, which takes the launches of hundreds of small
kernels out of the time. The graph has to give the same logits.
"""

import torch

from attnres_kernels.bench import clock
from attnres_kernels.bench.model import as_it_is
from attnres_kernels.depth import depth_attention
from attnres_kernels.two_phase import TwoPhase
from attnres_ref import LM, LMConfig
from attnres_ref import depth_attention as reference
from attnres_ref.inference import two_phase
from attnres_ref.inference.generation import CachedMixer, forget, with_cache

SIZE = dict(
    cuda=dict(d_model=1024, n_layers=32, n_heads=16, context=4096, block_size=8),
    cpu=dict(d_model=8, n_layers=4, n_heads=2, context=4, block_size=2),
)
PROMPT = dict(cuda=2048, cpu=2)
DTYPE = dict(cuda=torch.bfloat16, cpu=torch.float32)
CASES = {                              # name: residual, depth operator, schedule
    "PreNorm": ("prenorm", reference, as_it_is),
    "Block, layer by layer, kernels": ("block", depth_attention, as_it_is),
    "Block, two phases, kernels": ("block", depth_attention, TwoPhase),
    "Block, two phases, PyTorch": ("block", reference, two_phase.TwoPhase),
    "Full, two phases, kernels": ("full", depth_attention, TwoPhase),
}


def measure(record, device) -> None:
    prompt = PROMPT[device.type]
    record.note(size=SIZE[device.type], prompt=prompt)
    tokens = torch.randint(256, (1, prompt + 1), device=device)
    for case in CASES:
        try:
            twin = cached_model(case, device)
            record.add(case=case, **times(twin, *tokens.tensor_split([prompt], 1), device))
        except Exception as error:
            record.add(case=case, error=clock.told(error))
        twin = None
        clock.free_memory(device)


@torch.no_grad()
def cached_model(case: str, device) -> LM:
    residual, attend, schedule = CASES[case]
    torch.manual_seed(0)
    with device:                           # a CPU takes seconds to draw the weights
        net = LM(LMConfig(residual=residual, **SIZE[device.type]), attend)
    for parameter in net.stream.parameters():      # zeros would read a plain mean
        parameter.normal_(std=0.1)
    net = net.to(DTYPE[device.type]).eval()
    return with_cache(net, schedule(net.stream))


@torch.no_grad()
def times(twin: LM, prompt, token, device) -> dict:
    """Milliseconds of the prompt and of one token after it, eager and as a graph, and how
    far the graph's logits are from the eager ones, relative to the largest."""
    def prefill():
        forget(twin)
        return twin(prompt)

    prefill_ms = clock.times_ms(prefill, 1, device, rounds=5)
    prefill()
    mixers = [layer for layer in twin.layers if isinstance(layer, CachedMixer)]
    pasts = [mixer.past for mixer in mixers]

    def one_token():
        for mixer, past in zip(mixers, pasts):
            mixer.past = past              # as if the token had not been seen
        return twin(token)

    eager_ms = clock.times_ms(one_token, 1, device)
    exact = one_token()
    run, why = clock.as_graph([one_token], device)
    graph_ms = clock.times_ms(run, 1, device)
    (logits,) = run()
    gap = ((logits - exact).abs().max() / exact.abs().max()).item()
    return dict(
        prefill_ms=clock.quartiles(prefill_ms), eager_ms=clock.quartiles(eager_ms),
        graph_ms=clock.quartiles(graph_ms), graph=why is None, why=why,
        logits_differ_by=gap,
    )
