"""The inference benchmark runs and reports every case; what it times is not tested."""

from attnres_ref.bench.inference import CASES, measure, paired_ratio, table


def test_rows_hold_every_case():
    rows = measure(1, prompt=3, n_new=2, d_model=8, n_layers=4, n_heads=2)
    assert list(rows) == list(CASES)
    assert rows["PreNorm"]["decode_time_ratio"] == 1
    assert all(value > 0 for row in rows.values() for value in row.values())
    assert all(name in table(rows) for name in CASES)


def test_a_ratio_is_the_median_of_pairs():
    assert paired_ratio([2.0, 9.0, 40.0], [1.0, 3.0, 10.0]) == 3
