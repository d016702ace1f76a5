"""Every kernel compiled ahead of time for three GPUs, by the compiler inside Triton: it
needs no GPU, and finds what the interpreter does not (types, registers, launches)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

import cells
from attnres_kernels import ahead, occupancy
from attnres_kernels.occupancy import A100, H100, T4, resident
from attnres_kernels.sass import INSTRUCTION, Program

LARGEST_PROGRAM = {"sm_75": 64 << 10, "sm_80": 163 << 10, "sm_90": 227 << 10}   # shared


def compiling(program: str, folder: Path) -> dict:
    """The JSON that `program` writes to sys.argv[1], in a Python of its own that compiles:
    this one interprets."""
    record = folder / "record.json"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    changed = dict(TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(folder), PYTHONPATH=path)
    run = subprocess.run(
        [sys.executable, "-c", program, str(record)], env=os.environ | changed,
        capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(record.read_text())


# --- registers, shared memory, instructions -------------------------------------------

DECISIVE = """
import sys
from attnres_kernels import ahead

decisive = ahead.read_cells([(n, d) for d in (1024, 4096) for n in (9, 33)])
wide, phases = list(ahead.read_cells([(9, 4096)])), list(ahead.phase_cells())
odd = [*ahead.read_cells([(1, 64)]), *ahead.read_cells([(3, 100)], gain=True)]
cells = {75: wide + phases, 80: wide + odd, 90: [*decisive, *odd, *phases]}
ahead.plan = lambda: [(target, cell) for target in cells for cell in cells[target]]
ahead.require_clean = lambda: None
ahead.main(["--json", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return compiling(DECISIVE, tmp_path_factory.mktemp("ahead"))["rows"]


def test_nothing_spills_and_every_program_fits(rows):
    assert len(rows) == 10 + 6 + 30
    for row in rows:
        # Phase 1's backward spills a few numbers, because an H200 ran it faster so than
        # with twice the warps, where nothing spills.
        few = 128 if row["kernel"].startswith("phase 1 backward") else 0
        assert row["spilled_bytes"] <= few and row["registers"] <= 255, row
        assert row["shared_bytes"] <= LARGEST_PROGRAM[row["target"]], row
        assert row["at_once"] * row["warps"] >= 4, row     # a warp for each scheduler


def test_loads_are_under_way_while_others_are_used(rows):
    """On GPUs that copy to shared memory by themselves, that is where they lie."""
    pipelined = [row for row in rows if row["target"] != "sm_75" and row["n"] > 3]
    assert len(pipelined) == 2 + 15
    for row in pipelined:
        assert row["shared_bytes"] >= (row["stages"] - 1) * row["d"] * 2, row


def test_issue_slots_allow_the_speed_of_a_copy(rows):
    reads = [row for row in rows if row["target"] == "sm_90" and row["d"] >= 1024]
    shares = [row["issue"] for row in reads if row["kernel"] in ("forward", "backward")]
    assert len(shares) == 8 and all(0.2 < share <= 0.5 for share in shares), shares


def test_the_record_is_of_these_kernels():
    """By their launch options: python -m attnres_kernels.ahead --json makes it anew."""
    path = cells.ROOT / "notebooks" / "recorded" / "ahead.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    options = ("kernel", "target", "n", "d", "warps", "stages")
    planned = [
        (cell.name, f"sm_{target}", cell.n, cell.d, cell.options["num_warps"],
         cell.options.get("STAGES"))
        for target, cell in ahead.plan()
    ]
    assert [tuple(row[x] for x in options) for row in recorded["rows"]] == planned
    assert {"triton", "commit"} <= set(recorded) and not recorded["dirty"]


def test_the_command_compiles_in_a_python_that_does_not_interpret(monkeypatch):
    started = []
    monkeypatch.setattr(ahead, "interpreting", lambda: True)
    monkeypatch.setattr(ahead.subprocess, "run", lambda *a, **b: started.append((*a, b)))
    ahead.main([])
    (command, options), = started
    assert command[1:] == ["-m", "attnres_kernels.ahead"]
    assert options["env"]["TRITON_INTERPRET"] == "0" and options["check"]


SHOWN = """
import ast, json, linecache, sys
import cells
from attnres_kernels.interpret import triton

SIZES = dict(D=100, BLOCK_D=128, BLOCK_N=4, BLOCK_S=2)

def why_not(kernel, v_ptr):
    '''The compiler's error, empty if there is none.'''
    kinds = {name: "*fp32" for name in kernel.arg_names if name.endswith("_ptr")}
    kinds |= dict(v_ptr=v_ptr, eps="fp32") | dict.fromkeys(SIZES, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    constants = {name: SIZES[name] for name in kernel.arg_names if name in SIZES}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    try:
        triton.compile(source, target=triton.backends.compiler.GPUTarget("cuda", 90, 32))
    except Exception as error:
        return str(error)
    return ""

notebook = cells.read(cells.ROOT / "notebooks" / "09_triton_kernels.ipynb")
code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
exercises = cells.exercises(notebook)
names, found = {"__name__": "__main__"}, []
exec(exercises[0].imports, names)
for number, source in enumerate([*code, *(x.solution for x in exercises)]):
    file = f"<cell {number}>"
    linecache.cache[file] = len(source), None, source.splitlines(True), file
    for node in ast.parse(source).body:
        decorators = map(ast.unparse, getattr(node, "decorator_list", []))
        if kind := {"triton.jit", "device_function"} & {*decorators}:
            exec(compile(ast.Module([node], []), file, "exec"), names)
            kernel = names[node.name]
            if kind == {"triton.jit"}:
                widened = ".to(tl.float32)" in kernel.src
                for v_ptr in ["*fp32", "*bf16"][: 1 + widened]:
                    found.append([node.name, v_ptr, why_not(kernel, v_ptr)])
open(sys.argv[1], "w").write(json.dumps(found))
"""


def test_the_notebooks_kernels_compile(tmp_path):
    """Those that notebook 09 shows, its stub and its solutions."""
    found = compiling(SHOWN, tmp_path)
    assert [row for row in found if row[-1]] == []
    assert [row[:2] for row in found] == [
        ["one_pass", "*fp32"], ["one_pass", "*bf16"], ["two_loops", "*fp32"],
        ["several_queries", "*fp32"], ["last_source", "*fp32"],
        ["one_read", "*fp32"], ["one_read", "*fp32"], ["one_read", "*bf16"],
    ]


LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   FADD R2, R2, R2 ;
        /*0020*/                   FMUL R3, R2, R2 ;
        /*0030*/              @!P0 BRA 0x20 ;
        /*0040*/              @P1  BRA 0x60 ;
        /*0050*/                   FFMA R4, R2, R2, R3 ;
        /*0060*/                   BRA.U !UP0, 0x10 ;
        /*0070*/                   EXIT ;
        /*0080*/                   BRA 0x80 ;
"""


def test_instructions_are_counted_by_loop():
    lines = INSTRUCTION.findall(LISTING)
    program = Program({int(at, 16): text for at, text in lines})
    inner, = program.innermost()
    assert (inner.start, inner.end) == (0x20, 0x30) and program.length(inner) == 2
    assert program.per_token(1) == 6 and program.per_token(5) == 6 + 4 * 2
    straight = Program({at: text for at, text in program.code.items() if at < 0x30})
    assert straight.innermost() == [] and straight.per_token(5) == 3


@pytest.mark.parametrize("card, warps, registers, shared, expected", [
    (H100, 8, 32, 0, 8),               # 64 warps
    (H100, 4, 128, 0, 4),              # 65536 registers
    (H100, 8, 255, 0, 1),
    (H100, 1, 168, 0, 12),             # 65536 / 5376 = 12.19
    (H100, 1, 170, 0, 8),              # 65536 / 5632 = 11.6, in fours
    (H100, 1, 16, 0, 32),              # 32 programs
    (H100, 4, 32, 100 << 10, 2),       # 228 KB
    (A100, 4, 32, 82 << 10, 1),        # 164 KB, of which CUDA keeps 1 for each program
    (A100, 4, 32, 81 << 10, 2),
    (T4, 4, 32, 32 << 10, 2),          # 64 KB, of which it keeps none
    (T4, 4, 32, 0, 8),                 # 32 warps
    (T4, 16, 255, 64 << 10, 1),        # at least one
])
def test_programs_that_fit_on_an_sm(card, warps, registers, shared, expected):
    assert resident(card, warps, registers, shared) == expected


def test_the_card_at_hand_is_described_as_the_known_one(monkeypatch):
    facts = SimpleNamespace(
        name="H100", major=9, minor=0, multi_processor_count=132,
        shared_memory_per_multiprocessor=228 << 10, max_threads_per_multi_processor=2048,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    assert occupancy.card_at(0) == H100


# --- launches ---------------------------------------------------------------------------

LAUNCHES = """
import json, sys
import torch
import fake_gpu
from attnres_kernels import depth_attention, launch, phase_one, phase_two

fake_gpu.install()
facts = {}
for n in (1, 2, 3, 4, 5, 9, 16, 17, 33):
    for T in (0, 1, 16, 300):
        depth_attention(torch.zeros(64), [torch.zeros(T, 64) for _ in range(n)])
facts["by depth and batch"] = [len(fake_gpu.launches), len(fake_gpu.compiled)]

def off(*shape, dtype=torch.bfloat16):          # contiguous, and not aligned to 16 bytes
    size = torch.Size(shape).numel()
    return torch.zeros(size + 1, dtype=dtype)[1:].view(shape).requires_grad_()

def launched():
    aligned = lambda tensors: all(x.data_ptr() % 16 == 0 for x in tensors)
    found = [dict(name=name, grid=grid, aligned=aligned(tensors),
                  on=on is not None and on.shape[-1], rows=[list(x.shape) for x in tensors])
             for name, grid, tensors, on in fake_gpu.launches]
    fake_gpu.launches.clear()
    return found

launched()
sources = [off(6000, 512) for _ in range(5)]
query, gain = off(512, dtype=torch.float32), off(512, dtype=torch.float32)
h = depth_attention(query, sources, out_norm_weight=gain)
h.backward(off(6000, 512).detach())
facts["read"] = launched()
facts["at once"] = [at_once for _, at_once in launch.LOADED.values()][-2:]
with torch.no_grad():
    first, = phase_one(query[None], sources[:3])
    phase_two(first, query, sources[3:4], output=sources[4], out_norm_weight=gain)
facts["phases"] = launched()
first, = phase_one(query[None], sources[:3])
h = phase_two(first, query, sources[3:])
h.backward(off(6000, 512).detach())
facts["phases"] += launched()
many = phase_one(off(6, 512, dtype=torch.float32), sources)
torch.autograd.backward([read.mean for read in many], [off(6000, 512) for _ in many])
facts["six queries"] = launched()
halves = type(first)(first.mean.detach(), first.lse.detach().half())
phase_two(halves, query, sources[3:]).backward(off(6000, 512).detach())
facts["a half lse"] = launched()

def backward(n, d):
    sources = [off(300, d) for _ in range(n)]
    depth_attention(torch.zeros(d), sources).backward(off(300, d).detach())
    _, launched_last = launched()
    return launched_last | dict(needs=fake_gpu.compiled[-1])

facts["ring"] = [backward(9, 4096), backward(2, 1024), backward(5, 1032)]
facts["no ring"] = [
    backward(n, d) for n, d in ((9, 7168), (10, 1024), (9, 1028), (9, 384))
]
launch.RING_BYTES = 0
facts["no ring"].append(backward(9, 4096))

launch.LOADED.clear()
for dtype in (torch.float32, torch.bfloat16):
    sources = [torch.zeros(3, 512, dtype=dtype) for _ in range(2)]
    for gain in (None, torch.ones(512), torch.ones(512, dtype=torch.bfloat16)):
        depth_attention(torch.zeros(512), sources, out_norm_weight=gain)
facts["compiled for"] = len(launch.LOADED)
open(sys.argv[1], "w").write(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return compiling(LAUNCHES, tmp_path_factory.mktemp("launches"))


def test_one_compilation_serves_all_batches_and_depths_up_to_a_power_of_two(facts):
    assert facts["by depth and batch"] == [9 * 3, 7]       # none for T = 0


def test_programs_are_as_many_as_the_gpu_holds(facts):
    """And each has a row of its own in dw, dgain and what it writes for itself."""
    forward, backward = facts["read"]
    assert (forward["name"], backward["name"]) == ("forward_kernel", "backward_kernel")
    programs = [launched["grid"][0] for launched in (forward, backward)]
    assert programs == facts["at once"] and all(p % 132 == 0 for p in programs)
    assert forward["rows"][-1] == [programs[0], 8]
    assert backward["rows"][-4:] == [[programs[1], x] for x in (512, 512, 16, 24)]


def test_every_kind_of_arguments_has_its_own_number_of_programs(facts):
    """By dtype, and by whether there is an output norm: each is another compilation."""
    assert facts["compiled for"] == 2 * 3


def test_kernels_start_on_the_sources_gpu_and_are_given_aligned_tensors(facts):
    launches = facts["read"] + facts["phases"]
    assert len(launches) == 4 + 4
    for launched in launches + facts["six queries"]:
        assert launched["aligned"] and launched["on"] in (1, 512), launched


def test_the_lse_may_have_another_dtype(facts):
    names = [launched["name"] for launched in facts["a half lse"]]
    assert names == ["phase_two_kernel", "phase_two_backward_kernel"]


def test_six_queries_take_two_launches_of_phase_1s_backward(facts):
    """Each program's rows: dw of its queries, addresses, and numbers of its own."""
    forward, *backward = facts["six queries"]
    assert [x["name"] for x in backward] == 2 * ["phase_one_backward_kernel"]
    for launched, S in zip(backward, (4, 2), strict=True):
        programs = launched["grid"][0]
        assert programs % 132 == 0
        rows = [512 * S, 2 * 8 + S, 8 * (2 * S + 1)]
        assert launched["rows"][-3:] == [[programs, x] for x in rows]


def test_the_ring_is_launched_where_sources_fit_and_only_if_allowed(facts):
    plain, ring = "backward_kernel", "backward_ring_kernel"
    assert [launched["name"] for launched in facts["no ring"]] == [plain] * 5
    for launched in facts["ring"]:
        name, registers, spilled = launched["needs"]
        assert launched["name"] == name == ring and launched["aligned"]
        assert registers <= 255 and spilled == 0, launched
    (programs, *_), (rows, d) = facts["ring"][0]["grid"], facts["ring"][0]["rows"][-1]
    assert programs == rows == 2 * 132 and d == 4096       # two programs an SM
