"""Checks of notebook 10, the pipeline cache."""

import torch

from attnres_ref.pipeline import Layout, simulate
from attnres_ref.pipeline.simulate import following
from exercises import arena, exercise


@exercise("10.1")
def blocks_sent(news):
    layout = Layout(4, 2, 16, 4, "received")
    assert news(0, 4, layout.completed) == 1, (
        "in the first virtual stage nothing has been seen: chunk 0 sends all it has, b_0"
    )
    sent = [news(chunk, 4, layout.completed) for chunk in layout.transitions]
    everything = [len(Layout(4, 2, 16, 4, "all").sent(c)) for c in layout.transitions]
    naive = [layout.completed(chunk) for chunk in layout.transitions]
    since_last = [new - old for new, old in zip(naive, [0, *naive])]
    assert sent != since_last, (
        "you leave out what the sender had received: the receiver is another rank, which "
        "has seen nothing since its own previous chunk"
    )
    assert sent != naive, "nothing is left out: subtract what the receiver holds"
    assert sent != everything, (
        "you also leave out what the rank completed itself: it holds what stood ready when "
        "its previous chunk BEGAN"
    )
    by_sender = [
        layout.completed(c) - (layout.completed(c - 5) if c >= 4 else 0)
        for c in layout.transitions
    ]
    assert sent != by_sender, (
        "you look at what the sender's rank holds: it is the receiver's that counts"
    )
    for shape in ((4, 2, 16, 4), (4, 2, 16, 2), (2, 4, 17, 5), (3, 3, 20, 2)):
        layout = Layout(*shape, "received")
        for chunk in layout.transitions:
            ours = news(chunk, layout.n_ranks, layout.completed)
            assert ours == len(layout.sent(chunk)), (
                f"from chunk {chunk} on {shape[0]} ranks go {len(layout.sent(chunk))} "
                f"blocks, not {ours}: which chunk did the receiving rank run last?"
            )


@exercise("10.2")
def tensors_logged(logged):
    def log(*cut):
        layout = Layout(*cut, "received")
        return [int(logged(chunk, layout)) for chunk in layout.transitions]

    plan = [2, 2, 3, 2, 3, 2, 3]
    found = log(4, 2, 16, 4)
    assert found != plan, "this is Layout's plan: the log has one tensor more in one place"
    assert found == [2, 2, 3, 3, 3, 2, 3], (
        f"for P, V, L, S = 4, 2, 16, 4 you send {found}, which is not the log: one "
        "transition has a tensor more than planned, the others are as planned"
    )
    found = log(2, 3, 12, 2)
    assert found != [2, 3, 2, 3, 2], (
        "you send one more into rank 0 in every round, but the log has it in one round "
        "only: what does rank 0 hold after that round that it did not hold before?"
    )
    assert found == [2, 3, 2, 2, 2], (
        f"for P, V, L, S = 2, 3, 12, 2 you send {found}, which is not the log: which rank "
        "is the receiver where it differs from the plan?"
    )
    for cut in ((3, 3, 18, 2), (2, 1, 4, 1), (5, 2, 30, 7)):
        layout = Layout(*cut, "received")
        expected = [layout.n_tensors(chunk) for chunk in layout.transitions]
        if layout.n_virtual > 1:
            expected[layout.n_ranks - 1] += 1
        assert log(*cut) == expected, (
            f"both logs fit, but for P, V, L, S = {cut} this engine sends {expected}, not "
            f"{log(*cut)}: which rank lacks which block, and until when?"
        )


@exercise("10.3")
def critical_path(pace):
    first = Layout(4, 2, 16, 4, "naive")
    run = simulate(first, 8)
    compute, links = pace(run, first)
    assert links == 0, (
        f"with free links you find {links:g} on links: a pass that starts as soon as its "
        "rank is free, or its message sent, did not wait for a link"
    )
    assert compute != sum(span.end - span.start for span in run.spans), (
        "that is the work of all passes: only those on the chain count, one after another"
    )
    for layout, M, per_tensor in (
        (first, 8, 0.5), (Layout(4, 2, 16, 4, "received"), 8, 0.5),
        (Layout(2, 3, 12, 1, "naive"), 4, 1), (Layout(4, 1, 8, 2, "all"), 4, 2),
    ):
        run = simulate(layout, M, per_tensor=per_tensor)
        compute, links = pace(run, layout)
        expected = _chain(run, layout)
        work = sum(m.n_tensors for m in run.messages) * per_tensor
        where = f"{layout.mode}, P = {layout.n_ranks}, {per_tensor:g} a tensor: "
        assert links != work, where + "that is all messages: count those on the chain"
        assert compute + links <= run.makespan, (
            where + f"your parts add up to {compute + links:g}, more than the step of "
            f"{run.makespan:g}: no moment may count twice"
        )
        assert compute + links == run.makespan, (
            where + f"your parts add up to {compute + links:g}, and the step takes "
            f"{run.makespan:g}: does the way start at the end of the LAST pass and lead to "
            "0, and do you count the queue in front of a link?"
        )
        assert (compute, links) == expected, (
            where + f"the chain has {expected[1]:g} on links, not {links:g}: where a rank "
            "was busy until the start of a pass, stay on the rank"
        )


def _chain(run, layout):
    """The answer to 10.3: (computation, links) on the way to the last pass's end."""
    sender = {following(span.action, layout): span for span in run.spans}
    on_rank = {}
    for span in sorted(run.spans, key=lambda span: span.start):
        on_rank.setdefault(span.rank, []).append(span)
    span, compute, links = max(run.spans, key=lambda span: span.end), 0, 0
    while span is not None:
        compute += span.end - span.start
        place = on_rank[span.rank].index(span)
        before = on_rank[span.rank][place - 1] if place else None
        if span.action in sender and (before is None or before.end < span.start):
            before = sender[span.action]
            links += span.start - before.end
        span = before
    return compute, links


@exercise("10.4")
def mended_keep(keep):
    source = torch.randn(4, dtype=torch.float64, requires_grad=True)
    arrived, shelf = source.atan(), []             # as chunk 0 makes b_0, with a graph
    present = keep(shelf, arrived)
    assert len(shelf) == 1, "the block is not on the shelf: later chunks find nothing"
    assert present.requires_grad, "the present chunk's own read is cut off from its input"
    leaf = shelf[0]
    assert leaf.is_leaf, (
        "later chunks reach into the graph of this one, which has a backward pass of its "
        "own: they need a leaf"
    )
    assert leaf.requires_grad, (
        "what later chunks read asks for no gradient, so none gathers: detach() did that"
    )
    assert present is not leaf, (
        "the present chunk goes on from the leaf: its gradient does not reach what arrived"
    )
    readers = [lambda x: x.sin().sum(), lambda x: x.exp().sum(), lambda x: x.square().sum()]
    for reader in reversed(readers[1:]):           # chunks c + 2 P, c + P: leaves to read
        reader(leaf).backward()
    seen = arrived.detach()
    later = seen.exp() + 2 * seen
    assert leaf.grad is not None and torch.allclose(leaf.grad, later), (
        "the leaf's gradient is not the sum over its readers: it needs no hook of its own"
    )
    readers[0](present).backward()
    own, inner = seen.cos(), 1 / (1 + source.detach().square())
    assert not torch.allclose(source.grad, own * inner), (
        "only the present chunk's gradient goes upstream: hand over what the leaf gathered"
    )
    assert not torch.allclose(source.grad, later * inner), (
        "the present chunk's own gradient is lost: add to it, do not replace it"
    )
    assert torch.allclose(source.grad, (own + later) * inner), (
        "what goes upstream is not the sum over all readers, each counted once"
    )


def _store(view=True, asks=True, add=lambda gradient, late: gradient + late, latest=False):
    """A `keep` for 10.5, right as it is and broken by its arguments. view: the hook hangs
    on a view; asks: the leaf gathers gradients; add: what the hook hands over; latest: of
    several later readers only the last one counts."""

    def keep(shelf, value):
        leaf = value.detach().requires_grad_(asks)
        shelf.append(leaf if asks else leaf.clone().requires_grad_())
        left = []
        if latest and asks:
            leaf.register_hook(lambda gradient: left.append(gradient.clone()))
        present = value.view_as(value) if view else value

        def hand_over(gradient):
            late = left[-1] if left else leaf.grad
            return gradient if late is None else add(gradient, late)

        present.register_hook(hand_over)
        return present

    return keep


def _cloning(shelf, value):
    """As right as a view, at the price of a copy."""
    leaf = value.detach().clone().requires_grad_()
    shelf.append(leaf)
    value = value.clone()
    value.register_hook(lambda gradient: gradient + leaf.grad)
    return value


BROKEN = {
    "whose present chunk is right while its later readers' gradients never come back":
        _store(add=lambda gradient, late: gradient),
    "that hands over nothing and raises no error, as nothing has gathered":
        _store(asks=False),
    "that loses the gradient of the chunk for which the block came":
        _store(add=lambda gradient, late: late),
    "that counts the later readers twice": _store(add=lambda g, late: g + 2 * late),
    "that is right for one later reader and wrong for two": _store(latest=True),
    "that is right in the first step and wrong in the second, on the same buffer":
        _store(view=False),
}


@exercise("10.5")
def test_of_a_store(refuses):
    right = {"one with a view": _store(), "one that copies": _cloning}
    arena.assert_refuses(refuses, "store", right, BROKEN)
