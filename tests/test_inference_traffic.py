"""Bytes of a decode step equal those of a real model, a real cache and real reads."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from attnres_kernels import traffic as training
from attnres_kernels.interpret import available, interpreting
from attnres_kernels.two_phase import NormedTwoPhase
from attnres_ref import LM, LMConfig
from attnres_ref.inference import traffic
from attnres_ref.inference.cache import with_cache
from attnres_ref.inference.io_counts import count_layer_wise, count_two_phase
from attnres_ref.inference.tensor_parallel import part_of
from attnres_ref.model import RMSNorm
from attnres_ref.notebook import recorded
from attnres_ref.streams import BlockAttnRes

RECORD = recorded("traffic")
SHAPES = [(16, 4), (32, 8), (24, 24), (12, 2)]
TOKEN = torch.tensor([[7]])


def model_of(L, S, residual="block"):
    return LM(LMConfig(vocab_size=16, d_model=8, n_layers=L, n_heads=2, context=16,
                       block_size=S, residual=residual))


def once(rows, L):
    """Passes of d = 8 numbers in rows that count a source twice, as key and as value."""
    passes = 0
    for row in rows:
        if row.layer < L:                                    # not the final read
            mean = row.writes if row.phase == 2 else 0       # phase 1's result, read once
            passes += (row.reads - mean) / 2 + mean + row.writes
    return passes / 8


@pytest.mark.parametrize("L, S", SHAPES)
def test_passes_are_those_of_a_real_run_and_the_additions(L, S):
    block, full = model_of(L, S), model_of(L, 1, "full")
    adds = traffic.additions(L, S)
    assert traffic.layer_wise(L, S) == once(count_layer_wise(block, TOKEN), L) + adds
    assert traffic.layer_wise(L, 1) == once(count_layer_wise(full, TOKEN), L)
    assert traffic.two_phases(L, S, S) == once(count_two_phase(block, TOKEN), L) + adds
    assert traffic.two_phases(L, 1, S) == once(count_two_phase(full, TOKEN, S), L)


def test_a_short_last_block_has_a_short_phase_1():
    # Blocks of 4, 4 and 3: phase 1 reads 1, 2 and 3 sources and leaves 4, 4 and 3 results;
    # eight reads of phase 2 move 3 each; outputs 1 and 2 of each block are added for 2, and
    # the fourth of the two full ones for 3.
    assert traffic.two_phases(11, 4, 4) == 6 + 11 + 8 * 3 + traffic.additions(11, 4)
    assert traffic.additions(11, 4) == 3 * 2 * 2 + 2 * 3
    assert traffic.layer_wise(11, 4) == 29 + 11 + 18


def test_the_numbers_of_notebooks_08_and_09():
    passes = traffic.depth_passes(128, 16)
    assert [*passes.values()] == [3, 6.03125, 8.375, 13.9375, 65.5]


def test_training_counted_the_same_reads():
    """traffic.json adds each output for three passes, and has the final read."""
    L, S = RECORD["layers"], RECORD["block_size"]
    forward = {row["stream"]: row["forward"] for row in RECORD["rows"]}
    unfused = 3 * (L - L // S) - traffic.additions(L, S)
    final = L // S + 2
    assert forward["Block, kernels"] == traffic.layer_wise(L, S) + unfused + final
    assert forward["Block, two phases"] == traffic.two_phases(L, S, S) + unfused + final
    assert forward["Full, kernels"] == traffic.layer_wise(L, 1) + L + 2
    assert forward["PreNorm"] == L * traffic.depth_passes(L, S)["PreNorm"]
    for group in (2, 3, 8):
        final = L + 2                                        # it opens a group of its own
        assert forward[f"Full, two phases of {group}"] == (
            traffic.two_phases(L, 1, group) + final
        )


class Unfused(RMSNorm):
    def forward(self, x):
        return x


@pytest.mark.skipif(not available(), reason="needs Triton")
def test_the_fused_kernels_add_where_we_say():
    """Without the norms that are not fused, those of layers that open a block."""
    L, S, d = 12, 4, training.D
    stream = NormedTwoPhase(BlockAttnRes(L, d, S), [Unfused(d) for _ in range(L + 1)])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        device = "cpu" if interpreting() else "cuda"
        output = torch.randn(1, training.T, d, device=device)
        with training.Counter() as counter:
            state = stream.begin(output)
            for layer in range(L):
                stream.read(state, layer)
                state = stream.write(state, layer, output)
            stream.read(state, L)
    final = L // S + 2
    assert counter.moved["forward"] == traffic.two_phases(L, S, S) + final


@pytest.mark.parametrize("residual", ["prenorm", "block", "full"])
@pytest.mark.parametrize("layers", ["attention,mlp", "attention"])
def test_weights_are_all_parameters_but_the_table(residual, layers):
    config = LMConfig(vocab_size=50, d_model=24, n_layers=7, n_heads=2, layers=layers,
                      residual=residual, block_size=3)
    model = LM(config).bfloat16()
    held = sum(p.nbytes for p in model.parameters()) - model.embedding.weight.nbytes
    step = traffic.decode_step(config, 0, batch=5, n_tokens=0)
    assert step == (held, 0, 0)


def test_keys_and_values_are_those_of_a_real_cache():
    twin = with_cache(model_of(6, 2).double())
    twin(torch.zeros(3, 11, dtype=torch.int64))
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in twin.step.layers[::2])
    config = twin.step.config
    step = traffic.decode_step(config, 0, batch=3, n_tokens=config.context, n_bytes=8)
    assert step.kv == held                                   # as long as the context


def test_grouped_queries_share_keys_and_values():
    """Llama 2 70B: 80 attentions, d = 8192, 64 query heads over 8; 320 KiB a token."""
    config = LMConfig(d_model=8192, n_layers=160, n_heads=64, residual="prenorm")
    shared = traffic.decode_step(config, 3, batch=1, n_tokens=1, sharing=8)
    assert shared.kv == 320 * 1024
    alone = traffic.decode_step(config, 3, batch=1, n_tokens=1)
    assert alone.weights - shared.weights == 80 * 2 * 8192 * 8192 * 7 / 8 * 2
    assert shared.depth == 3 * 160 * 8192 * 2


def test_heads_that_cannot_share_are_refused():
    for sharing in 5, 0, 128, 1.5:
        with pytest.raises(ValueError, match=f"sharing is {sharing}: choose a divisor of"):
            traffic.decode_step(traffic.TYPICAL, 6, 1, 1, sharing)


def test_a_rank_of_plain_tensor_parallelism_reads_all_of_the_depth():
    """Weights and cache are those of a real rank's parts; the residual is whole on it."""
    model, P, T = model_of(6, 2).double(), 2, 5
    config, d = model.config, model.config.d_model
    passes = traffic.depth_passes(6, 2)["Block AttnRes, two phases"]
    step = traffic.decode_step(config, passes, batch=3, n_tokens=T, n_bytes=8)
    rank = traffic.one_rank(step, P)
    parts = [part_of(layer, 0, P) for layer in model.layers]
    split = sum(p.nbytes for part in parts for p in part.parameters())
    small = 8 * (6 * d + 2 * 7 * d + d)                      # norms, queries, final norm
    assert P * split == step.weights - small - model.head.weight.nbytes
    heads = parts[0].n_heads * d // config.n_heads
    assert rank.kv == 8 * 2 * 3 * 3 * T * heads              # k, v; attentions; batch
    assert (rank.weights, rank.depth) == (step.weights / P, step.depth)
    with pytest.raises(ValueError, match="n_ranks is 0: choose 1 or more"):
        traffic.one_rank(step, 0)


def test_other_layers_are_not_counted():
    import attnres_ref.hybrid  # noqa: F401 (registers its layers)

    with pytest.raises(ValueError, match=r"layers has \['moe'\]"):
        traffic.weights(LMConfig(layers="attention,moe", n_layers=2, block_size=1))
