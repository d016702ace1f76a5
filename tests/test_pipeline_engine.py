"""The pipeline on real processes equals one process, in loss and in every gradient.

Starting processes is slow: a test starts them once and does all it needs with them.
"""

import pytest
import torch
from torch import nn

import ranks
from attnres_ref import LM, LMConfig
from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.comparison import (
    ForgetfulStore,
    comparisons,
    gradient_differences,
)
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import RankFailed, launch
from attnres_ref.pipeline.layout import MODES
from attnres_ref.pipeline.store import RankStore

SMALL = dict(d_model=8, context=4)
# V, L, S: boundaries aligned with blocks, cut through them, and a short last block.
CUTS = {
    2: [(1, 8, 2), (1, 7, 3), (2, 8, 2), (2, 9, 4), (4, 8, 1), (4, 16, 4)],
    4: [(1, 8, 2), (1, 7, 3), (2, 16, 2), (2, 16, 4), (4, 16, 1), (4, 17, 5)],
}


@pytest.mark.parametrize("n_ranks", CUTS)
def test_every_mode_equals_one_process(n_ranks):
    layouts = [Layout(n_ranks, *cut, mode) for cut in CUTS[n_ranks] for mode in MODES]
    cases = [dict(layout=layout, n_microbatches=4, **SMALL) for layout in layouts]
    forgetful = [dict(case, store=ForgetfulStore) for case in cases[-3:]]
    several = dict(cases[-1], n_microbatches=2 * n_ranks, steps=3)
    astray = dict(several, store=ForgetfulStore)
    hybrid = dict(cases[-1], layers="kda,moe,mla,moe")
    cases += [*forgetful, hybrid, several, astray]
    results = launch(comparisons, n_ranks, cases)[0]

    for layout, result in zip(layouts, results):
        assert result.loss_difference <= 1e-12, layout
        assert result.gradient_difference <= 1e-12, (layout, result.gradients)
        planned = [layout.n_tensors(chunk) for chunk in layout.transitions]
        assert planned == result.forward == result.backward, layout
        size = 4 * SMALL["context"] * SMALL["d_model"] * 8       # M tensors of float64
        assert result.n_bytes == [2 * count * size for count in planned], layout
        assert result.peak_tensors == simulate(layout, 4).peak_tensors, layout

    # The mutation: no gradient comes back from the store. The loss cannot tell.
    *wrong_ones, hybrid, several, astray = results[len(layouts) :]
    for mode, result in zip(MODES, wrong_ones, strict=True):
        assert result.loss_difference <= 1e-12, mode
        assert (result.gradient_difference > 1e-3) == (mode != "naive"), mode

    assert hybrid.loss_difference <= 1e-12             # other layers, same stream
    # KDA normalises keys and heads of width 4, some of them near zero, which magnifies
    # rounding: up to 1.4e-10 over six seeds, most below 1e-13. A lost gradient is 0.1.
    assert hybrid.gradient_difference <= 1e-9, hybrid.gradients

    assert len(set(several.losses)) == 3
    assert several.loss_difference <= 1e-12 and several.gradient_difference <= 1e-9
    once = results[len(layouts) - 1]                   # one step of four micro-batches
    assert several.forward == several.backward == once.forward
    assert several.n_bytes == [n_ranks // 2 * count for count in once.n_bytes]
    assert astray.loss_difference > 1e-6               # from the second step on


def test_what_cannot_work_is_refused():
    said = launch(ranks.refusals, 2)
    assert said[0] == said[1]
    expected = [
        "nothing",
        "ScheduleInterleavedZeroBubble, which splits the backward pass",
        "world size is 2, the layout has n_ranks 4",
        "n_ranks is 1",
        "the layout's n_layers is 12, the model's is 8",
        "the layout's block_size is 4, the model's is 2",
        "the model's stream is PreNorm",
        "the model's stream is OtherAttnRes",
        "tied_head is True",
    ]
    for sentence, part in zip(said[0], expected, strict=True):
        assert part in sentence


def test_gradients_are_compared_entry_by_entry_with_the_sum_of_the_shares():
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])
    shares = [
        dict(weight=torch.tensor([[1.0, 1.0]]), bias=torch.tensor([3.0])),
        dict(weight=torch.tensor([[0.0, 0.5]])),
    ]
    assert gradient_differences(model, shares) == dict(weight=0.5, bias=0.0)


def test_a_store_misses_what_it_is_owed():
    store, block = RankStore(), torch.ones(3, requires_grad=True)
    present = store.keep(0, block)
    store.drop(0)
    with pytest.raises(RuntimeError, match="blocks of 0 micro-batches and owes 1"):
        store.check_empty()
    with pytest.raises(RuntimeError, match="no gradient came back for block 0 of micro-b"):
        present.sum().backward()
    store = RankStore()
    present = store.keep(5, block)
    store.blocks(5)[0].exp().sum().backward()
    present.sum().backward()
    with pytest.raises(RuntimeError, match="blocks of 1 micro-batches and owes 0"):
        store.check_empty()
    store.drop(5)
    store.check_empty()


def test_a_pipeline_needs_a_process_group():
    model = LM(LMConfig(d_model=8, n_layers=8, n_heads=2, block_size=2))
    with pytest.raises(ValueError, match="no process group: start with"):
        Pipeline(model, Layout(2, 1, 8, 2), 4, (1, 4))


def test_the_demo_under_torchrun():
    size = "--n-layers", "4", "--block-size", "2", "--steps", "1"
    printed = ranks.under_torchrun("attnres_ref.pipeline.demo", *size)
    rows = [line.split() for line in printed.splitlines()[-len(MODES) :]]
    for mode, (name, *numbers) in zip(MODES, rows, strict=True):
        loss, gradient, *counts, total, _ = map(float, numbers)
        layout = Layout(2, 2, 4, 2, mode)
        assert name == mode and max(loss, gradient) <= 1e-12
        assert counts == [layout.n_tensors(chunk) for chunk in layout.transitions]
        assert total == layout.total()


def test_a_step_ends_with_a_look_at_the_store():
    case = dict(layout=Layout(2, 2, 8, 2), n_microbatches=4, store=ranks.Asked, **SMALL)
    with pytest.raises(RankFailed, match="(?s)RuntimeError: asked"):
        launch(comparisons, 2, [case])
