"""The pipeline on real processes equals one process, in loss and in every gradient.

Starting processes is slow: a test starts them once and does all it needs with them.
"""

import os
import time

import pytest

import ranks
from attnres_ref import LM, LMConfig
from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.launch import RankFailed, launch
from attnres_ref.pipeline.layout import MODES, cached_formula, naive_formula
from attnres_ref.pipeline.trial import ForgetfulStore, trials

SMALL = dict(d_model=8, context=4)
# V, L, S: boundaries aligned with blocks, cut through them, and a short last block.
CUTS = {
    2: [(1, 8, 2), (1, 7, 3), (2, 8, 2), (2, 9, 4), (4, 8, 1), (4, 16, 4)],
    4: [(1, 8, 2), (1, 7, 3), (2, 16, 2), (2, 16, 4), (4, 16, 1), (4, 17, 5)],
}


@pytest.mark.parametrize("n_ranks", CUTS)
def test_every_mode_equals_one_process(n_ranks):
    layouts = [Layout(n_ranks, *cut, mode) for cut in CUTS[n_ranks] for mode in MODES]
    jobs = [dict(layout=layout, n_microbatches=4, **SMALL) for layout in layouts]
    forgetful = [dict(job, store=ForgetfulStore) for job in jobs[-3:]]
    several = dict(jobs[-1], n_microbatches=2 * n_ranks, steps=3)
    hybrid = dict(jobs[-1], layers="kda,moe,mla,moe")
    results = launch(trials, n_ranks, [*jobs, *forgetful, hybrid, several])[0]

    for layout, found in zip(layouts, results):
        assert found.loss_difference <= 1e-12, layout
        assert found.gradient_difference <= 1e-12, (layout, found.gradients)
        planned = [layout.n_tensors(chunk) for chunk in layout.transitions]
        assert planned == found.forward == found.backward, layout
        size = 4 * SMALL["context"] * SMALL["d_model"] * 8       # M tensors of float64
        assert found.n_bytes == [2 * count * size for count in planned], layout
        assert found.peak_tensors == simulate(layout, 4).peak_tensors, layout

    # The mutation: no gradient comes back from the store. The loss cannot tell.
    for job, found in zip(forgetful, results[len(jobs) :]):
        layout = job["layout"]
        assert found.loss_difference <= 1e-12, layout
        wrong = found.gradient_difference > 1e-3
        assert wrong == (layout.mode != "naive"), layout

    assert results[-2].loss_difference <= 1e-12        # other layers, same stream
    assert results[-2].gradient_difference <= 1e-12, results[-2].gradients

    found = results[-1]
    assert len(found.losses) == 3 and len(set(found.losses)) == 3
    assert found.loss_difference <= 1e-12 and found.gradient_difference <= 1e-9

    if n_ranks == 4:
        counted = {layout: found.forward for layout, found in zip(layouts, results)}
        assert_the_papers_counts(counted)


def assert_the_papers_counts(counted):
    """Fig. 3: P = 4, V = 2, a block over two chunks; and the same with aligned blocks."""
    spanning, aligned = (
        [counted[Layout(4, 2, 16, block_size, mode)] for mode in MODES]
        for block_size in (4, 2)
    )
    partials = 4
    assert [sum(forward) - partials for forward in spanning] == [19, 13, 11]
    assert [sum(forward) for forward in aligned] == [
        naive_formula(4, 2, 1) + 7, cached_formula(4, 2, 1) + 3, 18 + 3
    ]
    assert spanning[0] == [2, 2, 3, 3, 4, 4, 5]          # Fig. 3 and partial sums
    assert spanning[1] == [2, 2, 3, 2, 3, 2, 3]


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
        "tied_head is True",
    ]
    for sentence, part in zip(said[0], expected, strict=True):
        assert part in sentence


def test_launch_returns_by_rank_and_says_who_failed(tmp_path):
    assert launch(ranks.greet, 2, "rank") == ["rank 0 of 2", "rank 1 of 2"]
    with pytest.raises(RankFailed, match="(?s)^rank 1 failed.*seven is not prime"):
        launch(ranks.rank_one_raises, 2)
    with pytest.raises(RankFailed, match=r"no answer from ranks \[0, 1\] in time"):
        launch(ranks.rank_one_waits_forever, 2, timeout=1)


def test_a_killed_rank_takes_the_others_with_it(tmp_path):
    with pytest.raises(RankFailed, match="rank 1 was killed by SIGKILL"):
        launch(ranks.rank_one_is_killed, 3, str(tmp_path))
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(pids) == 3
    for pid in pids:
        assert gone(pid), f"process {pid} is still there"


def gone(pid):
    """Killed, and collected by the fork server, which may take a moment."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_pipeline_needs_a_process_group():
    model = LM(LMConfig(d_model=8, n_layers=8, n_heads=2, block_size=2))
    with pytest.raises(ValueError, match="no process group: start with"):
        Pipeline(model, Layout(2, 1, 8, 2), 4, (1, 4))
