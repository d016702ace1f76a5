"""What a decoder on a stream keeps for its backward, and its gradients on two processes."""

import copy
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import ranks
from attnres_ref import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.adapter import convert
from attnres_ref.study.probes import kept_bytes, saved_bytes
from usual import UNDERSTOOD, UsualBlock, usual

BLOCK = partial(BlockAttnRes, block_size=4)
TOKENS = torch.randint(0, 11, (2, 64), generator=torch.Generator().manual_seed(0))


class Checkpointed(UsualBlock):
    """As a block that its decoder checkpoints whole."""

    def __call__(self, *args, **context):
        return checkpoint(super().__call__, *args, use_reentrant=False, **context)


def kept(block, residual, recompute=False):
    """Bytes for the backward of 8 blocks, 16 layers."""
    decoder = usual(d=32, n_blocks=8, block=block)
    convert(decoder, residual, recompute=recompute)
    return kept_bytes(lambda: decoder(TOKENS))


def test_a_read_that_is_recomputed_keeps_no_more_than_a_sum():
    """Nor than a sum whose norms are recomputed as well."""
    prenorm, with_norms = (kept(UsualBlock, PreNorm, again) for again in (False, True))
    assert with_norms < prenorm
    for residual in (BLOCK, FullAttnRes):
        assert kept(UsualBlock, residual) > 1.05 * prenorm
        assert kept(UsualBlock, residual, recompute=True) <= 1.02 * with_norms


@pytest.mark.parametrize("recompute", [False, True])
def test_whole_blocks_under_checkpointing_keep_no_more_on_block_attnres(recompute):
    """One tensor between two blocks, whether it is a sum or a source. Full AttnRes needs
    the outputs of both layers of every block."""
    prenorm = kept(Checkpointed, PreNorm)
    assert prenorm < 0.2 * kept(UsualBlock, PreNorm)
    assert kept(Checkpointed, BLOCK, recompute) <= 1.02 * prenorm
    assert 1.5 * prenorm < kept(Checkpointed, FullAttnRes, recompute) < 2.1 * prenorm


@pytest.mark.parametrize("kind", UNDERSTOOD.values(), ids=UNDERSTOOD)
@pytest.mark.parametrize("residual", [PreNorm, BLOCK, FullAttnRes])
def test_recomputing_changes_no_gradient(kind, residual):
    decoder, results = usual(block=kind, n_blocks=4), []
    for recompute in (False, True):
        converted = convert(copy.deepcopy(decoder), residual, recompute=recompute)
        for queries in converted.stream.parameters():
            nn.init.normal_(queries, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(1)
        out = converted(TOKENS)
        out.square().mul(torch.arange(16)).sum().backward()
        results.append([out, *(p.grad for p in converted.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_without_gradients_nothing_is_kept_or_computed_twice():
    decoder = convert(usual(), FullAttnRes, recompute=True)
    with torch.no_grad():
        assert kept_bytes(lambda: decoder(TOKENS)) == 2 * 64 * 16 * 8      # the result


def test_kept_bytes_counts_what_is_alive():
    weight = torch.ones(100, requires_grad=True)

    def forward():
        thrown = weight * 2                            # not needed by the sum's backward
        return thrown.sum(), weight.exp()              # which keeps its result

    assert kept_bytes(forward) == 4 + 400
    assert kept_bytes(lambda: weight.view(10, 10)) == 0        # not new
    assert kept_bytes(lambda: weight.detach().mul_(1)) == 0


def test_kept_bytes_sees_what_a_checkpoint_holds_and_saved_bytes_does_not():
    given = torch.ones(100, requires_grad=True)

    def forward():
        pair = (given * 2, given * 3)
        return checkpoint(lambda p: (p[0] * p[1]).sum(), pair, use_reentrant=False)

    assert kept_bytes(forward) == 4 + 800
    assert saved_bytes(nn.Module(), forward) < 800


def test_two_processes_under_torchrun_have_the_gradients_of_one(monkeypatch):
    here = Path(__file__).parent
    folders = [here, here.parent, here.parent / "kernels"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    n_gradients = len(list(ranks.decoder_on_a_stream().parameters()))
    said = ranks.under_torchrun("decoder_on_two")
    assert said.splitlines() == [
        f"{way}: {n_gradients} gradients on 2 processes"
        for way in ("ddp", "fsdp", "fsdp_checkpointed")
    ]
