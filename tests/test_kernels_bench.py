"""The benchmark's parts that need no GPU. Numbers in here are made up, and stay here."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from attnres_kernels import launch
from attnres_kernels.bench import __main__ as kernels_command
from attnres_kernels.bench import clock, figures, gate, operators, peers, plan, report
from attnres_kernels.bench import model as bench_model
from attnres_kernels.bench.__main__ import main
from attnres_kernels.bench.model import COMPILED
from attnres_kernels.bench.peers import SWEPT
from attnres_kernels.bench.plan import PLAN, STAGES, Stage
from attnres_kernels.bench.record import DRY, Record
from attnres_kernels.bench.stages import (
    cells,
    compile_peers,
    decode,
    environment,
    sweep,
    warm,
)
from attnres_ref import LM, LMConfig, depth_attention
from test_kernels_bench_report import CELLS

CPU = torch.device("cpu")
KINDS = ("eager", "graph", "compiled", "compiled, graph")


def test_a_row_is_on_disk_at_once_and_a_cut_leaves_the_rows_before(tmp_path, monkeypatch):
    record, path = Record(tmp_path, "cells", CPU), tmp_path / "cells.json"
    for k in range(3):
        record.add(k=k)
        assert [row["k"] for row in json.loads(path.read_text())["rows"]] == [*range(k + 1)]

    def half(self, text, **options):
        with open(self, "w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        record.add(k=3)
    content = json.loads(path.read_text())
    assert len(content["rows"]) == 3 and content["device"] == DRY and content["dry"]


def test_halves_keep_to_seven_and_five_minutes():
    assert plan.longest_s("A") <= 420 and plan.longest_s("B") <= 300
    assert all(stage.expected_s < stage.limit_s for stage in STAGES.values())
    said = " ".join(plan.__doc__.split())
    assert f"{plan.longest_s('A')} s for half A and {plan.longest_s('B')} s" in said


def test_a_stage_that_overruns_is_cut_with_its_children_and_the_next_one_runs(
    tmp_path, monkeypatch
):
    scripts = dict(slow="sleep 600 & echo $! > child; wait", next="exit 0", bad="exit 3")

    def start(name, out, dry):
        command = ["sh", "-c", scripts[name]]
        return subprocess.Popen(command, cwd=out, start_new_session=True)

    monkeypatch.setattr(plan, "start", start)
    slow, bad = plan.run_group([Stage("slow", 1, 1), Stage("bad", 9, 90)], tmp_path, False)
    (then,) = plan.run_group([Stage("next", 9, 90)], tmp_path, False)
    assert slow["outcome"] == "cut at its limit of 1 s" and bad["seconds"] < slow["seconds"]
    assert bad["outcome"] == "failed with exit code 3" and then["outcome"] == "done"
    child, began = int((tmp_path / "child").read_text()), time.monotonic()
    while runs(child):
        assert time.monotonic() - began < 60, "the child outlived its stage"


def test_a_run_replaces_its_own_records_and_refuses_to_join_those_of_another_version(
    tmp_path, monkeypatch, capsys
):
    ran = []

    def run_group(group, out, dry):
        assert not (tmp_path / "sweep.json").exists()
        ran.extend(group)
        return [dict(stage="sweep", outcome="failed with exit code 1"),
                dict(stage="cells", outcome="cut at its limit of 9 s")]

    for name in ("sweep", "cells"):
        (tmp_path / f"{name}.log").write_text(f"the end of {name}")
    monkeypatch.setattr(kernels_command, "run_group", run_group)
    (tmp_path / "sweep.json").write_text(json.dumps(CELLS))
    with pytest.raises(SystemExit, match="^Failed: sweep; see"):
        main(["sweep", "--dry", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "the end of sweep" in said and "the end of cells" in said
    (tmp_path / "cells.json").write_text(json.dumps(CELLS))
    with pytest.raises(ValueError, match="records differ in device.* another --out"):
        main(["sweep", "--dry", "--out", str(tmp_path)])
    assert ran == [STAGES["sweep"]], "the second time nothing is run"


def runs(pid: int) -> bool:
    """Whether a process is there, and not merely waits for its parent to look."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_cell_times_every_contender_in_turn(monkeypatch, tmp_path):
    monkeypatch.setattr(operators, "BEYOND_CACHE", dict(cpu=8_000))   # three sets of inputs
    monkeypatch.setattr(operators, "GRAPH_BYTES", dict(cpu=24_000))   # twice each
    order = []

    def as_graph(calls, device):
        assert len(calls) == 6 and len(set(map(id, calls))) == 3
        return [call() for call in calls], None

    def times_ms(run, n_calls, device, rounds):
        order.append(n_calls)
        return [float(len(order))]

    def broken(w, sources):
        raise ValueError("only powers of two")

    monkeypatch.setattr(clock, "as_graph", as_graph)
    monkeypatch.setattr(clock, "times_ms", times_ms)
    contenders = {"ours": peers.stacked, "broken": broken, "eager": peers.stacked}
    record = Record(tmp_path, "cells", CPU)
    operators.measure_cell(record, contenders, 2, 4, 250, CPU)
    rows = record.content["rows"]
    timed = [(row["contender"], row["part"], row["turn"]) for row in rows if "ms" in row]
    assert timed == [(name, part, turn) for turn in (0, 1) for name in ("ours", "eager")
                     for part in ("forward", "backward")]
    assert [row["ms"][1] for row in rows if "ms" in row] == [*map(float, range(1, 9))]
    assert [row["error"] for row in rows if row["contender"] == "broken"] == [
        "ValueError: only powers of two"] * 2, "once for each part, not again in turn 2"


def test_a_contender_has_its_settings_from_its_first_call_to_its_last_replay(
    monkeypatch, tmp_path
):
    seen, inside = [], []

    @contextmanager
    def settings():
        inside.append(True)
        yield
        inside.clear()

    def saw(what, result):
        seen.append((what, bool(inside)))
        return result

    monkeypatch.setattr(operators, "calls_of", lambda *_: [lambda: saw("call", None)])
    monkeypatch.setattr(clock, "as_graph", lambda calls, _: saw("capture", (None, None)))
    monkeypatch.setattr(clock, "times_ms", lambda *_: saw("replay", [1.0]))
    record = Record(tmp_path, "cells", CPU)
    for name in ("ours", SWEPT):
        seen.clear()
        operators.measure_cell(
            record, {name: None}, 2, 4, 16, CPU, settings={SWEPT: settings}
        )
        assert {what for what, _ in seen} == {"call", "capture", "replay"}
        assert {on for _, on in seen} == {name == SWEPT}
    assert "error" not in record.content["rows"][-1]


def chosen_for(d, **ring):
    """Made up: what the sweep could have chosen."""
    options = dict(d=d, today=None, today_ratio=None)
    return [dict(options, part="forward", warps=2, stages=4, ring=None),
            dict(options, part="backward", warps=8, stages=2, ring=ring or None)]


def test_cells_measure_our_read_as_the_sweep_has_chosen(monkeypatch, tmp_path):
    measured, passed = {}, []

    def measure_cell(record, contenders, n, T, d, device, settings):
        measured[n, T, d] = [*contenders]
        for context in settings.values():
            with context():
                forward, backward = launch.FORWARD, launch.BACKWARD
            assert (forward, backward) == ({launch.WIDEST: (2, 4)}, {launch.WIDEST: (8, 2)})

    def check(attend, device, size):
        passed.append((size, launch.FORWARD[launch.WIDEST]))
        return {}

    monkeypatch.setattr(operators, "measure_cell", measure_cell)
    monkeypatch.setattr(gate, "passing", lambda *_: dict(ours=None))
    monkeypatch.setattr(gate, "check", check)
    monkeypatch.setattr(sweep, "CELLS", dict(cpu=[(2, 4, 16), (3, 1, 8)]))
    monkeypatch.setattr(cells, "CELLS", dict(cpu=[(2, 4, 16), (3, 1, 16), (3, 1, 8)]))
    record = Record(tmp_path, "cells", CPU)
    cells.measure(record, CPU)
    assert measured.popitem()[1] == ["ours"] and not passed
    (row,) = record.content["rows"]
    assert row["contender"] == SWEPT and "sweep.json is not there" in row["left_out"]

    (tmp_path / "sweep.json").write_text(json.dumps(dict(chosen=chosen_for(16))))
    record = Record(tmp_path, "cells", CPU)
    cells.measure(record, CPU)
    assert measured == {(2, 4, 16): ["ours", SWEPT], (3, 1, 16): ["ours"],
                        (3, 1, 8): ["ours"]}
    assert passed == [((2, 8, 16), (2, 4))], "the gate is passed with these options"
    there, missing = record.content["rows"]
    assert there["gate"] == {}
    assert missing["left_out"] == "ValueError: at d 8 the sweep has a choice for [] alone"


def test_the_sweeps_choice_takes_the_ring_where_it_was_faster():
    before = vars(launch).copy()
    for ring, held in ((dict(warps=4, ratio=0.9), 113 << 10), (dict(warps=4, ratio=1.1), 0),
                       ({}, 0)):
        with sweep.as_chosen(chosen_for(16, **ring), 16):
            assert launch.RING_BYTES == held
            assert held == 0 or launch.RING_WARPS == {launch.WIDEST: 4}
    assert vars(launch) == before


def test_calls_of_a_small_cell_fill_a_graph_and_large_ones_do_not():
    cuda = torch.device("cuda")
    token, large = 2 * 9 * 1 * 1024, 2 * 9 * 8192 * 4096
    assert operators.repeats(32, token, cuda) * 32 == operators.MOST_CALLS
    assert operators.repeats(1, large, cuda) == 2


def on_a_made_up_gpu(monkeypatch, capture, synchronize=lambda: None) -> list:
    """torch.cuda as as_graph uses it; returns the streams that are set."""
    streams = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "ours")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    replays = SimpleNamespace(replay=lambda: streams.append("replay"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: replays)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return streams


@contextmanager
def captures(graph, stream):
    assert stream == "ours", "the stream that everything is on"
    yield


@contextmanager
def fails(graph, stream):
    yield
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


def test_a_capture_that_fails_says_why_and_goes_on(monkeypatch):
    streams = on_a_made_up_gpu(monkeypatch, fails)
    run, why = clock.as_graph([lambda: 1, lambda: 2], torch.device("cuda"))
    assert why == "RuntimeError: operation not permitted when stream is capturing"
    assert run() == [1, 2] and streams == ["ours"], "the stream of before is current again"
    streams = on_a_made_up_gpu(monkeypatch, captures)
    run, why = clock.as_graph([lambda: 1, lambda: 2], torch.device("cuda"))
    assert why is None and run() == [1, 2] and streams == ["replay"]


def test_an_error_that_takes_the_device_with_it_ends_the_stage(monkeypatch, tmp_path):
    def lost():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(operators, "timed", lambda *_: lost())
    on_a_made_up_gpu(monkeypatch, captures)
    record = Record(tmp_path, "cells", CPU)
    operators.measure_cell(record, {"a": None}, 2, 4, 16, CPU)
    assert len(record.content["rows"]) == 2, "the device answers: both parts"
    on_a_made_up_gpu(monkeypatch, captures, synchronize=lost)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        operators.measure_cell(record, {"a": None}, 2, 4, 16, CPU)
    assert len(record.content["rows"]) == 2


def test_models_for_a_gpu_are_of_the_size_that_is_said():
    cuda, sizes = torch.device("cuda"), (bench_model.SIZE, decode.SIZE)
    with torch.device("meta"):
        nets = [LM(LMConfig(residual="full", **size["cuda"])) for size in sizes]
    layers = sum(weight.numel() for weight in nets[0].layers.parameters())
    assert round(layers / 1e6) == 151
    assert decode.PROMPT["cuda"] < nets[1].config.context
    shares = [warm.dealt(k, warm.SHARES["cuda"], cuda) for k in range(warm.SHARES["cuda"])]
    warmed = Counter(name for share in shares for name, _ in share)
    assert warmed == Counter([*COMPILED, *(name for name, _ in warm.kernels(cuda))])
    assert all(len(share) == 1 for share in shares[:len(COMPILED)]), "a model each"
    for n, T, d in cells.CELLS["cuda"]:
        assert f"n {n}, T {T}, d {d}" in warmed
    for n, _, d in sweep.CELLS["cuda"]:
        for warps, stages in sweep.options(d, cuda):
            assert f"n {n}, d {d}, warps {warps}, stages {stages}" in warmed
    assert {f"{case}, decoding" for case in decode.CASES} < warmed.keys()


def test_what_is_compiled_is_compiled_for_every_shape():
    """By itself torch.compile runs the ninth shape eagerly."""
    compiled = clock.compiled(lambda x: x.sin() + x, CPU)
    counters.clear()
    for n in range(2, 14):
        compiled(torch.ones(n))
    assert counters["stats"]["unique_graphs"] == 12


def test_a_compiled_contender_has_a_backward_that_runs_twice():
    contenders, _ = peers.load(CPU)
    sets = [gate.inputs(2, 4, 16, CPU)]
    gate.read_and_gradients(contenders["torch.compile"], *sets[0])     # as the gate does
    (backward,) = operators.calls_of("backward", contenders["torch.compile"], sets)
    for ours, exact in zip(backward(), backward()):
        assert torch.equal(ours, exact)


def test_launch_options_of_the_sweep_reach_the_launch():
    read = lambda: [launch.tiles(9, 4096, x) for x in (launch.FORWARD, launch.BACKWARD)]
    before = read()
    with sweep.in_a_ring(4), sweep.launched_with((2, 4), (8, 3)):
        inside = [(options["num_warps"], options["STAGES"]) for options in read()]
        assert launch.RING_BYTES == 0, "or the ring would be timed under their name"
    assert inside == [(2, 4), (8, 3)] and read() == before


def test_the_sweep_takes_the_ring_where_it_fits_and_only_inside(monkeypatch):
    monkeypatch.setattr(launch, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    small, large = ([torch.empty(1, d, dtype=torch.bfloat16)] * 9 for d in (4096, 7168))
    with sweep.launched_with((4, 3), (4, 3)):
        assert not launch.in_ring(small, None)
        with sweep.in_a_ring(warps=4):
            assert launch.in_ring(small, None) and not launch.in_ring(large, None)
        assert not launch.in_ring(small, None)


def test_the_ring_is_compared_with_float64_before_it_is_timed(monkeypatch):
    sets = operators.sets_of(2, 4, 16, CPU)
    row = sweep.ring_or_why(2, 4, 16, sets, CPU)
    assert max(row["gate"].values()) < gate.LIMIT and "ms" in row
    assert {"dv correlated", "dw independent"} < row["gate"].keys()
    monkeypatch.setattr(operators, "timed", lambda *_: 1 / 0)
    assert "division" in sweep.ring_or_why(2, 4, 16, sets, CPU)["error"]


def test_a_driver_that_does_not_answer_stops_no_stage(monkeypatch, tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(environment, "PATIENCE_S", 0.1)
    assert environment.nvidia_smi() is None


def test_options_worth_a_try():
    cuda = torch.device("cuda")
    assert {w for w, _ in sweep.options(4096, cuda)} == {2, 4, 8, 16}
    assert {w for w, _ in sweep.options(384, cuda)} == {1, 2}


def test_shares_of_a_tuner_are_all_its_choices_and_nothing_is_timed():
    seen, calls = [], []
    for k in range(4):
        tuner = SimpleNamespace(configs=[*range(10)], cache_results=True)
        compile_peers.take_share(tuner, k, 4)
        seen += tuner.configs
        timed = tuner.do_bench(lambda: calls.append(k), quantiles=(0.5, 0.2, 0.8))
        assert timed == [1.0] * 3, "the same for all"
        assert not tuner.cache_results
    assert sorted(seen) == [*range(10)] and calls == [0, 1, 2, 3]


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


def test_the_gate_names_who_is_left_out(tmp_path):
    record = Record(tmp_path, "cells", CPU)
    wrong = lambda w, sources: peers.stacked(w, sources) + 1
    nan = lambda w, sources: peers.stacked(w, sources) * float("nan")
    contenders = dict(right=peers.stacked, wrong=wrong, nan=nan)
    assert gate.passing(contenders, record, CPU, (3, 4, 16)).keys() == {"right"}
    right, *others = record.content["rows"]
    assert right["contender"] == "right" and max(right["gate"].values()) < gate.LIMIT
    assert [row["contender"] for row in others] == ["wrong", "nan"]
    assert all("ValueError: h is wrong by" in row["left_out"] for row in others)


def fused_attnres(query, residuals, rms_weight, output_rms_weight=None, rms_eps=1e-6,
                  scale=1.0, return_weights=False, checkpoint_level=1):
    return depth_attention(query, residuals, rms_weight, rms_eps)


def attnres(values, query, *, eps=1e-6, scale=1.0):
    return depth_attention(query, values, None, eps)


class LigerAttnResFunction:
    @staticmethod
    def apply(values, w, norm_weight, eps):
        return depth_attention(w, list(values), norm_weight, eps)


FAKES = {                              # module: what its documentation says it has
    "fla.ops.attnres": fused_attnres,
    "attnres": attnres,
    "liger_kernel.ops.attn_res": LigerAttnResFunction,
}


ALL = peers.AT_HAND.keys() | {"torch.compile"} | peers.PUBLISHED.keys()


def test_every_adapter_passes_the_gate_on_a_fake_of_its_peer(monkeypatch):
    monkeypatch.setenv("FLA_ATTNRES_GLUON", "0")            # put back afterwards
    for name, function in FAKES.items():
        parts = name.split(".")
        for k in range(1, len(parts) + 1):
            module = ".".join(parts[:k])
            monkeypatch.setitem(sys.modules, module, ModuleType(module))
        setattr(sys.modules[name], function.__name__, function)
    contenders, missing = peers.load(CPU)
    assert not missing and contenders.keys() == ALL
    for name in contenders.keys() - {"ours"}:
        errors = gate.errors_against_float64(contenders[name], CPU, torch.float32)
        assert max(errors.values()) < 1e-3, name


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    contenders, missing = peers.load(CPU)
    assert contenders.keys() | missing.keys() == ALL
    assert "pip install liger-kernel==0.8.5" in missing["Liger, with stack"]


def test_pins_of_the_peers_are_those_of_the_constraints():
    pins = set(Path("constraints.txt").read_text().splitlines())
    named = {package for _, packages in peers.PUBLISHED.values()
             for package in packages.split() if "==" in package}
    assert named and named <= pins


def test_without_a_gpu_it_says_that_it_measured_nothing(monkeypatch, capsys):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main([])
    for arguments in (["--json", "x.json"], ["--half", "A"], ["sweep"]):
        with pytest.raises(SystemExit, match="nothing to write"):
            main(arguments)
    assert capsys.readouterr().out.count("measured nothing") == 4


@pytest.mark.parametrize("arguments, message", [
    (["--dry", "--json", "x.json"], "This is a dry run"),
    (["--half", "C"], "C"),
    (["sweep", "--half", "A"], "choose one"),
    (["report", "sweep"], "report and other stages"),
])
def test_what_cannot_be_run_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert message in f"{error.value} {capsys.readouterr().err}"


def test_it_runs_where_there_is_torch_and_triton_and_no_more():
    blocked = "matplotlib", "IPython", "jupyterlab", "nbformat", "pytest", "hypothesis"
    modules = [f"attnres_kernels.bench.stages.{name}" for name in STAGES]
    code = (f"import sys, importlib; sys.modules.update(dict.fromkeys({blocked}))\n"
            f"for name in {['attnres_kernels.bench.__main__', *modules]}: "
            "importlib.import_module(name)")
    paths = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    subprocess.run([sys.executable, "-c", code], check=True, env=paths)


def test_a_dry_run_goes_through_every_stage(tmp_path, capsys, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("DRY", "1")
    for half in PLAN:
        main(["--half", half, "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("nothing was measured") == 2 * len(PLAN)
    records = {record["stage"]: record for record in report.read(tmp_path)}
    trained = {f"train_{residual}_seed{seed}"
               for residual in ("prenorm", "block", "full") for seed in (0, 1)}
    assert records.keys() == STAGES.keys() | trained | {"run_A", "run_B"}
    for name, record in records.items():
        assert record["rows"] and record["dry"] and record["device"] == DRY, name
        for row in record["rows"]:
            assert not {"error", "left_out", "missing"} & row.keys(), (name, row)
    for name in ("run_A", "run_B"):
        assert {row["outcome"] for row in records[name]["rows"]} == {"done"}
    assert records["gpu_tests"]["rows"][0]["outcome"] == "passed"
    assert all(row["exit_code"] == 0 for name in ("warm", "train", "compile_peers")
               for row in records[name]["rows"])
    assert {row["logits_differ_by"] for row in records["decode"]["rows"]} == {0.0}
    assert {row["pieces"] for row in records["model"]["rows"] if "pieces" in row} == {0, 1}
    assert {row["kind"] for row in records["model"]["rows"]} == set(KINDS)
    assert SWEPT in {row["contender"] for row in records["cells"]["rows"] if "ms" in row}
    for row in records["phases"]["rows"]:  # PyTorch's norm, and so its gradients, see h
        limit = 0.1 if "gradients" in row["part"] else 0.01        # rounded to bf16
        assert row["differs_by"] < limit, row
    first = [row["losses"][0] for row in records["model"]["rows"] if "losses" in row]
    assert max(first) - min(first) < 1e-4, "all start as the same function"

    record = report.joined([*records.values()])
    table = report.table(record)
    for line in ("forward     2     4    16", "launch options, backward, d 16",
                 "phase 1, kernels", "whole model, compiled, Full, kernels in two phases",
                 "decoding, Full, two phases", "training, block - prenorm: "):
        assert line in table
    (axes,) = figures.roofline(record).axes
    assert len(axes.collections) > 0
    with pytest.raises(SystemExit, match="nothing to write"):
        main(["report", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")])
