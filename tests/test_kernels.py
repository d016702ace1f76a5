"""The kernels against float64, through Triton's interpreter where there is no GPU."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import attnres_kernels
import attnres_ref
from attnres_kernels import launch
from attnres_kernels.depth import read_backward_op, read_op
from attnres_kernels.interpret import CLASH, clash
from attnres_kernels.occupancy import H100
from attnres_kernels.phase_operators import phase_one_op, phase_two_op
from attnres_ref import LM, LMConfig
from attnres_ref.inference import two_phase
from attnres_ref.views import with_parts

triton = pytest.importorskip("triton")

DEVICE = "cpu" if attnres_kernels.interpreting() else "cuda"
TOLERANCE = 1e-5                       # relative to the largest element, in float32
SIZES = dict(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 33),
    d=st.sampled_from([1, 48, 64, 100, 257]),
    T=st.sampled_from([0, 1, 7]),
    noise=st.sampled_from([1.0, 0.1]),          # 0.1: sources are nearly equal
    gain=st.booleans(),
    contiguous=st.booleans(),
)


def draw(seed, n, d, T, noise=1.0, gain=True, contiguous=True, dtype=torch.float32):
    """query, norm weight, output norm weight (or None), n sources [T, d]. Scores are of
    order one: where softmax saturates, float32 itself keeps fewer digits."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator).to(dtype).to(DEVICE)
    shared = normal(T, d) if noise < 1 else 0
    sources = [shared + noise * normal(T, d) for _ in range(n)]
    if not contiguous:
        sources = [v.T.contiguous().T for v in sources]
    query = 2 * d**-0.5 * normal(d)
    weight, out_weight = 1 + 0.3 * normal(d), 1 + 0.3 * normal(d)
    return query, weight, out_weight if gain else None, sources


def fused(query, weight, gain, *sources):
    return attnres_kernels.depth_attention(query, sources, weight, out_norm_weight=gain)


def composed(query, weight, gain, *sources):
    h = attnres_ref.depth_attention(query, sources, weight)
    return h if gain is None else F.rms_norm(h, h.shape[-1:], gain, 1e-5)


def results(read, query, weight, gain, sources, dtype):
    """The read and the gradients of query, norm weight, output norm weight, sources."""
    inputs = query, weight, gain, *sources
    inputs = [x if x is None else x.detach().to(dtype) for x in inputs]
    leaves = [x.requires_grad_() for x in inputs if x is not None]
    h = read(*inputs)
    torch.manual_seed(0)
    dh = torch.randn(h.shape).to(h)
    return [h.detach(), *torch.autograd.grad(h, leaves, dh)]


def assert_close(ours, exact, tolerance=TOLERANCE, mixed=()):
    """Within `tolerance` of the largest entry, or of the largest of what was mixed: a mean
    of large numbers that cancel is small, and is rounded as they are."""
    assert ours.shape == exact.shape
    if exact.numel():
        largest = max(x.abs().max().item() for x in (exact, *mixed))
        gap = (ours.double() - exact).abs().max() / max(largest, 1e-30)
        assert gap <= tolerance, f"relative error {gap:.1e}"


@settings(max_examples=12, deadline=None)
@given(**SIZES)
@example(0, 33, 257, 7, 0.1, True, False)
@example(1, 9, 64, 7, 0.1, False, True)
@example(0, 2, 1, 1, 1.0, False, False)
@example(629, 2, 257, 1, 1.0, False, False)
@example(5914, 2, 257, 1, 1.0, False, False)
@example(2, 129, 48, 7, 1.0, True, True)
@example(3, 3, 8192, 3, 0.1, True, True)
def test_forward_and_every_gradient_equal_float64(seed, n, d, T, noise, gain, contiguous):
    gain = gain and d > 1                  # RMSNorm of one number is its sign
    inputs = draw(seed, n, d, T, noise, gain, contiguous)
    ours = results(fused, *inputs, torch.float32)
    exact = results(composed, *inputs, torch.float64)
    largest = max((x.abs().max() for x in exact[1:] if x.numel()), default=0)
    # A saturated softmax takes nearly equal numbers v_i . dh from each other: what is left
    # has float32's rounding of those numbers, which grow with d.
    rounding = 1e-6 * largest * d**0.5
    for a, b in zip(ours, exact, strict=True):
        if b.numel():
            # A key of one number is its sign: what its score learns is what eps leaves of a
            # difference of equal numbers, and no float32 has its digits (2.7e-4 seen).
            scale = largest if d == 1 else b.abs().max()
            assert (a.double() - b).abs().max() <= TOLERANCE * scale + rounding


def test_one_source_is_returned_and_scores_learn_nothing():
    query, weight, _, sources = draw(3, 1, 100, 7)
    outcome = results(fused, query, weight, None, sources, torch.float32)
    h, d_query, d_weight, d_source = outcome
    assert torch.equal(h, sources[0])
    assert not d_query.any() and not d_weight.any()
    torch.manual_seed(0)
    assert torch.equal(d_source, torch.randn(7, 100).to(d_source))


def test_two_backward_passes_give_identical_bits():
    inputs = draw(4, 5, 100, 7 if attnres_kernels.interpreting() else 5000)
    first, second = (results(fused, *inputs, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("eps", [1e-5, 1e-7])
def test_eps_counts_for_tiny_sources(eps):
    query, weight, gain, sources = draw(6, 3, 48, 7)
    inputs = query, weight, gain, [1e-3 * v for v in sources]   # mean square about 1e-6
    fused = lambda q, w, gain, *v: attnres_kernels.depth_attention(
        q, v, w, eps, out_norm_weight=gain, out_eps=3 * eps
    )
    composed = lambda q, w, gain, *v: F.rms_norm(
        attnres_ref.depth_attention(q, v, w, eps), (48,), gain, 3 * eps
    )
    exact = results(composed, *inputs, torch.float64)
    for a, b in zip(results(fused, *inputs, torch.float32), exact, strict=True):
        assert_close(a, b)


def test_gradients_keep_their_digits_when_sources_are_nearly_equal():
    """Sources 1 % apart. Without the shift by v_0 the error is above the bound."""
    inputs = draw(13, 9, 257, 7, noise=0.01, gain=False)
    ours = results(fused, *inputs, torch.float32)
    exact = results(composed, *inputs, torch.float64)
    assert_close(ours[1], exact[1], 5e-5)                  # the query's gradient


@pytest.mark.parametrize("scale", [1e4, 1e-8, 0.0])
def test_extreme_magnitudes_stay_finite(scale):
    query, weight, gain, sources = draw(7, 4, 48, 7)
    inputs = 1e4 * query, weight, gain, [scale * v for v in sources]
    assert all(x.isfinite().all() for x in results(fused, *inputs, torch.float32))


def with_stored_sources(query, weight, gain, sources, dtype):
    """Pairs (ours, exact) of h and every gradient, for sources stored in `dtype`."""
    inputs = [query, weight, gain, *(v.to(dtype) for v in sources)]
    inputs = [x.detach().requires_grad_() for x in inputs]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    h, exact = fused(*inputs), composed(*wide)
    assert h.dtype == dtype
    torch.manual_seed(0)
    dh = torch.randn_like(h)
    ours = h.detach(), *torch.autograd.grad(h, inputs, dh)
    return list(zip(ours, (exact, *torch.autograd.grad(exact, wide, dh.double()))))


# The interpreter rounds to bfloat16 by cutting bits off, so this is no proof for GPUs.
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_half_precision_is_stored_and_computed_in_float32(dtype, tolerance):
    for ours, exact in with_stored_sources(*draw(8, 5, 100, 7), dtype):
        assert_close(ours, exact, tolerance)


def test_leading_dimensions_are_kept_and_sources_may_start_anywhere():
    query, weight, _, sources = draw(9, 3, 48, 8)
    sources = [v.view(2, 4, 48)[:, 1:] for v in sources]   # not contiguous
    flat = torch.cat([v.flatten() for v in sources])
    odd = torch.empty(flat.numel() + 1, device=DEVICE)[1:].copy_(flat)   # 4 bytes off
    shifted = list(odd.view(3, 2, 3, 48))
    assert all(v.data_ptr() % 16 == 0 for v in launch.padded(shifted))
    for given_ in (sources, shifted):
        h = attnres_kernels.depth_attention(query, given_, weight)
        assert h.shape == (2, 3, 48)
        torch.testing.assert_close(h, attnres_ref.depth_attention(query, sources, weight))


def strided(x):
    """The same numbers, each with a stranger behind it."""
    return torch.stack([x, -x], -1)[..., 0]


def test_what_is_strided_reads_as_if_it_were_not():
    query, _, gain, (newest, *sources) = draw(9, 4, 48, 8)
    inputs = strided(query), None, strided(gain), sources
    exact = results(composed, *inputs, torch.float64)
    for a, b in zip(results(fused, *inputs, torch.float32), exact, strict=True):
        assert_close(a, b)

    def two_phases(view):
        *_, first = attnres_kernels.phase_one(view(torch.stack([gain, query])), sources)
        return attnres_kernels.phase_two(
            two_phase.Read(*map(view, first)), view(query), [view(sources[0])],
            output=view(newest), out_norm_weight=view(gain),
        )

    assert all(map(torch.equal, two_phases(strided), two_phases(torch.clone)))


def test_no_more_programs_than_tokens_and_than_the_gpu_holds(monkeypatch):
    """The compiled kernel is asked once. test_kernels_ahead.py asks a real one."""
    class Kernel:
        n_regs, metadata, arg_names = 128, SimpleNamespace(shared=0), []
        asked, grids = 0, []

        def warmup(self, *arguments, grid, **options):
            self.asked += 1
            return self

        def _init_handles(self):
            pass

        def __getitem__(self, grid):
            self.grids.append(grid)
            return lambda *arguments: None

    kernel = Kernel()
    monkeypatch.setattr(launch, "LOADED", {})
    monkeypatch.setattr(launch, "interpreting", lambda: False)
    monkeypatch.setattr(launch, "card_at", lambda device: H100)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for T, n_tiles in ((3, 1), (10**6, 1), (3, 2), (10**6, 5)):
        launch.walk(kernel, T, [torch.zeros(1)], [], [], dict(num_warps=4), n_tiles)
    assert [grid[0] for grid in kernel.grids] == [3, 132 * 4, 6, 132 * 4 // 5 * 5]
    assert kernel.asked == 1


def test_phase_two_reads_the_partial_sum_as_it_is_stored():
    """Rounded: later layers see no other. The query would feel the lost last bit."""
    one = torch.ones(1, 16, dtype=torch.float16, device=DEVICE)
    query, newest = torch.zeros(16, device=DEVICE), torch.zeros_like(one)
    query[:2], newest[0, 0] = torch.tensor([1e4, -1e4]), 2**-12
    first = two_phase.Read(0 * one, torch.zeros(1, 1, device=DEVICE))
    h, grown = attnres_kernels.phase_two(first, query, [one], output=newest)
    assert torch.equal(grown, one) and torch.equal(h, one / 2)


def test_the_compiled_branches_of_helpers_agree(monkeypatch):
    """`pick` and the sums take a shortcut in the interpreter; here they do not."""
    if not attnres_kernels.interpreting():
        pytest.skip("compiled kernels have no shortcut")
    inputs = draw(10, 3, 4, 2, gain=False)
    outcomes = lambda: [
        *results(fused, *inputs, torch.float32),
        *attnres_kernels.phase_one(inputs[0][None], inputs[-1])[0],
    ]
    expected = outcomes()
    monkeypatch.setattr("attnres_kernels.parts.INTERPRETING", False)
    for a, b in zip(outcomes(), expected, strict=True):
        torch.testing.assert_close(a, b)


# --- two phases -------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), S=st.integers(1, 9),
       d=SIZES["d"], T=SIZES["T"], n_fresh=st.integers(1, 3))
@example(1084, 1, 1, 1, 1, 3)          # sources that cancel to a thousandth
def test_both_phases_equal_the_reference(seed, n, S, d, T, n_fresh):
    _, _, _, sources = draw(seed, n + n_fresh, d, T)
    queries = 2 * d**-0.5 * draw(seed + 1, 1, d, S)[3][0]
    wide = [v.double() for v in sources]
    ours = attnres_kernels.phase_one(queries, sources[:n])
    exact = two_phase.phase_one(queries.double(), wide[:n])
    assert len(ours) == S
    for a, b in zip(ours, exact, strict=True):
        assert_close(a.mean, b.mean, mixed=sources)
        torch.testing.assert_close(a.lse.double(), b.lse, rtol=1e-5, atol=1e-5)
    h = attnres_kernels.phase_two(ours[-1], queries[-1:], sources[n:])
    expected = two_phase.phase_two(exact[-1], queries[-1:].double(), wide[n:])
    assert_close(h, expected, mixed=sources)


def test_phase_two_updates_the_partial_sum_and_norms_what_it_read():
    query, _, gain, (partial, newest, *completed) = draw(11, 6, 48, 7)
    queries = torch.stack([query.flip(0), query])
    first = attnres_kernels.phase_one(queries, completed)[1]
    h, grown = attnres_kernels.phase_two(
        first, query, [partial], output=newest, out_norm_weight=gain
    )
    assert torch.equal(grown, partial + newest)
    wide = [v.double() for v in (*completed, grown)]
    assert_close(h, composed(query.double(), None, gain.double(), *wide))


@pytest.mark.parametrize("residual", ["block", "full"])
def test_swapped_into_two_phase_inference(residual):
    model, tokens = tiny(residual), torch.randint(16, (1, 4), device=DEVICE)
    fused = with_parts(model, stream=attnres_kernels.TwoPhase(model.stream))
    with torch.no_grad():
        scheduled = fused(tokens)
    torch.testing.assert_close(scheduled, model(tokens), rtol=1e-4, atol=1e-4)
    model.stream.attend = attnres_kernels.depth_attention      # the same read
    assert two_phase.can_schedule(model.stream)


# --- torch.library and the model ---------------------------------------------------------


def operators():
    query, _, gain, sources = draw(12, 3, 16, 2)
    lse = torch.zeros(2, 1, device=DEVICE)
    leaves = [x.clone().requires_grad_() for x in (*sources, query, gain)]
    no_tokens = [v[:0].requires_grad_() for v in sources]
    return [
        (read_op, (leaves[:3], *leaves[3:], 1e-5, 1e-5)),
        (read_op, (no_tokens, leaves[3], None, 1e-5, 1e-5)),
        (read_backward_op, (sources[0], sources, query, gain, 1e-5, 1e-5)),
        (read_backward_op, (sources[0], sources, query, None, 1e-5, 1e-5)),
        (phase_one_op, (sources, torch.stack([query, gain]), 1e-5)),
        (phase_two_op,
         (sources[0], lse, sources[1:2], sources[2], query, gain, 1e-5, 1e-5)),
    ]


@pytest.mark.parametrize("op, arguments", operators(), ids=[
    "read", "no tokens, no norm", "backward", "backward, no norm", "one", "two",
])
def test_operators_pass_opcheck(op, arguments):
    outcome = torch.library.opcheck(op, arguments)
    assert set(outcome.values()) == {"SUCCESS"}


def tiny(residual, attend=attnres_ref.depth_attention, n_layers=4, block_size=2):
    torch.manual_seed(0)
    shape = dict(vocab_size=16, d_model=12, n_layers=n_layers, n_heads=2, context=8)
    config = LMConfig(residual=residual, block_size=block_size, **shape)
    model = LM(config, attend).to(DEVICE)
    with torch.no_grad():
        model.stream.queries.normal_(std=0.3)              # away from the plain mean
    return model


def loss_and_gradients(model, dtype=None, parameters=None):
    """Of next-token prediction on fixed tokens, autocast to `dtype` if given; gradients of
    the model's parameters, or of those of another that shares them."""
    torch.manual_seed(1)
    tokens = torch.randint(16, (1, 6), device=DEVICE)
    with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
        logits = model(tokens[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
    parameters = list(parameters or model.parameters())
    return [loss.detach(), *torch.autograd.grad(loss, parameters)]


@pytest.mark.parametrize("residual", ["block", "full"])
def test_a_model_learns_what_it_does_with_the_reference(residual):
    ours = loss_and_gradients(tiny(residual, attnres_kernels.depth_attention))
    for a, b in zip(ours, loss_and_gradients(tiny(residual)), strict=True):
        assert_close(a, b)


def test_a_model_learns_under_autocast():
    fused_model, model = tiny("block", attnres_kernels.depth_attention), tiny("block")
    ours, theirs = (loss_and_gradients(x, torch.bfloat16) for x in (fused_model, model))
    assert_close(ours[0], theirs[0], 1e-2)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, 5e-2)


def assert_compiles_into_one_graph(model):
    torch._dynamo.reset()                  # earlier models of the class count against it
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for a, b in zip(loss_and_gradients(compiled), loss_and_gradients(model), strict=True):
        torch.testing.assert_close(a, b)
    tokens = torch.randint(16, (1, 5), device=DEVICE)
    for without_gradients in (torch.no_grad, torch.inference_mode):
        with without_gradients():
            torch.testing.assert_close(compiled(tokens), model(tokens))


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        self.names.add(str(operator))
        return operator(*arguments, **(options or {}))


def test_who_watches_operators_sees_ours_and_nobody_else_pays_for_them(monkeypatch):
    query, weight, _, sources = draw(2, 3, 16, 2, gain=False)
    query.requires_grad_()
    read = lambda: attnres_kernels.depth_attention(query, sources, weight).sum().backward()
    with Seen() as seen:
        read()
    assert {"attnres.read.default", "attnres.read_backward.default"} <= seen.names
    watched, query.grad = query.grad, None
    for name in ("read_op", "read_backward_op"):
        monkeypatch.setattr(f"attnres_kernels.depth.{name}", None)
    read()
    assert torch.equal(query.grad, watched)


def test_a_model_compiles_into_one_graph():
    assert_compiles_into_one_graph(tiny("block", attnres_kernels.depth_attention))


# --- on a GPU -------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(
    DEVICE == "cpu", reason="needs a CUDA device: the interpreter proves nothing here"
)


@needs_gpu
@pytest.mark.parametrize("n, d", [(1, 7168), (9, 4096), (33, 1024), (5, 48)])
def test_bfloat16_on_a_gpu(n, d):
    # More tokens than programs: each walks.
    h, _, _, *others = with_stored_sources(*draw(14, n, d, 5000, noise=0.1), torch.bfloat16)
    for ours, exact in (h, *others):       # not the gradients of query and norm weight
        assert_close(ours, exact, 8e-3)


@needs_gpu
@pytest.mark.parametrize("n, d", [(9, 4096), (5, 4096), (2, 1024), (3, 72)])
def test_the_ring_on_a_gpu(n, d, monkeypatch):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the ring needs copies that an Ampere makes by itself")
    query, weight, _, sources = draw(17, n, d, 5000, noise=0.1, gain=False)
    halves = query, weight, [v.to(torch.bfloat16) for v in sources]
    monkeypatch.setattr(launch, "RING_NARROWEST", 1)
    assert launch.in_ring(halves[-1], None)
    ring, again = gradients_of_halves(*halves), gradients_of_halves(*halves)
    monkeypatch.setattr(launch, "RING_BYTES", 0)
    plain = gradients_of_halves(*halves)
    assert all(map(torch.equal, ring, again))
    for a, b in zip(ring, plain, strict=True):             # the same sums in another order
        assert_close(a, b.double(), 8e-3)


def gradients_of_halves(query, weight, sources):
    leaves = [x.detach().requires_grad_() for x in (query, weight, *sources)]
    h = attnres_kernels.depth_attention(leaves[0], leaves[2:], leaves[1])
    torch.manual_seed(0)
    return torch.autograd.grad(h, leaves, torch.randn_like(h))


@needs_gpu
def test_offsets_beyond_int32_on_a_gpu():
    T = 2**31 // 8192 + 1                                  # 4.3 GB a source in bfloat16
    v = torch.zeros(T, 8192, dtype=torch.bfloat16, device=DEVICE)
    v[-1] = 3.0
    h = attnres_kernels.depth_attention(torch.zeros(8192, device=DEVICE), [v, v])
    assert torch.equal(h[-1], v[-1]) and not h[:-1].any()


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_sources_may_lie_on_another_gpu_than_the_current_one():
    inputs = draw(15, 5, 64, 300)
    elsewhere = [x.to("cuda:1") for x in inputs[:3]], [v.to("cuda:1") for v in inputs[3]]
    ours = results(fused, *elsewhere[0], elsewhere[1], torch.float32)
    for a, b in zip(ours, results(fused, *inputs, torch.float32), strict=True):
        assert a.device.index == 1 and torch.equal(a.to(b.device), b)


@needs_gpu
def test_a_cuda_graph_reads_and_differentiates_anew():
    query, weight, gain, sources = draw(16, 9, 1024, 300)
    leaves = [x.requires_grad_() for x in (query, weight, gain, *sources)]
    dh = torch.randn_like(sources[0])

    def step():
        h = fused(*leaves)
        return [h.detach(), *torch.autograd.grad(h, leaves, dh)]

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()                                             # compiles
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        recorded = step()
    with torch.no_grad():
        for source in sources:
            source.mul_(-2)
    graph.replay()
    assert all(map(torch.equal, recorded, step()))


# --- what is refused ----------------------------------------------------------------


def vector(*shape):
    return torch.zeros(*shape, device=DEVICE)


def read(**changed):
    good = dict(query=vector(4), sources=[vector(2, 4)])
    return attnres_kernels.depth_attention(**good | changed)


def phase_two(mean=(2, 4), lse=(2, 1), **changed):
    first = two_phase.Read(vector(*mean), vector(*lse))
    good = dict(query=vector(1, 4), sources=[vector(2, 4)])
    return attnres_kernels.phase_two(first, **good | changed)


meta = torch.zeros(2, 4, device="meta")
REFUSED = {                            # test_depth.py has the rest of check_sources
    "sources is empty": lambda: read(sources=[]),
    "sources[0] has dtype torch.float64": lambda: read(sources=[vector(2, 4).double()]),
    "sources[0] has shape [2, 8193]": lambda: read(
        query=vector(8193), sources=[vector(2, 8193)]
    ),
    "sources[0] has shape [2, 0]": lambda: read(query=vector(0), sources=[vector(2, 0)]),
    "out_eps is -5.0": lambda: read(out_norm_weight=vector(4), out_eps=-5.0),
    "the sources are on meta": lambda: read(query=meta[0], sources=[meta]),
    "query has shape [5]": lambda: read(query=vector(5)),
    "norm_weight has shape [1, 4]": lambda: read(norm_weight=vector(1, 4)),
    "out_norm_weight has shape [3]": lambda: read(out_norm_weight=vector(3)),
    "return_weights is True": lambda: read(return_weights=True),
    "queries has shape [4]": lambda: attnres_kernels.phase_one(vector(4), [vector(2, 4)]),
    "query has shape [2, 4]": lambda: phase_two(query=vector(2, 4)),
    "output is given beside 2 sources": lambda: phase_two(
        sources=[vector(2, 4)] * 2, output=vector(2, 4)
    ),
    "output has shape [4]": lambda: phase_two(output=vector(4)),
    "lse has shape [2]": lambda: phase_two(lse=(2,)),
    "mean has shape [4]": lambda: phase_two(mean=(4,)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        REFUSED[message]()


@pytest.mark.parametrize("triton, numpy, fails", [
    ("3.6.0", "2.4.0", True), ("3.6.0", "2.10.1", True), ("3.6.0", "2.3.5", False),
    ("3.7.1", "2.4.6", False), ("3.10.0", "2.4.6", False),
])
def test_a_pair_whose_interpreter_fails_is_known(triton, numpy, fails, monkeypatch):
    assert clash(triton, numpy) == fails
    if fails and attnres_kernels.interpreting():
        monkeypatch.setattr("attnres_kernels.interpret.CLASHES", True)
        with pytest.raises(ImportError, match=re.escape(CLASH)):
            read()


def in_a_python_of_its_own(program):
    """One that sees no GPU."""
    environment = os.environ | dict(
        PYTHONPATH=os.pathsep.join(sys.path), CUDA_VISIBLE_DEVICES=""
    )
    environment.pop("TRITON_INTERPRET", None)              # set by this process's import
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


CALL = """
import torch, attnres_kernels
attnres_kernels.depth_attention(torch.zeros(4), [torch.zeros(2, 4)])
"""


@pytest.mark.parametrize("before, error", [
    ("import sys; sys.modules['triton'] = None", "ImportError: Triton is not installed"),
    ("import os; os.environ['TRITON_INTERPRET'] = '0'", "ValueError: the sources are on"),
], ids=["without triton", "without interpreter"])
def test_kernels_import_everywhere_and_a_call_says_what_is_missing(before, error):
    run = in_a_python_of_its_own(before + CALL)
    assert run.returncode == 1 and error in run.stderr.splitlines()[-1], run.stderr


def test_a_triton_that_is_there_already_interprets_too():
    """torch.compile brings one as the pipeline does."""
    program = "import sys, attnres_ref.pipeline\nassert 'triton' in sys.modules\n"
    run = in_a_python_of_its_own(program + CALL)
    if clash(triton.__version__, numpy.__version__):       # it interprets, and cannot
        assert CLASH in run.stderr
    else:
        assert run.returncode == 0, run.stderr


REFERENCE_FIRST = """
import sys
import torch, attnres_ref, attnres_ref.training, attnres_ref.notebook
assert not {"attnres_kernels", "triton"} & set(sys.modules)
import attnres_kernels                 # in time to choose the interpreter
assert attnres_kernels.interpreting() == (not torch.cuda.is_available())
"""


def test_the_reference_imports_no_kernels_and_may_come_first():
    run = in_a_python_of_its_own(REFERENCE_FIRST)
    assert run.returncode == 0, run.stderr
