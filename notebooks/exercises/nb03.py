"""Checks of notebook 03, Block AttnRes."""

import math

import torch

from attnres_ref.streams import BlockAttnRes, Depth
from exercises import arena, exercise, mutants


def dyed_outputs(n_layers):
    """v_0, v_1, ...: v_i is one in channel i, so a sum shows what it is made of."""
    return [row.clone() for row in torch.eye(n_layers + 1)]


def contents(source):
    counts = enumerate(source.tolist())
    return "+".join(f"v{i}" for i, count in counts for _ in range(int(count)))


@exercise("03.1")
def writes_blocks(write):
    for n_layers, block_size in [(7, 3), (8, 4), (3, 1)]:
        v = dyed_outputs(n_layers)
        stream = BlockAttnRes(n_layers, n_layers + 1, block_size)
        state = stream.begin(v[0])
        for layer in range(n_layers):
            before = [source.clone() for source in state.sources]
            expected = stream.write(state, layer, v[layer + 1])
            found = write(state, layer, v[layer + 1].clone(), block_size)
            place = f"after layer {layer}, with block_size {block_size},"
            assert all(map(torch.equal, before, state.sources)), (
                f"{place} the state before it has changed as well: make the sum a "
                "new tensor, not in place (+=)"
            )
            assert_same_state(found, expected, place)
            state = expected

    output = torch.ones(2, requires_grad=True)
    for block_size in (1, 2):
        after = write(Depth((torch.ones(2),)), 0, output, block_size)
        assert after.sources[-1].requires_grad, (
            "no gradient flows back from the new state to the output: do not detach"
        )


def assert_same_state(got, expected, place):
    closes = expected.partial is None
    found, wanted = len(got.completed), len(expected.completed)
    assert found == wanted, (
        f"{place} {wanted} sources should be complete, not {found}: layers count from "
        "0, so how many outputs are in the open block by now? (One layer can be a block.)"
    )
    if closes:
        assert got.partial is None, (
            f"{place} the block has just closed: partial should be None. Zeros would "
            "be read as a source, and the closed block must not be read twice"
        )
    else:
        assert got.partial is not None, (
            f"{place} the block is open: its sum so far belongs into partial"
        )
    for source, right in zip(got.sources, expected.sources):
        assert torch.equal(source, right), (
            f"{place} a source holds {contents(source)} where Eq. 5 has "
            f"{contents(right)}: a block sums its own layers' outputs, and no others"
        )


@exercise("03.2")
def counts_sources(n_sources):
    assert n_sources(8, 4) != 9, (
        "9 sources before layer 8: that is Full AttnRes. A block of 4 layers is one source"
    )
    for block_size in range(1, 13):
        for layer in range(25):
            expected = len(sources_before(layer, block_size))
            found = n_sources(layer, block_size)
            assert found == int(found), (
                f"n_sources({layer}, {block_size}) is {found:g}: sources are whole, and a "
                "block that has begun is one"
            )
            if layer == 0:
                reason = "the first layer reads the embedding b_0 alone, no partial sum"
            elif layer % block_size == 0:
                reason = (
                    "this layer opens a block, so it reads b_0 and the finished "
                    "blocks; there is no partial sum yet"
                )
            else:
                reason = (
                    "it reads b_0, the finished blocks, and the partial sum of the "
                    "block under way"
                )
            assert found == expected, (
                f"n_sources({layer}, {block_size}) is {found}, not {expected}: {reason}"
            )


def sources_before(layer, block_size):
    """What the stream itself would read at `layer`."""
    stream = BlockAttnRes(25, 1, min(block_size, 25))
    state = stream.begin(torch.ones(1))
    for earlier in range(layer):
        state = stream.write(state, earlier, torch.ones(1))
    return state.sources


@exercise("03.3")
def mends_the_cache(sources_of):
    for n_outputs, block_size in [(0, 3), (2, 3), (3, 3), (7, 3), (8, 4), (4, 1)]:
        v = [row.requires_grad_() for row in dyed_outputs(n_outputs)]
        stream = BlockAttnRes(max(n_outputs, block_size), len(v), block_size)
        state = stream.begin(v[0])
        for layer in range(n_outputs):
            state = stream.write(state, layer, v[layer + 1])
        expected = [contents(source) for source in state.sources]
        sources = list(sources_of(v[0], v[1:], block_size))
        found = [contents(source) for source in sources]
        assert found == expected, (
            f"{n_outputs} outputs in blocks of {block_size} give {found}, Eq. 6 has "
            f"{expected}: the block under way is a source, an empty one is not"
        )
        sum(sources).sum().backward()          # b_0 always carries a gradient
        cut = [f"v{i}" for i, output in enumerate(v) if output.grad is None]
        assert not cut, (
            f"{n_outputs} outputs in blocks of {block_size}: no gradient reaches "
            f"{', '.join(cut)}. What stands between these outputs and autograd?"
        )


@exercise("03.4")
def fits_the_budget(smallest_block_size):
    assert smallest_block_size(54, 1, 1, 1, 10) != 9, (
        "L = 54, room for 10 vectors: 9 is the number of blocks, their size is wanted"
    )
    for n_layers in (1, 8, 16, 54, 100):
        for vectors in range(2, n_layers + 3):
            budget = vectors * 1000 * 64 * 2      # 1000 tokens, d = 64, 2 bytes
            found = smallest_block_size(n_layers, 1000, 64, 2, budget)
            sizes = range(1, n_layers + 1)
            expected = next(S for S in sizes if 1 + math.ceil(n_layers / S) <= vectors)
            assert isinstance(found, int) and 1 <= found <= n_layers, (
                f"block_size is {found!r}: an integer from 1 to n_layers is wanted"
            )
            kept = 1 + math.ceil(n_layers / found)
            example = f"L = {n_layers}, room for {vectors} vectors a token: S = {found}"
            assert kept <= vectors, (
                f"{example} keeps {kept}. Did you count the embedding, and the last, "
                "short block when S does not divide L?"
            )
            assert found == expected, (
                f"{example} fits, and so does {expected}: the smallest is wanted. Is "
                "the short last block counted as it should be?"
            )
            nearly_one_more = budget + 1000 * 64 * 2 - 1
            again = smallest_block_size(n_layers, 1000, 64, 2, nearly_one_more)
            assert again == expected, (
                "a budget for a part of a vector more changed the answer: "
                "a vector has to fit whole"
            )
            fp32 = smallest_block_size(n_layers, 1000, 64, 4, 2 * budget)
            assert fp32 == expected, "numbers twice as wide need twice the budget"


@exercise("03.5")
def kills_the_mutants(my_tests):
    of_block = [test for test in arena.GIVEN if test is not arena.source_sets]
    arena.assert_none_survives(arena.with_mine(of_block, my_tests), mutants.BLOCK)
