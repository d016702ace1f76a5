"""What is kept under activation checkpointing: counted, and measured in bytes."""

import pytest
import torch

from attnres_ref import LM, LMConfig
from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.comparison import comparisons
from attnres_ref.pipeline.engine import Chunk
from attnres_ref.pipeline.launch import launch
from attnres_ref.pipeline.layout import MODES
from attnres_ref.pipeline.memory import kept, made, most_kept, recomputed
from attnres_ref.pipeline.plan import Job, OneSum
from attnres_ref.pipeline.store import RankStore
from attnres_ref.study.probes import kept_bytes

B, T, D = 2, 8, 32
TENSOR = B * T * D * 4
TOKENS = torch.randint(256, (B, T), generator=torch.Generator().manual_seed(0))


def make(residual, n_layers, block_size):
    return LM(LMConfig(d_model=D, n_heads=2, context=T, n_layers=n_layers,
                       residual=residual, block_size=block_size))


def stream_after(model, recompute):
    """All layers, from the embedding to before the final read."""
    def run(layers, state):
        for layer in layers:
            f = model.layers[layer]
            state = model.stream.write(state, layer, f(model.stream.read(state, layer)))
        return state

    state = model.stream.begin(model.embedding(TOKENS))
    return recomputed(run, range(len(model.layers)), state, recompute)


CASES = [("prenorm", 13), ("full", 1), ("block", 3), ("block", 4), ("block", 5)]


def one_rank(residual, block_size, n_layers=13):
    kind = OneSum if residual == "prenorm" else Layout
    return kind(1, 1, n_layers, block_size)


@pytest.mark.parametrize("residual, block_size", CASES)
@pytest.mark.parametrize("recompute", [1, 2, 3, 4, 13, 20])
def test_checkpointed_the_count_is_the_bytes(residual, block_size, recompute):
    model = make(residual, 13, block_size)
    n_bytes = kept_bytes(lambda: stream_after(model, recompute))
    assert n_bytes == TENSOR * made(one_rank(residual, block_size), 0, recompute)


def test_without_it_attnres_keeps_a_read_more_for_each_layer():
    """And three numbers per token and source, and twice the query."""
    model = make("prenorm", 13, 13)
    prenorm = kept_bytes(lambda: stream_after(model, 0))
    base = made(one_rank("prenorm", 13), 0, 0)
    for residual, block_size in CASES[1:]:
        model = make(residual, 13, block_size)
        more = kept_bytes(lambda: stream_after(model, 0)) - prenorm
        n_sources = sum(
            1 + layer // block_size + (layer % block_size > 0) for layer in range(13)
        )
        more -= 3 * n_sources * B * T * 4 + 13 * 2 * D * 4
        assert more == TENSOR * (made(one_rank(residual, block_size), 0, 0) - base)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_layers, block_size", [(16, 4), (16, 1), (13, 3), (17, 5)])
def test_a_ranks_chunks_keep_what_is_counted(mode, n_layers, block_size):
    """All but the last, which runs the output head as well."""
    layout = Layout(2, 2, n_layers, block_size, mode)
    model = make("block", n_layers, block_size)
    for recompute in (1, 2, 3, 8):
        for rank in range(2):
            store = RankStore()
            for index in {rank, rank + 2} - {3}:
                chunk = Chunk(model, layout, index, store, recompute)
                n_arrived = layout.received(index)
                arrived = [torch.ones(B, T, D, requires_grad=True)
                           for _ in range(n_arrived)] if index else [TOKENS]
                n_bytes = kept_bytes(lambda: chunk(*arrived, microbatch=torch.zeros(1)))
                count = kept(layout, index, recompute)
                assert n_bytes == TENSOR * (count - n_arrived), (recompute, index)


@pytest.mark.parametrize("residual, block_size", CASES)
def test_gradients_are_the_same(residual, block_size):
    torch.manual_seed(0)
    model = make(residual, 13, block_size).double()
    for queries in model.stream.parameters():
        torch.nn.init.normal_(queries)
    found = []
    for recompute in (0, 1, 2, 5):
        model.zero_grad()
        model.stream.read(stream_after(model, recompute), 13).square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for others in found[1:]:
        assert len(others) == len(found[0])
        assert all(torch.equal(a, b) for a, b in zip(found[0], others))


def test_on_processes_it_changes_nothing_but_what_is_kept():
    cases = [
        dict(layout=Layout(2, 2, 9, 4, mode), n_microbatches=4, d_model=8, context=4,
             recompute=recompute)
        for mode in MODES for recompute in (2, 9)
    ]
    for case, result in zip(cases, launch(comparisons, 2, cases)[0], strict=True):
        assert result.loss_difference <= 1e-12, case
        assert result.gradient_difference <= 1e-12, (case, result.gradients)


def test_micro_batches_in_flight_by_hand():
    """Rank 0 runs two forward passes before its first backward, rank 1 one."""
    layout = Layout(2, 1, 4, 2)
    assert [span.action[::2] for span in simulate(layout, 2).spans if span.rank == 0] == [
        ("F", 0), ("F", 1), ("B", 0), ("B", 1)]
    assert [made(layout, chunk, 2) for chunk in (0, 1)] == [2, 1]       # b_0 and b_1; b_2
    assert [kept(layout, chunk, 2) for chunk in (0, 1)] == [2, 3]
    assert most_kept(layout, 2, 2) == [4, 3]
    assert most_kept(layout, 2, 1) == [6, 4]           # a partial sum in either chunk
    assert most_kept(OneSum(2, 1, 4, 4), 2, 2) == [4, 2]


def test_whole_chunks_keep_what_arrives_and_what_leaves():
    for mode in MODES:
        layout = Layout(4, 2, 64, 8, mode)
        for chunk in layout.transitions:
            leaves = layout.completed(chunk) - layout.completed(chunk - 1)
            assert made(layout, chunk, 8) == leaves + (chunk == 0)
    job = Job(n_ranks=4, n_virtual=2, n_layers=64, d_model=8, parameters=1.0, tokens=5,
              n_microbatches=8, flops=1.0, bandwidth=1.0)
    assert job.tensor_bytes == 5 * 8 * 2
    assert job.layout(8, "all") == Layout(4, 2, 64, 8, "all")
    assert job.layout() == OneSum(4, 2, 64, 64)


@pytest.mark.parametrize("recompute", [-1, 1.5, True, False, None, 0.0])
def test_layers_come_whole(recompute):
    with pytest.raises(ValueError, match=f"recompute is {recompute}: it must be"):
        made(Layout(1, 1, 4, 2), 0, recompute)
