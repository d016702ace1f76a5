"""The benchmarks' clock on made-up time, and each benchmark once, very small."""

import itertools
import json
from dataclasses import replace
from functools import partial, partialmethod
from unittest.mock import Mock

import pytest
import torch

from attnres_kernels.bench import __main__ as kernels_command
from attnres_ref.bench import __main__ as command
from attnres_ref.bench import compiled, hybrid, inference, pipeline, timing, training
from attnres_ref.bench.timing import WARM_UP, interleaved, paired_ratio, table
from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.layout import MODES
from attnres_ref.pipeline.paced import Pace

SIZE = dict(d_model=16, n_layers=4, n_heads=2, context=8, block_size=2)


def test_a_round_runs_all_steps_in_turn():
    clock, ran = [0.0], []

    def step(name, seconds):
        def run():
            warming = ran.count(name) < WARM_UP
            ran.append(name)
            clock[0] += 100.0 if warming else seconds

        return run

    steps = [("a", step("prefill", 1.0)), (None, step("forget", 50.0)),
             ("b", step("b", 4.0)), ("a", step("decode", 2.0))]
    seconds = interleaved(steps, 3, lambda: clock[0])
    assert ran == ["prefill", "forget", "b", "decode"] * (WARM_UP + 3)
    assert seconds == {"a": [3.0] * 3, "b": [4.0] * 3}


def test_a_ratio_is_the_median_of_pairs():
    assert paired_ratio([2.0, 9.0, 40.0], [1.0, 3.0, 10.0]) == 3


def test_a_table_has_names_on_the_left_and_titles_over_their_columns():
    rows = {"PreNorm": dict(ms=2.0, of=""), "Full": dict(ms=10.5, of="of PreNorm")}
    columns = [("step", "{name:9s}"), ("ms", "{ms:6.1f}"), ("", "{of}")]
    assert table(rows, columns).splitlines() == [
        "step          ms",
        "PreNorm      2.0",
        "Full        10.5 of PreNorm",
    ]


def test_training_compares_with_prenorm_and_lean_reads_save_less_than_stacked_ones():
    rows = training.measure(rounds=1, batch=1, **SIZE)
    assert list(rows) == list(training.CASES) and rows["PreNorm"]["time_ratio"] == 1
    for row in rows.values():
        ratio = row["time_ms"] / rows["PreNorm"]["time_ms"]
        assert row["time_ratio"] == pytest.approx(ratio)
    saved = {name: row["saved_ratio"] for name, row in rows.items()}
    assert 1 < saved["Full"] < saved["Full, stacked"]
    assert saved["Full, chained"] < 1.1 * saved["Full"]


def test_the_plain_gpt_has_as_many_parameters_and_learns():
    built = training.models()
    count = {name: sum(p.numel() for p in built[name].parameters()) for name in built}
    assert count["plain GPT"] == pytest.approx(count["PreNorm"], rel=0.01)
    tokens = training.random_tokens(built["PreNorm"], 1)
    loss = training.loss(built["plain GPT"], tokens)
    gradients = torch.autograd.grad(loss, list(built["plain GPT"].parameters()))
    assert all(gradient.any() for gradient in gradients)


def test_compiled_models_are_timed_against_prenorm_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", seen := Mock(side_effect=lambda model: model))
    rows = compiled.measure(rounds=1, batch=1, **SIZE)
    assert list(rows) == [n for n in training.CASES if not n.endswith("stacked")]
    assert seen.call_count == len(rows) and rows["PreNorm"]["time_ratio"] == 1
    assert "Full, chained" in compiled.table(rows)


@pytest.fixture
def quickly_compiled(monkeypatch):
    """By a backend that needs no C++ and takes no minute."""
    compiled = partial(torch.nn.Module.compile, backend="eager")
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(compiled))


def test_inference_compares_prefill_and_decoding_with_prenorms(quickly_compiled):
    rows = inference.measure(1, prompt=3, n_new=2, **SIZE)
    assert list(rows) == [
        name + kind for name in inference.CASES for kind in ("", inference.COMPILED)
    ]
    for name, row in rows.items():
        base = rows["PreNorm, compiled" if name.endswith("compiled") else "PreNorm"]
        for part in ("prefill", "decode"):
            key = f"{part}_tokens_per_s"
            ratio = base[key] / row[key]                    # fewer tokens: more time
            assert row[f"{part}_time_ratio"] == pytest.approx(ratio)
    assert all(name in inference.table(rows) for name in rows)
    eager = [rows[name]["operations"] for name in inference.CASES]
    assert eager[0] < eager[2] < eager[1]        # PreNorm, two phases, layer by layer


def test_tokens_are_counted_by_part(monkeypatch, quickly_compiled):
    ticks = itertools.count()                          # a second from look to look
    monkeypatch.setattr(timing, "now", lambda device: next(ticks))
    row = inference.measure(1, prompt=3, n_new=2, **SIZE)["Full two-phase"]
    assert row["prefill_tokens_per_s"] == 3 and row["decode_tokens_per_s"] == 1


def test_operations_are_counted_alike_eager_and_compiled():
    """A product, and what Inductor makes one kernel of: a sum and a sine."""
    def run(x):
        return (x @ x + 1).sin().T

    x = torch.randn(4, 4)
    assert inference.aten_calls(partial(run, x)) == 3
    torch._dynamo.reset()
    assert inference.kernels(partial(torch.compile(run), x)) == 2


def test_hybrid_compares_four_cases_with_two():
    rows = hybrid.measure(rounds=1, batch=1, tokens=16, **SIZE, layers="kda,moe")
    assert list(rows) == [hybrid.LOOP, hybrid.CHUNKS, hybrid.PRENORM, hybrid.BLOCK]
    for name, row in rows.items():
        ratio = row["time_ms"] / rows[hybrid.BASES.get(name, name)]["time_ms"]
        assert row["time_ratio"] == pytest.approx(ratio)
    assert f"x of {hybrid.LOOP}" in hybrid.table(rows)


def test_a_paced_pipeline_takes_no_less_than_the_simulator_says():
    size = dict(n_ranks=2, n_layers=4, block_size=1, n_microbatches=2)
    rows = pipeline.measure(1, **size, forward=0.01, backward=0.02, per_tensor=0.01)
    assert list(rows) == list(MODES)
    for row in rows.values():
        seconds, = row["seconds"]
        assert seconds > 0.99 * row["simulated"] > 0
        assert row["with_delays"] > row["simulated"]
    assert rows["naive"]["simulated"] > rows["all"]["simulated"]
    assert all(mode in pipeline.table(rows) for mode in MODES)


def test_delays_are_found_in_a_step_that_has_them():
    """On links that are often waited for, and on links that seldom are."""
    layout = Layout(4, 2, 16, 4)
    for per_tensor in (0.5, 0.05):
        pace = Pace(forward=1, backward=2, per_tensor=per_tensor)
        step = simulate(layout, 8, 1.01, 2.01, per_tensor, latency=0.02)
        late = [span._replace(start=span.start + 0.004) for span in step.spans]
        found = pipeline.delays(replace(step, spans=late), layout, pace)
        assert found == pytest.approx(dict(per_pass=0.01, per_message=0.024))


def test_the_command_writes_what_a_record_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SIZE", SIZE)
    monkeypatch.setattr(command, "require_clean", lambda: None)
    command.main(["--rounds", "1", "--json", str(tmp_path / "bench.json")])
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["rounds"] == 1 and record["size"] == SIZE
    assert {"device", "torch", "python", "commit"} < set(record)
    assert training.table(record["rows"]) in capsys.readouterr().out


@pytest.mark.parametrize("main", [command.main, kernels_command.main])
@pytest.mark.parametrize("arguments", [
    ["--rounds", "0"], ["--rounds=-1"], ["--rounds", "1.5"], ["--json", "no/folder/x.json"],
    ["--json", "."], ["decoding"],
], ids=" ".join)
def test_nonsense_is_named_before_a_measurement(main, arguments, monkeypatch, capsys):
    monkeypatch.setattr(command, "BENCHMARKS", {"training": None})
    monkeypatch.setattr(kernels_command, "tiny_check", None)
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[-1].removeprefix("--rounds=") in capsys.readouterr().err


def test_a_dirty_tree_is_not_recorded(monkeypatch):
    monkeypatch.setattr("attnres_ref.training.provenance.uncommitted", lambda: ["x.py"])
    with pytest.raises(RuntimeError, match="x.py: not committed"):
        command.main(["--json", "x.json"])
