"""The kernels against float64, through Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

import attnres_kernels
import attnres_ref
from attnres_kernels.depth import read_op
from attnres_kernels.phases import phase_one_op, phase_two_op
from attnres_ref import LM, LMConfig
from attnres_ref.inference import two_phase

pytest.importorskip("triton")

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


def assert_close(ours, exact, tolerance=TOLERANCE, scale=None):
    """Within `tolerance` of the largest entry, or of `scale` where one is given."""
    assert ours.shape == exact.shape
    if exact.numel():
        scale = exact.abs().max() if scale is None else scale
        gap = (ours.double() - exact).abs().max() / max(scale, 1e-30)
        assert gap <= tolerance, f"relative error {gap:.1e}"


@settings(max_examples=12, deadline=None)
@given(**SIZES)
@example(0, 33, 257, 7, 0.1, True, False)
@example(1, 9, 64, 7, 0.1, False, True)
@example(2, 2, 1, 7, 1.0, True, True)
@example(0, 2, 1, 1, 1.0, False, False)
def test_forward_and_every_gradient_equal_float64(seed, n, d, T, noise, gain, contiguous):
    gain = gain and d > 1                  # RMSNorm of one number is its sign
    inputs = draw(seed, n, d, T, noise, gain, contiguous)
    ours = results(fused, *inputs, torch.float32)
    exact = results(composed, *inputs, torch.float64)
    largest = max((x.abs().max() for x in exact[1:] if x.numel()), default=0)
    for a, b in zip(ours, exact, strict=True):
        if b.numel() and b.abs().max() < 1e-9 * largest:      # zero but for its rounding
            assert a.abs().max() <= 1e-6 * largest
        else:
            # A key of one number is its sign: what its score learns is what eps leaves of a
            # difference of equal numbers, and no float32 has its digits (2.7e-4 seen).
            assert_close(a, b, scale=largest if d == 1 else None)


def test_one_source_is_returned_and_scores_learn_nothing():
    query, weight, _, sources = draw(3, 1, 100, 7)
    found = results(fused, query, weight, None, sources, torch.float32)
    h, d_query, d_weight, d_source = found
    assert torch.equal(h, sources[0])
    assert not d_query.any() and not d_weight.any()
    torch.manual_seed(0)
    assert torch.equal(d_source, torch.randn(7, 100).to(d_source))


def test_two_backward_passes_give_identical_bits():
    inputs = draw(4, 5, 100, 7)
    first, second = (results(fused, *inputs, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_zero_query_reads_the_mean():
    _, weight, _, sources = draw(5, 6, 48, 7)
    h = attnres_kernels.depth_attention(torch.zeros(48, device=DEVICE), sources, weight)
    torch.testing.assert_close(h, torch.stack(sources).mean(0))


@pytest.mark.parametrize("eps", [1e-5, 1e-7])
def test_eps_counts_for_tiny_sources(eps):
    query, weight, _, sources = draw(6, 3, 48, 7)
    sources = [1e-3 * v for v in sources]                  # mean square about 1e-6
    found = []
    for read, dtype in ((attnres_kernels, torch.float32), (attnres_ref, torch.float64)):
        call = lambda q, w, _, *v: read.depth_attention(q, v, w, eps)
        found.append(results(call, query, weight, None, sources, dtype))
    for ours, exact in zip(*found, strict=True):
        assert_close(ours, exact)


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


# The interpreter rounds to bfloat16 by cutting bits off, so this is no proof for GPUs.
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_half_precision_is_stored_and_computed_in_float32(dtype, tolerance):
    query, weight, gain, sources = draw(8, 5, 100, 7)
    sources = [v.to(dtype) for v in sources]
    inputs = [x.clone().requires_grad_() for x in (query, weight, gain, *sources)]
    h = fused(*inputs)
    gradients = torch.autograd.grad(h.float().square().sum(), inputs)
    assert h.dtype == dtype
    assert [g.dtype for g in gradients] == [x.dtype for x in inputs]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact = composed(*wide)
    exact_gradients = torch.autograd.grad(exact.square().sum(), wide)
    for a, b in zip((h, *gradients), (exact, *exact_gradients)):
        assert_close(a, b, tolerance)


def test_leading_dimensions_are_kept_and_sources_may_start_anywhere():
    query, weight, _, sources = draw(9, 3, 48, 8)
    sources = [v.view(2, 4, 48)[:, 1:] for v in sources]   # not contiguous
    flat = torch.cat([v.flatten() for v in sources])
    odd = torch.empty(flat.numel() + 1, device=DEVICE)[1:].copy_(flat)   # 4 bytes off
    shifted = list(odd.view(3, 2, 3, 48))
    for given_ in (sources, shifted):
        h = attnres_kernels.depth_attention(query, given_, weight)
        assert h.shape == (2, 3, 48)
        torch.testing.assert_close(h, attnres_ref.depth_attention(query, sources, weight))


def test_the_compiled_branches_of_helpers_agree(monkeypatch):
    """`pick` and the sums take a shortcut in the interpreter; here they do not."""
    if not attnres_kernels.interpreting():
        pytest.skip("compiled kernels have no shortcut")
    inputs = draw(10, 3, 4, 2, gain=False)
    expected = results(fused, *inputs, torch.float32)
    monkeypatch.setattr("attnres_kernels.kernels.INTERPRETING", False)
    for a, b in zip(results(fused, *inputs, torch.float32), expected, strict=True):
        torch.testing.assert_close(a, b)


# --- two phases -------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), S=st.integers(1, 9),
       d=SIZES["d"], T=SIZES["T"], n_fresh=st.integers(1, 3))
def test_both_phases_equal_the_reference(seed, n, S, d, T, n_fresh):
    _, _, _, sources = draw(seed, n + n_fresh, d, T)
    queries = 2 * d**-0.5 * draw(seed + 1, 1, d, S)[3][0]
    wide = [v.double() for v in sources]
    ours = attnres_kernels.phase_one(queries, sources[:n])
    exact = two_phase.phase_one(queries.double(), wide[:n])
    assert len(ours) == S
    for a, b in zip(ours, exact, strict=True):
        assert_close(a.mean, b.mean)
        torch.testing.assert_close(a.lse.double(), b.lse, rtol=1e-5, atol=1e-5)
    h = attnres_kernels.phase_two(ours[-1], queries[-1:], sources[n:])
    assert_close(h, two_phase.phase_two(exact[-1], queries[-1:].double(), wide[n:]))


def fused_phases(queries, partial, newest, gain, *sources):
    first = attnres_kernels.phase_one(queries, sources)[1]
    return attnres_kernels.phase_two(
        first, queries[1:2], [partial], output=newest, out_norm_weight=gain
    )


def plain_phases(queries, partial, newest, gain, *sources):
    first = two_phase.phase_one(queries, sources)[1]
    partial = partial + newest
    h = two_phase.phase_two(first, queries[1:2], [partial])
    return F.rms_norm(h, h.shape[-1:], gain, 1e-5), partial


def test_fused_partial_update_and_norm_with_their_gradients():
    query, _, gain, sources = draw(11, 6, 48, 7)
    partial, newest, *completed = sources
    inputs = [torch.stack([query, query.flip(0)]), partial, newest, gain, *completed]
    found = []
    for read, dtype in ((fused_phases, torch.float32), (plain_phases, torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        h, partial = read(*leaves)
        loss = (h.sin() * partial).sum()
        found.append([h.detach(), partial.detach(), *torch.autograd.grad(loss, leaves)])
    for a, b in zip(*found, strict=True):
        assert_close(a, b)


def test_swapped_into_two_phase_inference():
    class Kernels(two_phase.TwoPhase):
        phase_one = staticmethod(attnres_kernels.phase_one)
        phase_two = staticmethod(attnres_kernels.phase_two)

    for residual in ("block", "full"):
        model, tokens = tiny(residual), torch.randint(16, (1, 4), device=DEVICE)
        with torch.no_grad(), two_phase.swapped_stream(model, Kernels(model.stream)):
            scheduled = model(tokens)
        torch.testing.assert_close(scheduled, model(tokens), rtol=1e-4, atol=1e-4)


# --- torch.library and the model ---------------------------------------------------------


def operators():
    query, _, gain, sources = draw(12, 3, 16, 2)
    lse = torch.zeros(2, 1, device=DEVICE)
    inputs = {
        read_op: (sources, query, gain, 1e-5, 1e-5),
        phase_one_op: (sources, torch.stack([query, gain]), 1e-5),
        phase_two_op: (
            sources[0], lse, sources[1:2], sources[2], query, gain, 1e-5, 1e-5
        ),
    }
    return inputs.items()


@pytest.mark.parametrize(
    "op, arguments", operators(), ids=lambda x: getattr(x, "_name", "")
)
def test_operators_pass_opcheck(op, arguments):
    def leaf(x):
        if isinstance(x, list):
            return [leaf(y) for y in x]
        return x.clone().requires_grad_() if isinstance(x, torch.Tensor) else x

    outcome = torch.library.opcheck(op, tuple(map(leaf, arguments)))
    assert set(outcome.values()) == {"SUCCESS"}


def tiny(residual, attend=attnres_ref.depth_attention):
    torch.manual_seed(0)
    shape = dict(vocab_size=16, d_model=12, n_layers=4, n_heads=2, context=8, block_size=2)
    model = LM(LMConfig(residual=residual, **shape), attend).to(DEVICE)
    with torch.no_grad():
        model.stream.queries.normal_(std=0.3)              # away from the plain mean
    return model


def losses(model, steps, dtype=None):
    """Training losses of a few steps on fixed tokens."""
    torch.manual_seed(1)
    tokens = torch.randint(16, (1, 6), device=DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    found = []
    for _ in range(steps):
        with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("residual", ["block", "full"])
def test_a_model_trains_as_with_the_reference(residual):
    ours = losses(tiny(residual, attnres_kernels.depth_attention), 3)
    theirs = losses(tiny(residual), 3)
    assert theirs[-1] < theirs[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_a_model_trains_under_autocast():
    ours = losses(tiny("block", attnres_kernels.depth_attention), 2, torch.bfloat16)
    theirs = losses(tiny("block"), 2, torch.bfloat16)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=0)


def test_a_model_compiles_into_one_graph():
    model = tiny("block", attnres_kernels.depth_attention)
    tokens = torch.randint(16, (1, 4), device=DEVICE)
    found = []
    for forward in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        forward(tokens).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


# --- on a GPU -------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(
    DEVICE == "cpu", reason="needs a CUDA device: the interpreter proves nothing here"
)


@needs_gpu
@pytest.mark.parametrize("n, d", [(1, 7168), (9, 4096), (33, 1024), (5, 48)])
def test_bfloat16_on_a_gpu(n, d):
    query, weight, gain, sources = draw(14, n, d, 300, noise=0.1)
    sources = [v.bfloat16().requires_grad_() for v in sources]
    wide = [x.detach().double().requires_grad_() for x in (query, weight, gain, *sources)]
    narrow = [x.detach().requires_grad_() for x in (query, weight, gain)] + sources
    h, exact = fused(*narrow), composed(*wide)
    dh = torch.randn_like(h)
    assert_close(h, exact, 8e-3)
    ours = torch.autograd.grad(h, narrow, dh)
    theirs = torch.autograd.grad(exact, wide, dh.double(), allow_unused=True)
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        assert_close(a, b, 8e-3)


@needs_gpu
def test_offsets_beyond_int32_on_a_gpu():
    T = 2**31 // 8192 + 1                                  # 4.3 GB a source in bfloat16
    v = torch.zeros(T, 8192, dtype=torch.bfloat16, device=DEVICE)
    v[-1] = 3.0
    h = attnres_kernels.depth_attention(torch.zeros(8192, device=DEVICE), [v, v])
    assert torch.equal(h[-1], v[-1]) and not h[:-1].any()


# --- what is refused ----------------------------------------------------------------


def vector(*shape, **options):
    return torch.zeros(*shape, **{"device": DEVICE} | options)


BAD_READS = {
    "sources is empty": dict(sources=[]),
    r"sources\[0\] has dtype torch.float64": dict(sources=[vector(2, 4).double()]),
    r"sources\[0\] has shape \[2, 8193\]": dict(
        query=vector(8193), sources=[vector(2, 8193)]
    ),
    r"sources\[1\] has shape": dict(sources=[vector(2, 4), vector(3, 4)]),
    r"sources\[1\] has dtype": dict(sources=[vector(2, 4), vector(2, 4).half()]),
    r"sources\[1\] has device": dict(sources=[vector(2, 4), vector(2, 4, device="meta")]),
    "the sources are on meta": dict(
        query=vector(4, device="meta"), sources=[vector(2, 4, device="meta")]
    ),
    r"query has shape \[5\]": dict(query=vector(5)),
    "query is on meta": dict(query=vector(4, device="meta")),
    r"norm_weight has shape \[1, 4\]": dict(norm_weight=vector(1, 4)),
    r"out_norm_weight has shape \[3\]": dict(out_norm_weight=vector(3)),
    "return_weights is True": dict(return_weights=True),
}


@pytest.mark.parametrize("message", BAD_READS)
def test_a_bad_read_is_named(message):
    good = dict(query=vector(4), sources=[vector(2, 4)])
    with pytest.raises(ValueError, match=message):
        attnres_kernels.depth_attention(**good | BAD_READS[message])


BAD_PHASES = {
    r"query has shape \[2, 4\]": dict(query=vector(2, 4)),
    "output is given beside 2 sources": dict(
        sources=[vector(2, 4)] * 2, output=vector(2, 4)
    ),
    r"output has shape \[4\]": dict(output=vector(4)),
    r"lse has shape \[2\]": dict(first=attnres_kernels.Read(vector(2, 4), vector(2))),
    r"mean has shape \[4\]": dict(first=attnres_kernels.Read(vector(4), vector(2, 1))),
}


@pytest.mark.parametrize("message", BAD_PHASES)
def test_a_bad_phase_two_is_named(message):
    first = attnres_kernels.Read(vector(2, 4), vector(2, 1))
    good = dict(first=first, query=vector(1, 4), sources=[vector(2, 4)])
    with pytest.raises(ValueError, match=message):
        attnres_kernels.phase_two(**good | BAD_PHASES[message])


def test_bad_queries_are_named():
    with pytest.raises(ValueError, match=r"queries has shape \[4\]: .* need \[S, 4\]"):
        attnres_kernels.phase_one(vector(4), [vector(2, 4)])


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch, attnres_kernels
from attnres_kernels import kernels
assert not attnres_kernels.available()
try:
    attnres_kernels.depth_attention(torch.zeros(4), [torch.zeros(2, 4)])
except ImportError as error:
    assert "pip install triton" in str(error)
else:
    raise SystemExit("no error")
"""

WITHOUT_INTERPRETER = """
import os
os.environ["TRITON_INTERPRET"] = "0"
import torch, attnres_kernels
try:
    attnres_kernels.depth_attention(torch.zeros(4), [torch.zeros(2, 4)])
except ValueError as error:
    assert "TRITON_INTERPRET=1" in str(error)
else:
    raise SystemExit("no error")
"""

UNUSED_BY_THE_REFERENCE = """
import sys
import attnres_ref, attnres_ref.training, attnres_ref.notebook
assert not {"attnres_kernels", "triton"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    "program", [WITHOUT_TRITON, WITHOUT_INTERPRETER, UNUSED_BY_THE_REFERENCE],
    ids=["without triton", "without interpreter", "reference"],
)
def test_in_a_python_of_its_own(program):
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | paths, capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stderr
