"""Rank bounds hold for every stream; reads and correlations mean what they say."""

import math
import re

import pytest
import torch

import cells
from attnres_ref.notebook import recorded
from attnres_ref.streams import STREAMS
from attnres_ref.study.compare import select
from attnres_ref.study.mixing import (
    Lost,
    agreement,
    agreement_with,
    lost_sources,
    mean_rows,
    mixing_matrix,
    rank_bound,
    rank_order,
    reads,
    relative,
    semiseparable_rank,
)
from attnres_ref.study.probes import depth_weights, trace
from test_variants import TOKENS, build

CASES = [
    *((residual, {}) for residual in sorted(STREAMS)),
    *(("block", dict(block_size=size)) for size in (1, 2, 3, 5, 8)),
    *(("window", dict(window=width)) for width in (1, 2, 5)),
    *(("mhc", dict(n_streams=m)) for m in (1, 2)),
]


@pytest.mark.parametrize("residual, changes", CASES)
def test_random_streams_reach_the_bound(residual, changes):
    model = build(residual, 0.5, **changes)
    M = mixing_matrix(model, TOKENS)[..., 0, 0, 0]
    bound = rank_bound(model.config)
    assert semiseparable_rank(M) == semiseparable_rank(M, 1e-10) == bound


def test_reads_are_weights_shares_and_spread():
    model = build("block", 0.5, block_size=4)
    found, weights = reads(model, TOKENS), depth_weights(model, TOKENS)
    assert len(found) == 9
    for read, row in zip(found, weights):
        assert read["weights"] == pytest.approx(row.tolist())
    assert math.isnan(found[0]["spread"])
    assert all(0 < read["spread"] < 1 for read in found[1:])
    # One source has weight one: its share is its size.
    embedding = model.embedding(TOKENS)
    assert found[0]["shares"][0] == pytest.approx(embedding.square().mean().sqrt().item())
    even = reads(build("block", block_size=4), TOKENS)
    assert [read["spread"] for read in even[1:]] == pytest.approx([1.0] * 8)


def test_a_share_is_the_part_of_the_read():
    model = build("full", 0.5)
    seen, found = trace(model, TOKENS), reads(model, TOKENS)
    M = mixing_matrix(model, TOKENS)
    brought = M[3, 2] * seen.outputs[1]                # source 2, what layer 1 wrote
    size = brought.square().mean().sqrt().item()
    assert found[3]["shares"][2] == pytest.approx(size, rel=1e-5)


def test_relative_weights():
    rows = [[1.0], [0.25, 0.75], [0.5, 0.2, 0.3]]
    found = relative([dict(weights=row) for row in rows])
    assert found == [[1.0], [0.5, 1.5], pytest.approx([1.5, 0.6, 0.9])]


def test_mean_rows():
    assert mean_rows([[[1.0], [2.0, 3.0]], [[3.0], [4.0, 9.0]]]) == [[2.0], [3.0, 6.0]]


def test_lost_sources():
    several = dict(weights=[0.25, 0.75], shares=[0.1, 0.2])
    rows = [dict(weights=[1.0], shares=[2.0]), several]
    found = lost_sources(rows, [torch.tensor([math.nan]), torch.tensor([0.5, -0.25])])
    assert found == [Lost(1, 0, 0.5, 0.1, 0.5), Lost(1, 1, 1.5, 0.2, -0.25)]


def test_agreement():
    one = [Lost(1, 0, 0.5, 0.1, 0.3), Lost(1, 1, 1.5, 0.2, 0.2), Lost(2, 0, 1.0, 0.3, 0.4)]
    assert agreement(one, "weight") == pytest.approx(-0.5)
    assert agreement(one, "share") == pytest.approx(0.5)


def test_agreement_is_of_ranks_not_of_values():
    assert rank_order([0.3, 0.1, 0.2]) == [2, 0, 1]
    shares = torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist()
    lost = [Lost(1, 0, -share, share, share**3) for share in shares]
    assert agreement(lost, "share") == pytest.approx(1)
    assert agreement(lost, "weight") == pytest.approx(-1)


def test_agreement_with_a_guess_counts_reads_that_can_lose_a_source():
    reads, costs = [[0.0], [1.0, 2.0], [3.0, 4.0, 5.0]], [[None], [1, 2], [3, 5, 4]]
    assert agreement_with(lambda rows, l: rows[l], reads, costs) == pytest.approx(0.9)
    assert agreement_with(lambda rows, l: [-x for x in rows[l]], reads, costs) < -0.8


def test_exercise_07_2_reaches_what_its_solution_says():
    path, = (path for path in cells.notebooks() if path.name.startswith("07"))
    notebook, made = cells.read(path), {"math": math}
    exercise, = (x for x in cells.exercises(notebook) if x.name == "07.2")
    exec(exercise.solution, made)
    prose = "".join(cell.source for cell in notebook.cells)
    said = re.search(r"It reaches (.{12}) for Full, and (.{12}) for Block", prose).groups()
    for residual, words in zip(("full", "block"), said):
        runs = select(recorded("mixing")["python_sources"], residual=residual, block_size=4)
        found = sorted(agreement_with(made["guess_costs"], r["reads"], r["ablation"])
                       for r in runs)
        assert len(runs) == 3 and words == f"{found[0]:.2f} to {found[-1]:.2f}"

    def final_times_five(reads, l):
        return [(5 if l == 16 else 1) * x for x in made["guess_costs"](reads, l)]

    assert "comes to 0.7 and more for Full" in prose
    for r in select(recorded("mixing")["python_sources"], residual="full"):
        assert agreement_with(final_times_five, r["reads"], r["ablation"]) >= 0.7
