"""The benchmark's parts that need no GPU. Numbers in here are made up, and stay here."""

import sys
from types import ModuleType

import pytest
import torch

from attnres_kernels.bench import model as bench_model
from attnres_kernels.bench import operators as bench
from attnres_kernels.bench import peers
from attnres_kernels.bench import report as bench_report
from attnres_ref import depth_attention

# Made up: nothing was measured.
RECORD = dict(
    device="Made-up GPU", copy_gb_per_s=1000.0, missing={"a peer": "not installed"},
    rows=[
        dict(contender=name, n=n, T=64, d=1024, part=part, ms=[ms, ms, ms], tune_s=0.0,
             gb_per_s=bench_report.gb_per_s(part, n, 64, 1024, ms))
        for name, ms in (("ours", 0.01), ("eager", 0.04), ("torch.compile", 0.02))
        for n in (2, 9) for part in ("forward", "backward")
    ],
)


def test_the_floor_in_bytes_per_second():
    # 9 sources in and one out, 64 tokens of 1024 bf16 numbers, in 10 microseconds.
    assert bench_report.gb_per_s("forward", 9, 64, 1024, 0.01) == pytest.approx(131.072)
    assert bench_report.floor("backward", 9) == 19


def test_table_names_the_best_other_and_what_is_missing():
    lines = bench.table(RECORD).splitlines()
    assert lines[0] == "Made-up GPU, copy 1000 GB/s"
    assert lines[-1] == "not measured: a peer: not installed"
    row = next(line for line in lines if line.split()[:4] == ["forward", "9", "64", "1024"])
    assert row.endswith("2.00x our time, torch.compile") and " 13% " in row


def test_roofline_has_a_point_per_row_and_the_copy_line():
    (ax,) = bench.roofline(RECORD).axes
    points = [point for found in ax.collections for point in found.get_offsets()]
    assert len(points) == len(RECORD["rows"])
    assert ax.lines[0].get_ydata()[0] == 1000.0


def test_records_of_several_T_join():
    both = bench.joined([RECORD, RECORD])
    assert len(both["rows"]) == 2 * len(RECORD["rows"]) and both["device"] == "Made-up GPU"


def test_a_cell_times_every_contender_in_turn(monkeypatch):
    monkeypatch.setattr(bench, "BEYOND_CACHE", 10_000)      # three sets of inputs
    order = []

    def prepare(call):
        assert torch.is_tensor(call()) or len(call()) == 3
        return call

    def clock(calls):
        assert len(calls) == 3                 # one per set of inputs
        order.append(calls)
        return float(len(order))

    def broken(w, sources):
        raise ValueError("only powers of two")

    contenders = {"ours": peers.stacked, "eager": peers.stacked, "broken": broken}
    cpu = torch.device("cpu")
    rows, skipped = bench.cell(contenders, 2, 4, 250, 3, cpu, prepare, clock)
    assert {(row["contender"], row["part"]) for row in rows} == {
        (name, part) for name in ("ours", "eager") for part in ("forward", "backward")
    }
    assert skipped == {"broken at n 2, T 4, d 250": "ValueError: only powers of two"}
    assert len(order) == 3 * 2 * 2
    assert rows[0]["ms"] == [1.0, 5.0, 9.0], "rounds 1, 5, 9: contenders alternate"


def test_the_gate_passes_the_reference_and_stops_a_wrong_read():
    right = bench.gate(bench.plain, torch.device("cpu"), torch.float32)
    assert max(right.values()) < 1e-3 and len(right) == 6
    wrong = bench.gate(lambda w, sources: peers.stacked(w, sources[:-1]) + 0 * sources[-1],
                       torch.device("cpu"), torch.float32)
    assert wrong["h independent"] > bench.LIMIT


def test_ratios_of_whole_models():
    pytest.importorskip("triton")
    size = dict(d_model=8, n_layers=2, n_heads=2, context=2, block_size=2)
    ratios = bench_model.model_ratios(1, torch.device("cpu"), 1, depth_attention, **size)
    names = ["Block training", "Full training", "Block inference, two phases"]
    assert list(ratios) == names
    assert all(ratio > 0 for ratio in ratios.values())


def fake(name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


class Liger:
    @staticmethod
    def apply(values, w, norm_weight, eps):
        return depth_attention(w, list(values), norm_weight, eps)


FAKES = {                              # packages as their documentation describes them
    "fla.ops.attnres": dict(
        fused_attnres=lambda query, residuals, rms_weight, output_rms_weight=None,
        rms_eps=1e-6, scale=1.0, return_weights=False, checkpoint_level=1:
        depth_attention(query, residuals, rms_weight, rms_eps)
    ),
    "attnres": dict(
        attnres=lambda values, query, *, eps=1e-6, scale=1.0:
        depth_attention(query, values, None, eps)
    ),
    "liger_kernel.ops.attn_res": dict(LigerAttnResFunction=Liger),
    "flash_attn_res": dict(
        phase_1_batched_attention_triton_op=lambda blocks, queries, eps:
        (torch.stack([depth_attention(q, list(blocks), None, eps) for q in queries]), None)
    ),
}


def test_adapters_pass_the_gate_on_fakes_of_the_peers(monkeypatch):
    monkeypatch.setenv("FLA_ATTNRES_GLUON", "0")            # put back afterwards
    for name, attributes in FAKES.items():
        parts = name.split(".")
        for k in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:k]), fake(parts[k - 1]))
        monkeypatch.setitem(sys.modules, name, fake(name, **attributes))
    found, missing = peers.load()
    assert not missing and list(found) == list(peers.LOADERS)
    for name in set(found) - {"ours", "torch.compile"}:
        errors = bench.gate(found[name], torch.device("cpu"), torch.float32)
        assert max(errors.values()) < 1e-3, name


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn_res", None)
    found, missing = peers.load()
    name = "flash-attn-res, with stack"
    assert name not in found and "pip install flash-attn-res" in missing[name]


def test_without_a_gpu_it_says_that_it_measured_nothing(monkeypatch, capsys):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.main([])
    assert "measured nothing" in capsys.readouterr().out
