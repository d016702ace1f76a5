"""Checks of notebook 10, the pipeline cache."""

import torch

from attnres_ref.pipeline import Layout, simulate
from exercises import exercise


@exercise("10.1")
def tensors_carried(carried):
    assert carried(0, 8, 16, 2) != 1, (
        "the embedding is a completed block too: after layers 0 and 1 there are b_0 and b_1"
    )
    assert carried(0, 8, 16, 2) == 2, "chunk 0 of 8 sends b_0 and b_1, no partial sum"
    assert carried(0, 8, 16, 4) != 1, (
        "chunk 0 ends in the middle of a block: its partial sum has to travel as well"
    )
    assert carried(0, 8, 16, 4) == 2, "chunk 0 sends b_0 and a partial sum when S = 4"
    assert carried(1, 8, 16, 4) == 2, (
        "after four layers a block of four is complete: there is no partial sum then"
    )
    for shape in ((4, 2, 16, 4), (2, 2, 11, 3), (2, 4, 17, 5), (4, 2, 64, 1)):
        layout = Layout(*shape)
        for chunk in layout.transitions:
            ours = carried(chunk, layout.n_chunks, *shape[2:])
            assert ours == layout.n_tensors(chunk), (
                f"for chunk {chunk} of {layout.n_chunks}, L = {shape[2]}, S = {shape[3]} "
                f"you count {ours}, not {layout.n_tensors(chunk)}: chunk c ends before "
                "layer (c + 1) L / C, rounded down"
            )


@exercise("10.2")
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
        "you also leave out what the rank completed itself: it holds what had ARRIVED when "
        "its previous chunk began"
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


@exercise("10.3")
def waiting_share(bubble):
    assert bubble(1, 1, 8) != 1, "that is the share of WORK: the bubble is the rest"
    assert bubble(1, 1, 8) == 0, "a single rank never waits"
    wrong = {
        "that is waiting over WORK: the question is its share of the whole step": 3 / 16,
        "V is left out: more virtual stages shrink the bubble": 3 / 11,
        "the last rank waits for one chunk of each other rank, not for all of theirs":
            7 / 23,
    }
    for message, value in wrong.items():
        assert abs(bubble(4, 2, 8) - value) > 1e-9, message
    for n_ranks, n_virtual, n_microbatches in ((4, 2, 8), (8, 1, 16), (2, 4, 6)):
        layout = Layout(n_ranks, n_virtual, 32, 4)
        expected = 1 - simulate(layout, n_microbatches).busy
        ours = bubble(n_ranks, n_virtual, n_microbatches)
        assert abs(ours - expected) < 1e-9, (
            f"with P, V, M = {n_ranks}, {n_virtual}, {n_microbatches} the simulator waits "
            f"{expected:.3f} of the step, you say {ours:.3f}"
        )


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
