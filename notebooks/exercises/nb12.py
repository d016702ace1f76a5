"""Checks of notebook 12, a stream under somebody else's decoder."""

import torch
from torch import nn

from attnres_ref import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.adapter import convert
from exercises import exercise


@exercise("12.1")
def mended_run(run):
    def double(h):
        return 2 * h

    def square(h):
        return h * h

    layers, h = [(double, 1.0), (square, 0.5), (double, -1.0)], torch.rand(2, 4)
    expected = h
    for f, k in layers:
        expected = expected + k * f(expected)
    found = run(PreNorm(3, 4), layers, h)
    doubled = h
    for f, k in layers:
        doubled = 2 * doubled + k * f(doubled)
    assert not torch.allclose(found, doubled), (
        "what is written still holds what was read, so a sum counts it twice"
    )
    plain = h
    for f, _ in layers:
        plain = plain + f(plain)
    assert not torch.allclose(found, plain), "k is lost: a layer writes k f(h)"
    assert torch.allclose(found, expected), (
        "on PreNorm this is not h + k f(h), layer after layer"
    )
    stream = BlockAttnRes(3, 4, block_size=2)
    with torch.no_grad():
        stream.queries.copy_(torch.linspace(-2, 2, 16).reshape(4, 4))
    state = stream.begin(h)
    for number, (f, k) in enumerate(layers):
        last = stream.read(state, number)
        state = stream.write(state, number, k * f(last))
    found = run(stream, layers, h)
    assert not torch.allclose(found, last + k * f(last)), (
        "what the last layer read and wrote is not the final read, which looks at all"
    )
    assert torch.allclose(found, stream.read(state, 3)), (
        "right on PreNorm, not on Block AttnRes: number the reads 0, 1, 2 and 3"
    )


@exercise("12.2")
def groups_of_a_converted_model(groups):
    model = nn.Module()
    model.decoder = convert(small_decoder(), FullAttnRes)
    found = groups(model, 1e-3, 4.0)
    listed = [parameter for group in found for parameter in group["params"]]
    assert len({*map(id, listed)}) == len(listed), "a parameter is in two groups"
    given = {id(p): group for group in found for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert id(parameter) in given, f"{name} is in no group, so it never learns"
        group = given[id(parameter)]
        decay, lr = group.get("weight_decay"), group.get("lr", 1e-3)
        if "stream" in name:
            assert decay == 0, (
                f"{name} decays. It is two-dimensional and no matrix: a row is one read's "
                "query, and decay would pull it back to the plain mean"
            )
            assert lr == 4e-3, f"{name} learns at {lr}, not at scale * lr = 0.004"
        elif parameter.dim() >= 2:
            assert decay == 0.1, f"{name} is a matrix and has weight_decay {decay}, not 0.1"
            assert lr == 1e-3, f"{name} learns at {lr}: only the stream has another rate"
        else:
            assert decay == 0, f"{name} is a norm's or a bias and decays"
    torch.optim.AdamW(found, lr=1e-3)


def small_decoder(n_blocks=2, d=4):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.attn = nn.RMSNorm(d), nn.Linear(d, d)
            self.norm_2, self.mlp = nn.RMSNorm(d), nn.Linear(d, d)

        def forward(self, h):
            h = h + self.attn(self.norm_1(h))
            return h + self.mlp(self.norm_2(h))

    decoder = nn.Module()
    decoder.layers = nn.ModuleList(Block() for _ in range(n_blocks))
    return decoder


@exercise("12.3")
def tensors_between_blocks(held):
    for n_blocks, layers, size in (
        (1, 2, 2), (4, 2, 1), (4, 2, 2), (4, 2, 4), (6, 2, 3), (6, 2, 8), (5, 1, 2),
    ):
        stream = BlockAttnRes(n_blocks * layers, 1, block_size=size)
        state, seen = stream.begin(torch.zeros(1)), {}
        for block in range(n_blocks):
            seen |= {id(source): source for source in state.sources}
            for layer in range(block * layers, (block + 1) * layers):
                state = stream.write(state, layer, torch.zeros(1))
        found, case = held(n_blocks, layers, size), (
            f"{n_blocks} blocks of {layers} layers, S = {size}"
        )
        n = n_blocks * layers
        assert found != len(seen) + 1, (
            f"{case}: {found} is one too many. What the last block makes, no block reads"
        )
        if n_blocks == 1:
            assert found != 0, "the embedding enters the first block, too"
        if size > layers:
            assert found != 1 + (n - layers) // size, (
                f"{case}: {found} are the finished ones. A block that begins inside of an "
                "AttnRes block also holds its partial sum"
            )
        assert found == len(seen), (
            f"{case}: {found}, and {len(seen)} different tensors enter the blocks"
        )


@exercise("12.4")
def cut_into_layers(cut):
    def unit(i, n=8):
        return [float(i == j) for j in range(n)]

    def total(*pairs, n=8):
        return [sum(k for i, k in pairs if i == j) + float(j == 0) for j in range(n)]

    def accepted(what, reads, returned):
        try:
            return cut(reads, returned)
        except ValueError as error:
            raise AssertionError(f"{what} is refused: {error}") from None

    llama = [unit(0), unit(1), total((2, 1.0)), unit(3)]
    found = accepted("a Llama's block", llama, total((2, 1.0), (4, 1.0)))
    assert found == [([0, 1], 1.0), ([2, 3], 1.0)], (
        f"of a Llama's block you find {found}, not [([0, 1], 1.0), ([2, 3], 1.0)]"
    )
    granite = [unit(0), unit(1), total((2, 0.22)), unit(3)]
    found = accepted("a block that adds 0.22 of its attention", granite,
                     total((2, 0.22), (4, 0.5)))
    assert [k for _, k in found] == [0.22, 0.5], (
        f"the factors are 0.22 and 0.5, you find {[k for _, k in found]}: k is the "
        "coordinate of the layer's last part in the next sum"
    )
    gemma = [unit(0), unit(1), unit(2), total((3, 1.0)), unit(4), unit(5)]
    found = accepted("a norm behind the attention", gemma, total((3, 1.0), (6, 1.0)))
    assert found == [([0, 1, 2], 1.0), ([3, 4, 5], 1.0)], (
        "a norm behind the attention belongs to the attention's layer"
    )
    one = accepted("a block of one layer", [unit(0), unit(1)], total((2, 1.0)))
    assert one == [([0, 1], 1.0)], f"of a block with one layer you find {one}"
    wrong = {
        "a parallel block, whose MLP reads what the attention reads": (
            [unit(0), unit(1), unit(1)], total((2, 1.0), (3, 1.0))),
        "a block whose MLP replaces the sum": (llama, unit(4)),
        "a block that forgets its first layer": (llama, total((4, 1.0))),
        "a block that doubles its input": (llama, total((0, 1.0), (2, 1.0), (4, 1.0))),
        "a part whose answer nobody uses": (
            [unit(0), unit(1), unit(0), unit(3)], total((4, 1.0))),
    }
    for what, (reads, returned) in wrong.items():
        try:
            found = cut(reads, returned)
        except ValueError:
            continue
        raise AssertionError(f"{what} passes as {found}: raise ValueError")
