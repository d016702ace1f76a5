"""Where a whole number or a number is needed, what is none is named at once: not a wrong
result, and not an error from somewhere inside."""

import math

import pytest
import torch

from attnres_ref import LM, BlockAttnRes, LMConfig
from attnres_ref.inference import TwoPhase, generate_tokens
from attnres_ref.inference.prefill import Sharded, prefill
from attnres_ref.model import generate
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.plan import Job
from attnres_ref.pipeline.simulate import simulate
from attnres_ref.variants import HyperConnections, Multihead, SlidingWindow
from ranks import greet

PROMPT = torch.zeros(1, 2, dtype=torch.long)
LAYOUT = Layout(2, 1, n_layers=4, block_size=2)
JOB = dict(n_ranks=2, n_virtual=1, n_layers=4, d_model=8, parameters=1e3, n_microbatches=4,
           tokens=8, flops=1e9, bandwidth=1e9)


def model():
    return LM(LMConfig(d_model=8, n_layers=4, n_heads=2, context=4))


WHOLE = {
    "block_size": lambda x: BlockAttnRes(4, 8, x),
    "window": lambda x: SlidingWindow(4, 8, x),
    "depth_heads": lambda x: Multihead(4, 8, x),
    "n_streams": lambda x: HyperConnections(4, 8, x),
    "group_size": lambda x: TwoPhase(BlockAttnRes(4, 8, 2), x or 0),     # None: the default
    "n_shards": lambda x: Sharded(BlockAttnRes(4, 8, 2), x),
    "n_ranks": lambda x: launch(greet, x, "nobody"),
    "chunk": lambda x: prefill(model(), PROMPT, chunk=x or 0),
    "top_k": lambda x: generate_tokens(model(), PROMPT, 1, top_k=x or 0),
    "n_new": lambda x: generate_tokens(model(), PROMPT, x or -1),        # 0 is good
    "tokens has length 2, n_new": lambda x: generate(model(), PROMPT, x or -1),
    "n_virtual": lambda x: Layout(2, x, n_layers=4, block_size=2),
    "n_microbatches": lambda x: simulate(LAYOUT, x),
    "recompute": lambda x: Pipeline(model(), LAYOUT, 4, (1, 4), recompute=x or -1),
    "tokens": lambda x: Job(**JOB | dict(tokens=x)),
}
NUMBERS = {
    "temperature": lambda x: generate_tokens(model(), PROMPT, 1, temperature=x),
    "latency": lambda x: simulate(LAYOUT, 4, latency=x),
    "bandwidth": lambda x: Job(**JOB | dict(bandwidth=x)),
}


@pytest.mark.parametrize("bad", [1.5, 0, -2, "2", None, math.nan])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_is_needed(name, bad):
    with pytest.raises(ValueError, match=f"^{name} is "):
        WHOLE[name](bad)


@pytest.mark.parametrize("bad", [-0.5, "2", None, math.nan])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_needed(name, bad):
    with pytest.raises(ValueError, match=f"^{name} is "):
        NUMBERS[name](bad)
