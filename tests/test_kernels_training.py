"""Training by two phases: the gradients of both phases against float64, a whole model's,
and what the residual stream moves."""

import json
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

pytest.importorskip("triton")

import attnres_kernels
import cells
from attnres_kernels import TwoPhase, fused, traffic
from attnres_kernels.phase_one_operators import (
    phase_one_backward_op,
    phase_one_op,
    query_tiles,
)
from attnres_kernels.phase_two_operators import phase_two_backward_op, phase_two_op
from attnres_ref.inference import two_phase
from attnres_ref.inference.cache import with_cache
from attnres_ref.streams import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.views import with_parts
from test_kernels import (
    DEVICE,
    SIZES,
    TOLERANCE,
    assert_close,
    assert_compiles_into_one_graph,
    draw,
    loss_and_gradients,
    needs_gpu,
    tiny,
)

FUSED = attnres_kernels.phase_one, attnres_kernels.phase_two
REFERENCE = two_phase.phase_one, two_phase.phase_two


def drawn(seed, n, S, d, T, n_fresh, noise=1.0):
    """S queries, n completed sources and n_fresh later ones."""
    sources = draw(seed, n + n_fresh, d, T, noise)[3]
    queries = 2 * d**-0.5 * draw(seed + 1, 1, d, S)[3][0]
    return queries, sources[:n], sources[n:]


def results(phases, queries, completed, fresh, dtype):
    """What a group of layers reads, and the gradients of queries and sources. Of four reads
    one goes through phase 2, one is used as it is, its lse too, one not at all."""
    phase_one, phase_two = phases
    inputs = [x.to(dtype).requires_grad_() for x in (queries, *completed, *fresh)]
    queries, sources = inputs[0], tuple(inputs[1:])
    n = len(completed)
    used = []
    for j, read in enumerate(phase_one(queries, sources[:n])):
        if j % 4 < 2:
            used.append(phase_two(read, queries[j : j + 1], sources[n:]))
        elif j % 4 == 2:
            used.append(read.mean + read.lse)
    used = torch.stack(used)
    torch.manual_seed(0)
    d_used = torch.randn(used.shape).to(used)
    return [used.detach(), *torch.autograd.grad(used, inputs, d_used)]


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 17), S=st.integers(1, 9), d=SIZES["d"],
    T=SIZES["T"], n_fresh=st.integers(1, 4), noise=SIZES["noise"],
)
@example(0, 17, 9, 257, 7, 4, 0.1)         # three launches of phase 1's backward
@example(1, 33, 3, 48, 3, 1, 1.0)
@example(2, 2, 2, 4100, 1, 1, 0.1)         # as wide as one query a launch
@example(3, 3, 3, 1, 7, 2, 1.0)
@example(4, 3, 4, 48, 0, 2, 1.0)
def test_gradients_of_both_phases_equal_float64(seed, n, S, d, T, n_fresh, noise):
    inputs = drawn(seed, n, S, d, T, n_fresh, noise)
    ours = results(FUSED, *inputs, torch.float32)
    exact = results(REFERENCE, *inputs, torch.float64)
    largest = max((x.abs().max() for x in exact[1:] if x.numel()), default=0)
    rounding = 1e-6 * largest * d**0.5     # as in test_kernels.py, and why d = 1 is its own
    for a, b in zip(ours, exact, strict=True):
        assert a.shape == b.shape
        if b.numel():
            scale = largest if d == 1 else b.abs().max()
            assert (a.double() - b).abs().max() <= TOLERANCE * scale + rounding


@pytest.mark.parametrize("S, n, n_fresh", [(1, 9, 1), (4, 9, 1), (1, 1, 9)])
def test_gradients_keep_their_digits_when_sources_are_nearly_equal(S, n, n_fresh):
    """Sources 1 % apart. Without the shift by v_0 (by the mean, in phase 2) the error of
    the queries' gradient is above the bound."""
    inputs = drawn(13, n, S, 257, 7, n_fresh, noise=0.01)
    ours = results(FUSED, *inputs, torch.float32)
    assert_close(ours[1], results(REFERENCE, *inputs, torch.float64)[1], 5e-5)


def in_half_precision(dtype, n, S, d, T, n_fresh):
    """Pairs (ours, exact) of a sum of reads and its gradients; sources in `dtype`."""
    queries, completed, fresh = drawn(8, n, S, d, T, n_fresh)
    inputs = [queries, *(v.to(dtype) for v in (*completed, *fresh))]
    outcomes = []
    for (phase_one, phase_two), wide in ((FUSED, False), (REFERENCE, True)):
        leaves = [(x.double() if wide else x).detach().requires_grad_() for x in inputs]
        sources = tuple(leaves[1:])
        reads = zip(phase_one(leaves[0], sources[:n]), leaves[0])
        h = sum(phase_two(read, query[None], sources[n:]) for read, query in reads)
        torch.manual_seed(0)
        d_h = torch.randn(h.shape).to(dtype).to(h)
        outcomes.append([h.detach(), *torch.autograd.grad(h, leaves, d_h)])
    ours, exact = outcomes
    assert [x.dtype for x in ours] == [dtype, torch.float32, *(n + n_fresh) * [dtype]]
    return list(zip(ours, exact))


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float16, 3e-3), (torch.bfloat16, 2e-2)]
)
def test_half_precision_is_computed_in_float32(dtype, tolerance):
    for ours, exact in in_half_precision(dtype, 5, 6, 100, 7, 2):
        assert_close(ours, exact, tolerance)


@needs_gpu
@pytest.mark.parametrize("n, S, d", [(1, 1, 7168), (9, 4, 4096), (33, 4, 1024), (5, 6, 48)])
def test_bfloat16_on_a_gpu(n, S, d):
    for ours, exact in in_half_precision(torch.bfloat16, n, S, d, 300, 2):
        assert_close(ours, exact, 2e-2)


def test_phase_two_joins_a_mean_of_another_dtype():
    """As the reference's phase 1 makes it. Its gradient comes in its own dtype."""
    query, _, _, (mean, v) = draw(9, 2, 48, 3)
    mean, lse = mean.requires_grad_(), torch.zeros(3, 1, device=DEVICE, requires_grad=True)
    h = attnres_kernels.phase_two(two_phase.Read(mean, lse), query, [v.bfloat16()])
    d_mean, d_lse = torch.autograd.grad(h.float().sum(), (mean, lse))
    exact = two_phase.phase_two(two_phase.Read(mean, lse), query[None], (v,)).sum()
    for a, b in zip((d_mean, d_lse), torch.autograd.grad(exact, (mean, lse)), strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, 2e-2)


def all_that_phase_two_fuses(dtype, phase_two, added, normed, sum_used):
    """The read, and the gradients of everything that goes into it."""
    query, _, gain, (mean, partial, newest) = draw(12, 3, 48, 7)
    lse = torch.linspace(-1, 1, 7, device=DEVICE)[:, None]
    mean, lse, query, gain, partial, newest = leaves = [
        x.to(dtype).detach().requires_grad_()
        for x in (mean, lse, query, gain, partial, newest)
    ]
    h, grown = phase_two(two_phase.Read(mean, lse), query, partial,
                         newest if added else None, gain if normed else None)
    torch.manual_seed(0)
    weights = torch.randn(2, 7, 48, dtype=torch.float64).to(h)
    loss = (weights[0] * h).sum()
    if sum_used:
        loss = loss + (weights[1] * grown).sum()
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return [h.detach(), *gradients]


def in_one_kernel(first, query, partial, newest, gain):
    made = attnres_kernels.phase_two(
        first, query, [partial], output=newest, out_norm_weight=gain
    )
    return (made, None) if newest is None else made


def one_by_one(first, query, partial, newest, gain):
    grown = partial if newest is None else partial + newest
    h = two_phase.phase_two(first, query[None], (grown,))
    return h if gain is None else F.rms_norm(h, h.shape[-1:], gain, 1e-5), grown


@pytest.mark.parametrize("added, normed, sum_used", [
    (True, True, True), (True, True, False), (True, False, True), (False, True, False),
])
def test_what_phase_two_fuses_has_its_gradients(added, normed, sum_used):
    """sum_used: whether a later layer reads the new partial sum."""
    kind = added, normed, sum_used
    ours = all_that_phase_two_fuses(torch.float32, in_one_kernel, *kind)
    exact = all_that_phase_two_fuses(torch.float64, one_by_one, *kind)
    for a, b in zip(ours, exact, strict=True):
        assert_close(a, b)


def test_queries_are_shared_out_among_launches():
    assert query_tiles(9, 1024) == [slice(0, 4), slice(4, 8), slice(8, 9)]
    assert query_tiles(4, 2048) == [slice(0, 4)]
    assert query_tiles(3, 4096) == [slice(0, 2), slice(2, 3)]
    assert query_tiles(2, 8192) == [slice(0, 1), slice(1, 2)]


# --- operators, models --------------------------------------------------------------------


def operators():
    queries, sources, fresh = drawn(12, 3, 2, 16, 2, 2)
    lse = torch.zeros(2, 1, device=DEVICE)
    leaf = lambda x: x.clone().requires_grad_()
    no_tokens = [leaf(v[:0]) for v in sources]
    two = leaf(sources[0]), leaf(lse), [*map(leaf, fresh)], None, leaf(queries[0]), None
    return {
        "one": (phase_one_op, ([*map(leaf, sources)], leaf(queries), 1e-5)),
        "one, no tokens": (phase_one_op, (no_tokens, leaf(queries), 1e-5)),
        "two": (phase_two_op, (*two, 1e-5, 1e-5)),
        "one backward": (
            phase_one_backward_op,
            (fresh, torch.stack([lse, lse]), sources, queries, 1e-5),
        ),
        "two, all that is fused": (
            phase_two_op, (*two[:2], two[2][:1], leaf(fresh[1]), two[4], leaf(queries[1]),
                           1e-5, 1e-5),
        ),
        "two backward": (
            phase_two_backward_op,
            (fresh[0], None, sources[0], lse, fresh, queries[0], None, 1e-5, 1e-5),
        ),
        "two backward, all that is fused": (
            phase_two_backward_op,
            (fresh[0], fresh[1], sources[0], lse, fresh[:1], *queries, 1e-5, 1e-5),
        ),
    }


@pytest.mark.parametrize("name", operators())
def test_operators_pass_opcheck_with_their_gradients(name):
    outcome = torch.library.opcheck(*operators()[name])
    assert set(outcome.values()) == {"SUCCESS"}


def scheduled(model, group_size=None):
    return with_parts(model, stream=TwoPhase(model.stream, group_size))


@pytest.mark.parametrize("residual, group_size", [
    ("block", None), ("block", 3), ("full", None), ("full", 1), ("full", 4),
])
def test_a_model_learns_the_same_in_two_phases(residual, group_size):
    model = tiny(residual)
    ours = loss_and_gradients(scheduled(model, group_size))
    for a, b in zip(ours, loss_and_gradients(model), strict=True):
        assert_close(a, b)
    again = loss_and_gradients(scheduled(model, group_size))
    assert all(map(torch.equal, ours, again))


def test_a_model_learns_under_autocast():
    """Both round in bfloat16, so they differ from each other; from float32's gradient ours
    is not much farther away than the reference's."""
    model = tiny("block")
    exact_loss, *exact = loss_and_gradients(model)
    gaps = []
    for seen in (scheduled(model), model):
        loss, *gradients = loss_and_gradients(seen, torch.bfloat16)
        assert_close(loss, exact_loss, 1e-2)
        off = [a - b for a, b in zip(gradients, exact, strict=True)]
        gaps.append(torch.cat([x.flatten() for x in off]).norm())
    assert gaps[0] <= 1.5 * gaps[1]


def test_a_model_compiles_into_one_graph():
    assert_compiles_into_one_graph(scheduled(tiny("block")))


@pytest.mark.parametrize("residual, L, S, group_size", [
    ("block", 8, 4, None), ("block", 7, 3, None), ("block", 8, 4, 2), ("block", 8, 2, 4),
    ("full", 8, 1, None), ("full", 6, 1, 4),
])
def test_norms_in_the_reads_change_neither_losses_nor_gradients(residual, L, S, group_size):
    model = tiny(residual, n_layers=L, block_size=S)
    view = fused(model, group_size)
    assert len([*view.parameters()]) == len([*model.parameters()])
    found = loss_and_gradients(view, parameters=model.parameters())
    for ours, exact in zip(found, loss_and_gradients(model), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5)
    tokens = torch.randint(16, (2, 4), device=DEVICE)
    with torch.no_grad():                  # token by token, from a cache
        twin = with_cache(view, view.stream)
        logits = torch.cat([twin(piece) for piece in tokens.split([2, 1, 1], 1)], 1)
        torch.testing.assert_close(logits, model(tokens), rtol=1e-4, atol=1e-4)


def test_a_model_with_norms_in_its_reads_compiles_into_one_graph():
    assert_compiles_into_one_graph(fused(tiny("block")))


def test_layers_and_norms_that_fused_does_not_know_are_named():
    model = tiny("block")
    model.layers[0].norm = torch.nn.LayerNorm(12)
    with pytest.raises(ValueError, match="norm 0 of 5 is a LayerNorm: the kernel computes"):
        fused(model)
    model.layers[1] = torch.nn.Linear(16, 16)
    with pytest.raises(ValueError, match=r"model.layers\[1\] is a Linear: fused knows"):
        fused(model)


def test_norms_in_the_reads_under_autocast():
    model = tiny("block")
    ours = loss_and_gradients(fused(model), torch.bfloat16, model.parameters())
    for a, b in zip(ours, loss_and_gradients(model, torch.bfloat16), strict=True):
        assert_close(a, b, 1e-1)           # the interpreter truncates to bfloat16


class Checkpointed(TwoPhase):
    """Every read, phase 2 with it, is computed anew in backward."""

    def read(self, state, layer):
        return checkpoint(super().read, state, layer, use_reentrant=False)


def test_reads_may_be_checkpointed():
    model = tiny("full")
    ours = loss_and_gradients(with_parts(model, stream=Checkpointed(model.stream)))
    assert all(map(torch.equal, ours, loss_and_gradients(scheduled(model))))


# --- what is moved ----------------------------------------------------------------------


def counted(stream, L):
    row = traffic.count("", stream, L)
    return row.forward, row.backward, row.additions, row.total


def test_small_cases_move_what_was_counted_by_hand():
    d, read = traffic.D, attnres_kernels.depth_attention
    # Two sums and the gradients that meet in them, 3 u each.
    assert counted(PreNorm(2, d), 2) == (6, 0, 6, 12)
    # Reads of 1, 2 and 3 sources: n + 1 and 2n + 1. The sources have 3, 2 and 1 readers.
    assert counted(FullAttnRes(2, d, read), 2) == (2 + 3 + 4, 3 + 5 + 7, (2 + 1) * 3, 33)
    # Phase 1 of two queries over b_0; phase 2 with the partial sum, which then becomes b_1;
    # phase 1 of the final read over both. b_0 and the partial sum have two readers.
    assert counted(TwoPhase(BlockAttnRes(2, d, 2)), 2) == (
        3 + 3 + 3 + 3, 4 + 5 + 5, 2 * 3, 32
    )


def test_a_deep_model_moves_half_as_much_in_two_phases():
    """L = 24: a read of n sources n + 1 u, its gradient 2n + 1 u, and 300 additions."""
    n = range(1, 26)
    layer_wise = sum(i + 1 for i in n), sum(2 * i + 1 for i in n), 3 * sum(i - 1 for i in n)
    full = FullAttnRes(24, traffic.D, attnres_kernels.depth_attention)
    assert counted(full, 24) == (*layer_wise, sum(layer_wise)) and sum(layer_wise) == 1925
    # Groups of four: phase 1 over 1, 5, ... 25 sources, in all 91, for 25 queries; phase 2
    # of six groups over 1, 2 and 3 sources. 91 + 36 readers of 25 sources.
    forward, backward = (91 + 25) + 6 * (3 + 4 + 5), (2 * 91 + 25) + 6 * (5 + 7 + 9)
    added = 3 * (91 + 36 - 25)
    stream = TwoPhase(FullAttnRes(24, traffic.D), 4)
    assert counted(stream, 24) == (forward, backward, added, 827)


def test_further_launches_for_many_queries_are_counted():
    """Five queries over b_0 take two launches: 3 u more of backward than 2 + 5."""
    stream = TwoPhase(FullAttnRes(5, traffic.D), 5)
    assert traffic.count("", stream, 5).backward == (7 + 3) + (5 + 7 + 9 + 11) + (12 + 1)


@pytest.mark.parametrize("stream", [
    FullAttnRes(24, traffic.D, attnres_kernels.depth_attention),
    TwoPhase(FullAttnRes(24, traffic.D), 1),
], ids=["read by read", "two phases"])
def test_gradients_are_freed_one_by_one(stream):
    """The most at a time: the gradients so far of 25 sources and new ones of the 24 that an
    earlier read shares with them, and one between two additions."""
    assert traffic.count("", stream, 24).live <= 25 + 24 + 1


def test_what_lives_is_counted_until_it_is_freed():
    with traffic.Counter() as counter:
        u = torch.empty(traffic.T, traffic.D, device="meta")
        counter.phase = "backward"
        a = u + u
        b = a + u
        del a
        c = b + u
        assert (counter.live, counter.most_live) == (2, 2)
        view = c[1:]
        del c
        assert (counter.live, counter.most_live) == (2, 2)
        del view, b
    assert counter.live == 0 and counter.moved["additions"] == 3 * 3


@torch.library.custom_op("traffic_test::add_to", mutates_args=["sums"])
def add_to(sums: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for total in sums:
        total.add_(x)
    return x.clone()


def test_operators_count_what_they_read_and_write():
    u, v = (torch.zeros(traffic.T, traffic.D, device="meta") for _ in range(2))
    scores = u[:, :1]
    for act, expected in (
        (lambda: u + v, 3), (lambda: u.add_(v), 3), (lambda: u.add_(v, alpha=2), 3),
        (lambda: u.copy_(v), 2), (lambda: u.zero_(), 1), (lambda: torch.zeros_like(u), 1),
        (lambda: torch.empty_like(u), 0), (lambda: u.view(-1, 2)[0], 0),
        (lambda: u.detach(), 0), (lambda: torch.stack([u, v]), 4),
        (lambda: u.addcmul_(scores, v), 3), (lambda: u.sum(-1), 1),
    ):
        with traffic.Counter() as counter:
            act()
        assert counter.moved["forward"] == expected
    operator = torch.ops.traffic_test.add_to.default       # mutates, and returns another
    made = traffic.allocated(operator, u)
    assert traffic.moved(operator, ([u, v], u), made) == 3 + 2 + 1


def test_the_command_prints_and_records_every_stream(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(traffic, "require_clean", lambda: None)
    record = tmp_path / "traffic.json"
    traffic.main(["--layers", "3", "--block-size", "2", "--json", str(record)])
    recorded = json.loads(record.read_text())
    names = [row["stream"] for row in recorded["rows"]]
    assert names == [name for name, _ in traffic.streams(3, 2)] and recorded["layers"] == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(names)
    assert lines[1].split() == ["PreNorm", "9", "0", "9", "18", "3"]


@pytest.mark.parametrize("name", [
    "PreNorm", "Block, chained", "Block, kernels", "Block, two phases", "Full, kernels",
    "Full, two phases of 4",
])
def test_the_record_is_what_the_command_counts(name):
    """Of the rows that are counted fast."""
    path = cells.ROOT / "notebooks" / "recorded" / "traffic.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    stream = dict(traffic.streams(record["layers"], record["block_size"]))[name]
    row = asdict(traffic.count(name, stream, record["layers"]))
    assert row in record["rows"] and not record["dirty"]
