"""What a pipeline's ranks hold and send, against the closed forms of the paper."""

import random
from itertools import product

import pytest

from attnres_ref.pipeline import Layout
from attnres_ref.pipeline.layout import MODES, cached_formula, naive_formula


def test_figure_3():
    blocks = {
        mode: [len(layout.sent(chunk)) for chunk in layout.transitions]
        for mode in MODES
        for layout in [Layout(4, 2, 16, 4, mode)]
    }
    assert blocks["naive"] == [1, 2, 2, 3, 3, 4, 4]
    assert blocks["received"] == [1, 2, 2, 2, 2, 2, 2]               # saves the figure's 6
    assert blocks["all"] == [1, 2, 2, 2, 1, 2, 1]


def test_uneven_chunks_are_rounded_down():
    layout = Layout(4, 1, 10, 4)
    layers = [layout.layers(chunk) for chunk in range(4)]
    assert layers == [range(0, 2), range(2, 5), range(5, 7), range(7, 10)]


def some_shapes(count):
    """P, V, L, S at random, the same each time: drawing is cheap, and so is a layout."""
    draw = random.Random(0)
    for _ in range(count):
        n_ranks, n_virtual = draw.randint(2, 8), draw.randint(1, 5)
        n_layers = draw.randint(max(5, n_ranks * n_virtual), 100)
        yield n_ranks, n_virtual, n_layers, draw.randint(1, draw.choice([5, n_layers]))


SHAPES = list(some_shapes(1000))


@pytest.mark.parametrize("mode", MODES)
def test_every_chunk_has_what_it_reads_and_nothing_travels_twice(mode):
    for shape in SHAPES:
        play(Layout(*shape, mode))


def play(layout):
    """Layer by layer: a rank's shelf and what arrives are exactly what the chunk reads."""
    mode = layout.mode
    shelf = [set() for _ in range(layout.n_ranks)]
    arrived, n_completed, layers_done = set(), 1, 0
    for chunk in range(layout.n_chunks):
        own = shelf[layout.rank(chunk)]
        if chunk > 0:
            arrived = set(layout.sent(chunk - 1))
            assert arrived.isdisjoint(own)
        here = own | arrived | ({0} if chunk == 0 else set())
        assert here == set(range(n_completed))
        assert layout.held(chunk) == len(own)
        known_before = set(here)
        for layer in layout.layers(chunk):
            assert layer == layers_done
            layers_done += 1
            if layers_done % layout.block_size == 0:
                here.add(n_completed)
                n_completed += 1
        assert n_completed == layout.completed(chunk)
        assert layout.has_partial(chunk) == bool(layers_done % layout.block_size)
        if mode != "naive":
            own |= here if mode == "all" else known_before
    assert layers_done == layout.n_layers


def test_totals_in_closed_form():
    for shape in SHAPES:
        assert_closed_form(shape)


def assert_closed_form(shape):
    """Aligned or not: the blocks complete at the end of each transition, less what the
    cache knows."""
    n_ranks, n_virtual, n_layers, block_size = shape
    naive, received, everything = (Layout(*shape, mode) for mode in MODES)
    last = naive.n_chunks - 1
    partials = sum(naive.has_partial(chunk) for chunk in naive.transitions)
    assert naive.total() == partials + sum(map(naive.completed, naive.transitions))
    first = last - n_ranks                         # each rank's last transition to come
    seen_by_the_end = partials + sum(naive.completed(chunk) for chunk in range(first, last))
    if n_virtual > 1:
        assert received.total() == seen_by_the_end - 1
        assert everything.total() == seen_by_the_end - naive.completed(first)
    else:
        assert naive.total() == received.total() == everything.total()
    assert everything.total() <= received.total() <= naive.total()


def test_on_aligned_cuts_the_formulas_miss_only_the_embedding():
    ranges = range(2, 8), range(1, 6), range(1, 4), range(1, 3)
    for n_ranks, n_virtual, blocks_per_chunk, block_size in product(*ranges):
        n_layers = n_ranks * n_virtual * blocks_per_chunk * block_size
        shape, sizes = (n_ranks, n_virtual, n_layers, block_size), (n_ranks, n_virtual)
        naive, received, everything = (Layout(*shape, mode).total() for mode in MODES)
        n_chunks = n_ranks * n_virtual
        assert naive == naive_formula(*sizes, blocks_per_chunk) + n_chunks - 1
        assert received == cached_formula(*sizes, blocks_per_chunk) + n_ranks - 1
        tighter = n_ranks * (n_ranks - 1) * (n_virtual - 0.5)
        assert everything == tighter * blocks_per_chunk + n_ranks - 1


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(n_ranks=0), "n_ranks is 0"),
        (dict(block_size=0), "block_size is 0: choose 1"),
        (dict(block_size=9), "block_size is 9"),
        (dict(n_layers=7), "8 chunks for n_layers = 7"),
        (dict(mode="cached"), "mode is 'cached': choose one of naive, received, all"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    good = dict(n_ranks=4, n_virtual=2, n_layers=8, block_size=2)
    with pytest.raises(ValueError, match=message):
        Layout(**good | fields)
