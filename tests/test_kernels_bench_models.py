"""The benchmark's stages of whole models, with made-up times."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from attnres_kernels.bench import clock
from attnres_kernels.bench import model as bench_model
from attnres_kernels.bench.model import BASE, CASES, COMPILED
from attnres_kernels.bench.record import Record
from attnres_kernels.bench.stages import decode
from attnres_kernels.bench.stages import model as model_stage
from attnres_ref import LM, LMConfig

CPU = torch.device("cpu")


def made_up_steps(monkeypatch, fails=()):
    """Steps that say who runs; `fails` holds (case, compiled) of those that cannot."""
    ran, pairs = [], []

    def training_step(case, device, compiled):
        if (case, compiled) in fails:
            raise RuntimeError("out of memory")
        return lambda: ran.append((compiled, case)) or torch.tensor(1.0)

    def interleaved(steps, rounds, clock):
        for _, run in steps:
            run()
        pairs.append(ran[-2:])
        return {name: [3.0 + (name == BASE)] * rounds for name, _ in steps}

    monkeypatch.setattr(model_stage, "training_step", training_step)
    monkeypatch.setattr(model_stage, "interleaved", interleaved)
    return pairs


KINDS = ("eager", "graph", "compiled", "compiled, graph")


def test_ratios_of_whole_models_are_to_prenorms_of_the_same_kind(monkeypatch, tmp_path):
    pairs = made_up_steps(monkeypatch, fails=[("Full, fused", False)])
    record = Record(tmp_path, "model", CPU)
    model_stage.measure(record, CPU)
    rows = [row for row in record.content["rows"] if "ms" in row]
    failed, *busy = [row for row in record.content["rows"] if "ms" not in row]
    assert record.content["rows"][-len(busy):] == busy, "no profiler before a time is taken"
    assert [(row["case"], row["kind"]) for row in busy] == [
        (row["case"], row["kind"]) for row in rows if "graph" not in row["kind"]]
    assert failed["error"] == "RuntimeError: out of memory"
    assert (failed["case"], failed["kind"]) == ("Full, fused", "eager")
    assert [(row["case"], row["kind"]) for row in rows] == [
        (case, kind) for case, launched in model_stage.ORDER
        for kind in (launched, model_stage.GRAPHS[launched])
        if (case in COMPILED or kind == "eager")
        and (case, kind) not in {("Full, fused", "eager"), ("Full, fused", "graph")}]
    assert pairs == [[("compiled" in row["kind"], case) for case in (BASE, row["case"])]
                     for row in rows]
    for row in rows:
        assert row["ratio_to_prenorm"] == 0.75 and row["losses"] == [1.0]
        assert ("graph" in row) == ("graph" in row["kind"])


def test_without_a_prenorm_of_its_kind_no_model_is_built(monkeypatch, tmp_path):
    pairs = made_up_steps(monkeypatch, fails=[(BASE, True)])
    record = Record(tmp_path, "model", CPU)
    model_stage.measure(record, CPU)
    compiled = [row for row in record.content["rows"] if row["kind"] == "compiled"]
    assert compiled[0]["error"] == "RuntimeError: out of memory"
    assert [row["case"] for row in compiled] == [*COMPILED] and all(
        row["error"].endswith("no PreNorm of this kind to compare with")
        for row in compiled[1:])
    assert not any(is_compiled for pair in pairs for is_compiled, _ in pair)


def test_when_time_runs_out_the_rest_is_named_and_the_busy_times_still_come(
    monkeypatch, tmp_path
):
    pairs = made_up_steps(monkeypatch)
    monkeypatch.setattr(model_stage, "BUDGET_S", dict(cpu=7))
    clock_s = lambda: float(len(pairs))        # each row takes a second
    monkeypatch.setattr(model_stage, "time", SimpleNamespace(perf_counter=clock_s))
    monkeypatch.setattr(clock, "gpu_ms", lambda *_: 1 / 0)
    record = Record(tmp_path, "model", CPU)
    model_stage.measure(record, CPU)
    rows = record.content["rows"]
    assert sum("ms" in row for row in rows) == 8, "of four cases, each as a graph, too"
    left = [(row["case"], row["kind"]) for row in rows if "left_out" in row]
    assert left == [*model_stage.ORDER[4:]]
    assert len(set(model_stage.ORDER)) == len(CASES) + len(COMPILED)
    assert [row["error"] for row in rows[-4:]] == [
        "gpu_ms: ZeroDivisionError: division by zero"] * 4


def test_the_gpu_is_busy_with_kernels_and_not_with_their_names(monkeypatch):
    cuda, cpu = torch.autograd.DeviceType.CUDA, torch.autograd.DeviceType.CPU
    events = [SimpleNamespace(device_type=device, is_user_annotation=named,
                              self_device_time_total=us)
              for device, named, us in ((cuda, False, 3000.0), (cuda, False, 1000.0),
                                        (cuda, True, 4000.0), (cpu, False, 4000.0))]
    calls = []

    @contextmanager
    def profile(activities):
        yield SimpleNamespace(key_averages=lambda: events)

    monkeypatch.setattr(clock, "profile", profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("synchronize"))
    assert clock.gpu_ms(lambda: calls.append("step"), torch.device("cuda")) == 2.0
    assert calls == ["step", "step", "synchronize"], "all has run when the profile ends"


def test_the_host_is_timed_until_the_calls_return(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def takes(seconds):
        now[0] += seconds

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: takes(5.0))
    assert clock.host_ms(lambda: takes(0.25), torch.device("cuda")) == 250.0
    assert clock.host_ms(lambda: None, CPU) is clock.gpu_ms(lambda: None, CPU) is None


def test_a_step_that_is_captured_keeps_no_weights_in_half_precision():
    with bench_model.half(CPU):
        assert not torch.is_autocast_cache_enabled()


def test_decoding_is_compared_with_prenorm_in_turns(monkeypatch):
    order = []
    monkeypatch.setattr(decode, "ROUNDS", dict(cpu=3))
    monkeypatch.setattr(decode, "TOKENS", dict(cpu=2))
    seconds = lambda device: 3.0 * order.count("case") + 4.0 * order.count(BASE)
    monkeypatch.setattr(decode, "now", seconds)
    run, base = (lambda: order.append("case")), (lambda: order.append(BASE))
    assert decode.ratio(run, base, CPU) == 0.75
    assert order == [BASE, BASE, "case", "case"] * (2 + 3)     # of which two warm up
    assert decode.ratio(run, None, CPU) is None


def test_prenorms_stream_has_the_precision_of_its_layers_or_is_named():
    """Under autocast its own would be float32, and Block's is not."""
    dtypes = {}
    for case in (BASE, "PreNorm, float32 stream", "Block, kernels"):
        residual, attend, seen_as = CASES[case]
        stream = seen_as(LM(LMConfig(residual=residual, d_model=8, n_heads=2))).stream
        with torch.autocast("cpu", torch.bfloat16):
            state = stream.begin(torch.ones(1, 1, 8))
        dtypes[case] = getattr(state, "completed", [state])[0].dtype
    assert dtypes == {BASE: torch.bfloat16, "PreNorm, float32 stream": torch.float32,
                      "Block, kernels": torch.bfloat16}
