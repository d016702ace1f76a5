"""The paper's numbers, typed in once more as sums: a figure that is wrong shows."""

from pytest import approx

from attnres_ref.study import paper
from attnres_ref.study.scaling import PowerLaw


def test_losses():
    sums = {name: sum(row) for name, row in paper.TABLE_2.items()}
    assert sums == approx(dict(
        parameters=1695e6, tokens=353.1e9, prenorm=9.140, block=9.032, full=9.006, mhc=9.023
    ))
    laws = {name: PowerLaw(*fit)(paper.COMPUTE) for name, fit in paper.FITS.items()}
    assert laws == approx(dict(prenorm=1.714, block=1.692, full=1.691), abs=5e-4)
    assert [*map(sum, zip(*paper.FIG_7.values()))] == approx([105, 3.649])
    assert sum(paper.FIG_7_GAINS) == approx(0.082)

    best_first = ("input_query full sigmoid raw_keys block mhc static block_raw_keys "
                  "multihead window prenorm denseformer")
    assert sorted(paper.TABLE_4, key=paper.TABLE_4.get) == best_first.split()
    assert sum(paper.TABLE_4.values()) == approx(20.993)
    pairs = ("block", "prenorm"), ("rezero", "full"), ("full", "rezero")
    assert [paper.delta(*pair) for pair in pairs] == [-0.020, None, None]
    assert paper.largest_delta("block", "prenorm") == -0.026
    assert paper.largest_delta("full", "prenorm") == -0.027
    for name in ("prenorm", "block", "full", "mhc"):       # its 436M models are Table 2's
        assert paper.TABLE_4[name] == paper.TABLE_2[name][3]


def test_costs():
    L, N, S, m = 128, 8, 16, 4
    assert paper.TABLE_1 == dict(prenorm=2 + 1, block=N / S + 5, full=S + N, mhc=8 * m + 2)
    assert L == N * S and sum(paper.OVERHEADS.values()) == approx(0.06)
    assert sum(paper.PREFILL) == approx(17.2)


def test_scores():
    before, after = zip(*paper.DOWNSTREAM.values())
    assert (sum(before), sum(after)) == approx((1034.1, 1062.3))
    assert sum(b > a for a, b in paper.DOWNSTREAM.values()) == len(before) - 1 == 14
