"""What the benchmark says of its records. Numbers in here are made up, and stay here."""

import pytest

from attnres_kernels.bench import figures, report, whole
from attnres_kernels.bench.choice import choose
from attnres_kernels.bench.model import BASE
from attnres_kernels.bench.peers import SWEPT

FACTS = dict(device="Made-up GPU", dry=False, python="3", torch="2", triton="3", commit="c",
             dirty=False)

# Made up: nothing was measured.
CELLS = dict(
    stage="cells", **FACTS, copy_gb_per_s=900.0,
    rows=[
        dict(contender=name, n=n, T=64, d=1024, part=part, turn=turn, ms=[ms, ms, ms],
             gb_per_s=report.gb_per_s(part, n, 64, 1024, ms), graph=True)
        for name, ms in (("ours", 0.01), ("eager", 0.04), ("torch.compile", 0.02))
        for n in (2, 9) for part in ("forward", "backward") for turn in (0, 1)
    ],
)
BESIDE = dict(stage="beside_peers", **FACTS, copy_gb_per_s=1100.0,
              missing={"a peer": "not installed"}, rows=[
    dict(contender="wrong", left_out="ValueError: h is wrong"),
    dict(contender="half right", gate={"h correlated": 0.01, "dw correlated": 0.25}),
    dict(contender="ours", n=9, T=1, d=1024, part="forward", graph=False, why="no capture"),
])
RUN = dict(stage="run_B", **FACTS, rows=[
    dict(stage="cells", outcome="done"), dict(stage="train", outcome="cut at its limit"),
])
TESTS = dict(stage="gpu_tests", **FACTS, rows=[
    dict(test="test_a", outcome="passed"), dict(test="test_c", outcome="passed"),
    dict(test="test_b", outcome="failed", why="assert 1 == 2"), dict(exit_code=3),
])


def test_the_floor_in_bytes_per_second():
    # 9 sources in and one out, 64 tokens of 1024 bf16 numbers, in 10 microseconds.
    assert report.gb_per_s("forward", 9, 64, 1024, 0.01) == pytest.approx(131.072)
    assert report.floor("backward", 9) == 19


def test_table_names_the_best_other_and_what_is_missing():
    lines = report.table(report.joined([CELLS, BESIDE, RUN, TESTS])).splitlines()
    assert lines[:4] == [
        "Made-up GPU, copy 1000 GB/s, of 2 from 900 to 1100", "tests: 2 passed, 1 failed",
        "test failed: test_b: assert 1 == 2",
        "tests: pytest stopped with exit code 3, see its log",
    ]
    row = next(line for line in lines if line.split()[:4] == ["forward", "9", "64", "1024"])
    assert row.endswith("2.00x our time, torch.compile") and " 13% " in row
    assert lines[-5:] == [
        "not measured: a peer: not installed",
        "not measured: beside_peers, contender wrong: ValueError: h is wrong",
        "wrong: beside_peers, contender half right: dw correlated by 0.25 of its largest",
        "without a graph: beside_peers, contender ours, part forward, n 9, T 1, d 1024: "
        "no capture",
        "not finished: train: cut at its limit",
    ]


def test_roofline_has_a_point_per_row_of_all_records_and_the_copy_line():
    (ax,) = figures.roofline(report.joined([CELLS, BESIDE])).axes
    points = [point for marks in ax.collections for point in marks.get_offsets()]
    assert len(points) == len(CELLS["rows"])
    assert ax.lines[0].get_ydata()[0] == 1000.0    # the median


def test_shares_of_a_copy_are_medians_of_our_turns():
    moved = 3 * 8192 * 64 * 2              # bytes of the forward's floor, n = 2
    row = dict(contender="ours", n=2, T=8192, d=64, part="forward", graph=True)
    rows = [row | dict(turn=turn, ms=[0, moved / 1e9 / share, 0])   # a copy: 1 TB/s
            for turn, share in enumerate((0.5, 0.8, 0.1))]
    rows += [row | dict(ms=[0, 1, 0], **other)
             for other in (dict(contender="eager"), dict(part="backward"), dict(T=64))]
    record = report.joined([CELLS | dict(rows=rows, copy_gb_per_s=1000.0)])
    assert figures.shares(record, "forward", 64) == {2: pytest.approx(0.5)}


def test_shares_by_warps_are_those_of_the_best_loads_and_not_of_the_ring():
    row = dict(n=9, d=64, part="backward", ms=[1, 1, 1])
    rows = [row | dict(warps=1, stages=2, gb_per_s=300), row | dict(warps=1, gb_per_s=500),
            row | dict(warps=2, gb_per_s=200), dict(warps=2, left_out="no memory"),
            row | dict(warps=2, kind="ring", gb_per_s=900),
            row | dict(warps=4, n=33, gb_per_s=800)]
    record = dict(copy_gb_per_s=1000, stages=dict(sweep=dict(rows=rows)))
    assert figures.shares_by_warps(record, "backward", 9, 64) == {1: 0.5, 2: 0.2}


def test_gates_tell_how_far_the_querys_gradient_is_off():
    gate = {"h independent": 9, "dw independent": 0.0016, "dw correlated": 2.376}
    rows = [dict(contender="FLA level 0", gate=gate), dict(contender="ours", gate=gate),
            dict(contender="FLA Gluon", left_out="no GPU")]
    record = dict(stages=dict(beside_peers=dict(rows=rows)))
    assert [*report.gates(record, "FLA")] == [
        "FLA level 0: gradient of the query off by 0.0016, where sources are alike by 2.4"
    ]


def test_issue_slots_are_those_of_the_records_gpu():
    # Twice the copy that `ahead` assumes leaves half of the slots, twice the clock twice.
    record = dict(copy_gb_per_s=6000, stages=dict(environment=dict(
        nvidia_smi="name, clocks.current.sm [MHz]\nH, 1755 MHz, 3201 MHz\n")))
    rows = [dict(kernel="a", issue=0.5), dict(kernel="on a T4", issue=None)]
    assert figures.issue_on(record, rows) == [dict(kernel="a", issue=1.0)]
    smi = record["stages"]["environment"]
    smi["nvidia_smi"] = smi["nvidia_smi"].replace("1755", "3510")
    assert figures.issue_on(record, rows) == [dict(kernel="a", issue=0.5)]
    assert rows[0]["issue"] == 0.5


def test_a_backward_in_two_loops_is_hollow_and_not_joined_to_one_read():
    """And so is that of sources which are too narrow, or too wide for the shared memory."""
    rows = [dict(contender="ours", n=n, T=8192, d=d, part=part, ms=[0, 1, 0])
            for n in (2, 9, 17, 33) for d in (64, 1024, 7168)
            for part in ("forward", "backward")]
    record = report.joined([CELLS | dict(rows=rows, copy_gb_per_s=1000.0)])
    drawn = lambda ax: [([*line.get_xdata()], line.get_markerfacecolor() == "white")
                        for line in ax.lines if line.get_marker() == "o"]
    for d, one_read in ((64, []), (1024, [2, 9]), (7168, [2])):
        forward, backward = figures.reads_beside_a_copy(record, widths=(d,)).axes[:2]
        loops = [n for n in (2, 9, 17, 33) if n not in one_read]
        assert drawn(forward) == [([2, 9, 17, 33], False), ([], True)]
        assert drawn(backward) == [(one_read, False), (loops, True)]


def test_what_was_launched_from_python_and_what_drifted_is_marked():
    rows = [dict(contender=name, n=2, T=1, d=64, part="forward", turn=turn, graph=graph,
                 ms=[ms] * 3)
            for name, graph, of_turns in (("ours", False, (1.0, 1.5)), ("b", False, (9, 9)))
            for turn, ms in enumerate(of_turns)]
    record = report.joined([CELLS | dict(rows=rows)])
    (_, line) = report.table_of_reads(record)
    assert " 1.2500* " in line and line.endswith(" 50%         7.20x our time, b*")


def test_our_swept_read_has_a_column_of_its_own_and_is_no_other():
    rows = [dict(contender=name, n=2, T=1, d=64, part="forward", turn=0, graph=True,
                 ms=[ms] * 3)
            for name, ms in (("ours", 2.0), (SWEPT, 1.5), ("b", 3.0))]
    (head, line) = report.table_of_reads(report.joined([CELLS | dict(rows=rows)]))
    assert line.endswith("0.75x  1.50x our time, b")
    assert line.index("0.75x") + len("0.75x") == head.index("swept") + len("swept")
    rows[1]["graph"] = False
    (_, line) = report.table_of_reads(report.joined([CELLS | dict(rows=rows[:2])]))
    assert line.endswith("0.75x"), "even if launched, and with nobody else"


def test_records_of_two_machines_are_not_compared(tmp_path):
    with pytest.raises(ValueError, match=r"differ in device: \['Made-up GPU', 'Other'\]"):
        report.joined([CELLS, BESIDE | dict(device="Other")])
    edited = [RUN, CELLS | dict(dirty=True)]        # while it was running
    assert report.joined(edited)["dirty"] and not report.joined([RUN, CELLS])["dirty"]
    with pytest.raises(ValueError, match="holds no record"):
        report.read(tmp_path)


NOW = dict(forward=[[512, [1, 3]], [2048, [4, 3]]], backward=[[8192, [8, 3]]])


def test_the_best_options_of_a_width_are_those_that_serve_all_depths():
    cell = dict(d=1024, part="forward")
    ms_of = {(1, 3): (1, 9), (2, 3): (2, 2), (4, 3): (3, 3), (8, 3): (1, None), (9, 9): [1]}
    rows = [
        dict(cell, n=n, warps=w, stages=s, **(dict(ms=[ms] * 3) if ms else dict(error="")))
        for (w, s), both in ms_of.items() for n, ms in enumerate(both)
    ]
    rows.append(dict(d=64, n=9, part="forward", warps=1, stages=3, error="none works"))
    (forward,) = choose(rows, NOW)
    assert forward == dict(d=1024, part="forward", warps=2, stages=3, today=(4, 3),
                           today_ratio=pytest.approx(1.5), ring=None)


def test_the_ring_is_chosen_with_its_fastest_warps_if_its_gradients_are_right():
    cell = dict(d=1024, part="backward", n=9)
    ring = dict(cell, kind="ring", gate={"dw correlated": 0.001})
    rows = [
        dict(cell, warps=1, stages=3, ms=[4] * 3), dict(ring, warps=8, error="no such GPU"),
        dict(ring, warps=2, ms=[3.5] * 3), dict(ring, warps=4, ms=[3] * 3),
        dict(ring, warps=8, ms=[2] * 3, gate={"dw correlated": float("nan")}),
        dict(cell, n=5, warps=1, stages=3, ms=[8] * 3),
        dict(ring, n=5, warps=4, ms=[6] * 3),
    ]
    (backward,) = choose(rows, NOW)
    assert backward["ring"] == dict(warps=4, ratio=pytest.approx(0.75))
    assert (backward["warps"], backward["stages"]) == (1, 3)
    assert backward["today_ratio"] is None, "8 warps of the ring are not today's 8 warps"
    record = dict(stages=dict(sweep=dict(chosen=[backward, dict(
        d=1024, part="forward", warps=2, stages=3, today=[4, 3], today_ratio=1.5, ring=None,
    )])))
    assert list(report.best_options(record)) == [
        "launch options, backward, d 1024: best with 1 warps and 3 stages",
        "  one read in a ring of 4 warps: 0.75x its time",
        "launch options, forward, d 1024: best with 2 warps and 3 stages; "
        "today's 4 warps and 3 stages: 1.50x its time",
    ]


def test_a_line_of_a_model_says_who_was_waited_for():
    row = dict(kind="eager", case=BASE, ms=[2.0] * 3, ratio_to_prenorm=1.0, host_ms=2.0,
               peak_bytes=3e9, pieces=0)
    block = dict(case="Block", ratio_to_prenorm=1.5, ms=[3.0] * 3)
    rows = [row, row | block | dict(pieces=2),
            row | block | dict(kind="graph", graph=False, peak_bytes=None),
            dict(kind="graph", case="Full", error="out of memory"),
            dict(kind="eager", case=BASE, gpu_ms=1.0),
            dict(kind="eager", case="Block", gpu_ms=1.04)]
    start = "whole model, {}: "
    assert list(whole.models(rows)) == [
        start.format("eager, PreNorm") + "2.0 ms, 1.000x PreNorm; GPU busy for 1.0 ms, "
        "1.000x, host for 2.0 ms, peak 3.0 GB",
        start.format("eager, Block") + "3.0 ms, 1.500x PreNorm; GPU busy for 1.0 ms, "
        "1.040x, host for 2.0 ms, peak 3.0 GB, in 2 pieces",
        start.format("graph that failed, Block") + "3.0 ms, 1.500x PreNorm, "
        "host for 2.0 ms",
    ]
