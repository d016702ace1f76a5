"""The benchmark's parts that need no GPU. Numbers in here are made up, and stay here."""

import sys
from types import ModuleType

import pytest
import torch

from attnres_kernels.bench import gate, model, operators, peers, report
from attnres_kernels.bench.__main__ import main
from attnres_kernels.bench.model import model_ratios
from attnres_ref import depth_attention

CPU = torch.device("cpu")

# Made up: nothing was measured.
RECORD = dict(
    device="Made-up GPU", copy_gb_per_s=1000.0, missing={"a peer": "not installed"},
    rows=[
        dict(contender=name, n=n, T=64, d=1024, part=part, ms=[ms, ms, ms], tune_s=0.0,
             gb_per_s=report.gb_per_s(part, n, 64, 1024, ms))
        for name, ms in (("ours", 0.01), ("eager", 0.04), ("torch.compile", 0.02))
        for n in (2, 9) for part in ("forward", "backward")
    ],
)


def test_the_floor_in_bytes_per_second():
    # 9 sources in and one out, 64 tokens of 1024 bf16 numbers, in 10 microseconds.
    assert report.gb_per_s("forward", 9, 64, 1024, 0.01) == pytest.approx(131.072)
    assert report.floor("backward", 9) == 19


def test_table_names_the_best_other_and_what_is_missing():
    lines = report.table(report.joined([RECORD, RECORD])).splitlines()
    assert lines[0] == "Made-up GPU, copy 1000 GB/s"
    assert lines[-1] == "not measured: a peer: not installed"
    row = next(line for line in lines if line.split()[:4] == ["forward", "9", "64", "1024"])
    assert row.endswith("2.00x our time, torch.compile") and " 13% " in row


def test_roofline_has_a_point_per_row_of_all_records_and_the_copy_line():
    (ax,) = report.roofline(report.joined([RECORD, RECORD])).axes
    points = [point for marks in ax.collections for point in marks.get_offsets()]
    assert len(points) == 2 * len(RECORD["rows"])
    assert ax.lines[0].get_ydata()[0] == 1000.0


def test_a_cell_times_every_contender_in_turn(monkeypatch):
    monkeypatch.setattr(operators, "BEYOND_CACHE", 10_000)  # three sets of inputs
    order, prepare = [], lambda call: call

    def clock(calls):
        assert len(calls) == 3                 # one per set of inputs
        order.append(calls)
        return float(len(order))

    def broken(w, sources):
        raise ValueError("only powers of two")

    contenders = {"ours": peers.stacked, "eager": peers.stacked, "broken": broken}
    rows, skipped = operators.cell(contenders, 2, 4, 250, 3, CPU, prepare, clock)
    assert {(row["contender"], row["part"]) for row in rows} == {
        (name, part) for name in ("ours", "eager") for part in ("forward", "backward")
    }
    assert skipped == {"broken at n 2, T 4, d 250": "ValueError: only powers of two"}
    assert len(order) == 3 * 2 * 2
    assert rows[0]["ms"] == [1.0, 5.0, 9.0], "rounds 1, 5, 9: contenders alternate"


def test_the_gate_passes_the_equations_and_stops_a_wrong_read():
    right = gate.check(peers.stacked, CPU)
    assert len(right) == 6, "h, dw and dv, for two kinds of sources"
    with pytest.raises(ValueError, match="h is wrong by"):
        gate.check(lambda w, sources: peers.stacked(w, sources[:-1]) + 0 * sources[-1], CPU)


def test_the_gate_stops_a_read_with_one_wrong_number():
    def attend(w, sources):
        h = peers.stacked(w, sources)
        return h + torch.eye(h.numel())[0].view_as(h).to(h)

    with pytest.raises(ValueError, match="h is wrong by"):
        gate.check(attend, CPU)


def test_ratios_of_whole_models_are_to_prenorms(monkeypatch):
    pytest.importorskip("triton")

    def interleaved(cases, rounds, clock):
        for _, run in cases:
            run()
        return {name: [3.0 + name.startswith("PreNorm")] * rounds for name, _ in cases}

    monkeypatch.setattr(model, "interleaved", interleaved)
    size = dict(d_model=8, n_layers=2, n_heads=2, context=2, block_size=2)
    ratios = model_ratios(1, CPU, 1, depth_attention, **size)
    names = ["Block training", "Full training", "Block inference, two phases"]
    assert ratios == dict.fromkeys(names, 0.75)


def fused_attnres(query, residuals, rms_weight, output_rms_weight=None, rms_eps=1e-6,
                  scale=1.0, return_weights=False, checkpoint_level=1):
    return depth_attention(query, residuals, rms_weight, rms_eps)


def attnres(values, query, *, eps=1e-6, scale=1.0):
    return depth_attention(query, values, None, eps)


class LigerAttnResFunction:
    @staticmethod
    def apply(values, w, norm_weight, eps):
        return depth_attention(w, list(values), norm_weight, eps)


def phase_1_batched_attention_triton_op(blocks, queries, eps):
    reads = [depth_attention(query, list(blocks), None, eps) for query in queries]
    return torch.stack(reads), None


FAKES = {                              # module: what its documentation says it has
    "fla.ops.attnres": fused_attnres,
    "attnres": attnres,
    "liger_kernel.ops.attn_res": LigerAttnResFunction,
    "flash_attn_res": phase_1_batched_attention_triton_op,
}


def test_every_adapter_passes_the_gate_on_a_fake_of_its_peer(monkeypatch):
    monkeypatch.setenv("FLA_ATTNRES_GLUON", "0")            # put back afterwards
    for name, function in FAKES.items():
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            module = ".".join(parts[:k])
            monkeypatch.setitem(sys.modules, module, ModuleType(module))
        setattr(sys.modules[name], function.__name__, function)
    contenders, missing = peers.load()
    assert not missing and contenders.keys() == peers.LOADERS.keys()
    for name in contenders.keys() - {"ours", "torch.compile"}:
        errors = gate.errors_against_float64(contenders[name], CPU, torch.float32)
        assert max(errors.values()) < 1e-3, name


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn_res", None)
    contenders, missing = peers.load()
    assert contenders.keys() | missing.keys() == peers.LOADERS.keys()
    assert "pip install flash-attn-res" in missing["flash-attn-res, with stack"]


def test_without_a_gpu_it_says_that_it_measured_nothing(monkeypatch, capsys):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main([])
    with pytest.raises(SystemExit, match="nothing to write"):
        main(["--json", "x.json"])
    assert capsys.readouterr().out.count("measured nothing") == 2
