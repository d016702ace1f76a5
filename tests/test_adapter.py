"""A decoder written the usual way, moved onto a residual stream."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnres_ref import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.adapter import convert
from attnres_ref.variants import HyperConnections


class UsualAttention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, h, mask=None):
        q, k, v = self.qkv(h).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        return self.out(mixed), None       # as Hugging Face's: (output, weights)


class UsualBlock(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(d, eps)
        self.self_attn = UsualAttention(d)
        self.post_attention_layernorm = nn.RMSNorm(d, eps)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))

    def forward(self, h, **context):
        h = h + self.self_attn(self.input_layernorm(h), **context)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class UsualDecoder(nn.Module):
    def __init__(self, d=16, n_blocks=3, eps=None):
        super().__init__()
        self.embed_tokens = nn.Embedding(11, d)
        self.layers = nn.ModuleList(UsualBlock(d, eps) for _ in range(n_blocks))
        self.norm = nn.RMSNorm(d, eps)

    def forward(self, tokens, **context):
        h = self.embed_tokens(tokens)
        for block in self.layers:
            h = block(h, **context)
        return self.norm(h)


def usual(**options):
    torch.manual_seed(0)
    return UsualDecoder(**options).double()


TOKENS = torch.arange(10).reshape(2, 5)
ATTNRES = [FullAttnRes, *(partial(BlockAttnRes, block_size=s) for s in (2, 4, 6))]


@pytest.mark.parametrize("residual", [PreNorm, *ATTNRES])
def test_the_function_stays_while_the_queries_are_zero(residual):
    decoder = usual()
    before = decoder(TOKENS)
    after = convert(decoder, residual)(TOKENS)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


def test_the_eps_of_the_norms_is_what_the_oracle_costs():
    """Small states (Hugging Face starts embeddings at 0.02) feel an eps of 1e-6, and a
    mean of 7 sources feels it where their sum did not."""
    differences = []
    for eps in (1e-6, 1e-12):
        decoder = usual(eps=eps)
        decoder.embed_tokens.weight.data.mul_(0.02)
        before = decoder(TOKENS)
        after = convert(decoder, FullAttnRes)(TOKENS)
        differences.append((after - before).abs().max())
    assert differences[0] > 1e-4 > 1e-8 > differences[1]


@pytest.mark.parametrize("residual", ATTNRES)
def test_queries_choose_and_learn(residual):
    decoder = convert(usual(), residual)
    before = decoder(TOKENS)
    before.square().mul(torch.arange(16)).sum().backward()
    gradient = decoder.stream.queries.grad.abs().sum(-1)
    assert gradient[1:].min() > 0                      # read 0 has one source, so none
    with torch.no_grad():
        decoder.stream.queries.copy_(torch.linspace(-1, 1, 7 * 16).reshape(7, 16))
    assert (decoder(TOKENS) - before).abs().max() > 1e-3


def test_every_layer_reads_what_a_loop_over_the_parts_reads():
    decoder = usual()
    blocks = list(decoder.layers)
    convert(decoder, partial(BlockAttnRes, block_size=4))
    stream = decoder.stream
    with torch.no_grad():
        stream.queries.normal_(generator=torch.Generator().manual_seed(1))
    parts = [
        f for block in blocks for f in (
            lambda h, b=block: b.self_attn(b.input_layernorm(h))[0],
            lambda h, b=block: b.mlp(b.post_attention_layernorm(h)),
        )
    ]
    state = stream.begin(decoder.embed_tokens(TOKENS))
    for layer, f in enumerate(parts):
        state = stream.write(state, layer, f(stream.read(state, layer)))
    expected = decoder.norm(stream.read(state, len(parts)))
    torch.testing.assert_close(decoder(TOKENS), expected, rtol=0, atol=0)


def test_any_stream_fits():
    decoder = convert(usual(), partial(HyperConnections, n_streams=2))
    assert decoder(TOKENS).isfinite().all()


def test_masks_reach_the_attention():
    mask = torch.ones(5, 5, dtype=torch.bool)
    decoder = usual()
    before = decoder(TOKENS, mask=mask)
    torch.testing.assert_close(
        convert(decoder, FullAttnRes)(TOKENS, mask=mask), before, rtol=0, atol=1e-10
    )
    assert (before - decoder(TOKENS)).abs().max() > 1e-3


def test_old_checkpoints_fit_and_the_stream_is_stored_once():
    decoder = usual()
    checkpoint = decoder.state_dict()
    copied = copy.deepcopy(convert(decoder, FullAttnRes))
    missing, unexpected = copied.load_state_dict(checkpoint, strict=False)
    assert sorted(missing) == ["stream.queries", "stream.queries_norm"] and not unexpected
    assert copied.stream.queries.dtype == torch.float64
    copied.stream.queries.data.fill_(1.0)    # the copy's blocks use the copy's stream
    assert (copied(TOKENS) - decoder(TOKENS)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "decoder, message",
    [
        (nn.Linear(2, 2), "Linear has no ModuleList `layers`.*model.model"),
        (convert(usual(), FullAttnRes), "UsualDecoder is on a stream"),
    ],
)
def test_refuses_what_it_cannot_convert(decoder, message):
    with pytest.raises(ValueError, match=message):
        convert(decoder, FullAttnRes)


def test_names_the_parts_that_a_block_lacks():
    decoder = usual()
    del decoder.layers[0].mlp
    with pytest.raises(ValueError, match="UsualBlock has no mlp: a block needs"):
        convert(decoder, FullAttnRes)
