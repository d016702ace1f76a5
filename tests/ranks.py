"""What the tests run on several processes: importable, as `launch` wants it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining.schedules import ScheduleInterleavedZeroBubble
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

import small
from attnres_ref import LM, BlockAttnRes, LMConfig, train
from attnres_ref.adapter import convert
from attnres_ref.pipeline import Layout
from attnres_ref.pipeline.engine import Pipeline
from attnres_ref.pipeline.paced import PacedPipeline
from attnres_ref.pipeline.store import RankStore
from attnres_ref.training import TrainConfig, Trainer, distributed, make_optimizer
from attnres_ref.training.run_directory import CheckpointError
from usual import usual

SENT = []                      # a message that nobody holds on to is never sent


def a_late_start(layout, n_microbatches, pace):
    """A recorded step that rank 0 begins when the others have long begun; when this rank
    began, and its first pass, by the clock."""
    paced = PacedPipeline(layout, n_microbatches, pace)
    for _ in range(2):
        paced.prepare()
        time.sleep(0.2 * (dist.get_rank() == 0))
        paced.step()
    return paced.recording(), paced.began, paced.spans[0]


def greet(word):
    me = dist.get_rank()
    return f"{word} {me} of {dist.get_world_size()}", torch.full((2,), me)


def last_word():
    """Rank 1 returns at once; what it sends is received later."""
    message = torch.ones(1)
    if dist.get_rank() == 1:
        SENT.append((message, dist.isend(message, 0)))
    else:
        time.sleep(0.5)
        dist.recv(message, 1)


def seconds_of_patience():
    group = dist.distributed_c10d._get_default_group()
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


def interrupted():
    """A shell's background job, and so its children, would ignore the signal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def rank_one_ends(folder, end):
    """By calling `end`, while the others wait for it, as in a transition. Each rank holds
    the lock of a file as long as it lives."""
    import fcntl  # which Windows lacks

    file = os.open(Path(folder, str(dist.get_rank())), os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    dist.barrier()
    if dist.get_rank() == 1:
        end()
    dist.barrier()


def refusals():
    """What `Pipeline` says, on two ranks, to what cannot work."""
    said = []

    def attempt(layout=Layout(2, 2, 8, 2), model=None, **options):
        fields = dict(d_model=8, n_layers=8, n_heads=2, context=4, block_size=2)
        try:
            Pipeline(LM(LMConfig(**fields | (model or {}))), layout, 4, (1, 4), **options)
        except ValueError as error:
            said.append(str(error))
        else:
            said.append("nothing")

    attempt()
    attempt(schedule=ScheduleInterleavedZeroBubble)
    attempt(Layout(4, 1, 8, 2))
    attempt(Layout(1, 2, 8, 2))
    attempt(Layout(2, 2, 12, 2))
    attempt(Layout(2, 2, 8, 4))
    attempt(model=dict(residual="prenorm"))
    attempt(model=dict(residual="block_raw_keys"))
    attempt(model=dict(tied_head=True))
    return said


def under_torchrun(module, *options):
    """What the module's command prints on two processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [sys.executable, *start, "-m", module, *options], capture_output=True, text=True,
        timeout=300, cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


# ---- Data parallel training ------------------------------------------------------------

SMALL = LMConfig(d_model=16, n_layers=4, n_heads=2, context=16, block_size=2)
TWENTY = TrainConfig(
    steps=20, batch_size=4, lr=2e-3, warmup_steps=5,
    eval_every=10, eval_windows=3, checkpoint_every=4,
)


def calm_optimizer(model, config):
    """AdamW divides a gradient by its size. Where that is nearly zero, rounding chooses
    the sign of a whole step, and two correct runs part; a larger eps prevents it."""
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["eps"] = 1e-4
    return optimizer


def train_small(folder, corpus=None, resume=False):
    with patch("attnres_ref.training.trainer.make_optimizer", calm_optimizer):
        return train(SMALL, TWENTY, corpus or small.corpus(), folder, resume)


def train_together(folder):
    """A whole run, one that crashes and resumes, and one in a folder that is taken."""
    whole = train_small(Path(folder, "whole"))
    with suppress(small.Killed):
        train_small(Path(folder, "resumed"), small.corpus_that(small.kill, at_step=10))
    resumed = train_small(Path(folder, "resumed"), resume=True)
    with pytest.raises(CheckpointError) as refused:    # met on rank 0, raised on both
        train_small(Path(folder, "whole"))
    return dict(
        metrics=whole.metrics, resumed=resumed.metrics, refused=str(refused.value),
        same=small.same_weights(whole.model, resumed.model),
        parameters={name: p.tolist() for name, p in whole.model.named_parameters()},
    )


def odd_ends():
    """The parts of attnres_ref.training.distributed, one by one, on two ranks."""
    group = distributed.Processes()
    me = group.rank
    rows, mine = torch.arange(6).view(6, 1), torch.tensor(1.0 + me)
    found = dict(
        rows=group.own_rows((rows, -rows))[1].flatten().tolist(),
        mean=group.mean(mine).item(), mine=mine.item(),
        stop=[group.any_of(me == 1), group.any_of(False)],
        first=distributed.from_rank_0(lambda: f"from {me}"),
    )
    with pytest.raises(ValueError) as uneven:
        group.own_rows((rows[:5],))
    found["uneven"] = str(uneven.value)

    class Idle(nn.Linear):
        """No output depends on its bias."""

        def forward(self, x):
            return x @ self.weight.T

    model = Idle(2, 1)
    forward = group.data_parallel(model)
    for _ in range(3):
        model.zero_grad()
        forward(torch.tensor([1.0, 3.0]) * (1 + me)).backward()
    found["gradient"] = model.weight.grad.tolist()
    found["idle"] = model.bias.grad is None or not model.bias.grad.any()

    class LateDivergence(Trainer):
        """Rank 1's own loss is not finite; no rank may go on."""

        def loss(self, inputs, targets):
            return super().loss(inputs, targets) * (float("nan") if me == 1 else 1.0)

    with pytest.raises(RuntimeError) as diverged:
        LateDivergence(SMALL, TWENTY, small.corpus()).step()
    return found | dict(diverged=str(diverged.value))


class Asked(RankStore):
    """Says that it has been asked whether anything is left."""

    def check_empty(self):
        raise RuntimeError("asked")


# ---- A decoder on a stream (test_adapter_memory) -----------------------------------------


def decoder_on_a_stream():
    """Six layers under Block AttnRes, its queries away from zero."""
    decoder = convert(usual(), partial(BlockAttnRes, block_size=4), recompute=True)
    with torch.no_grad():
        decoder.stream.queries.normal_(generator=torch.Generator().manual_seed(1))
    return decoder


def decoder_batch():
    """Four rows: tokens [4, 5] and a factor for every channel, so that gradients differ."""
    return torch.arange(20).reshape(4, 5) % 11, torch.arange(16.0, dtype=torch.float64)


def gradients_of(model, tokens, factors):
    """By name, of the mean loss over these rows."""
    model(tokens).square().mul(factors).mean().backward()
    found = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        found[name.removeprefix("module.")] = whole
    return found


def decoder_gradients(way):
    """On this rank's half of the batch, as lists; averaged over ranks by `way`."""
    decoder = decoder_on_a_stream()
    if way == "ddp":
        decoder = nn.parallel.DistributedDataParallel(decoder)
    else:
        if way == "fsdp_checkpointed":
            for block in decoder.layers:
                apply_activation_checkpointing(block)
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for block in decoder.layers:
            fully_shard(block, mesh=mesh)
        fully_shard(decoder, mesh=mesh)
    tokens, factors = decoder_batch()
    own = tokens.chunk(dist.get_world_size())[dist.get_rank()]
    return {name: g.tolist() for name, g in gradients_of(decoder, own, factors).items()}


def apply_activation_checkpointing(block):
    """The whole block, inside of its shard."""
    forward = block.forward
    block.forward = lambda *args, **context: checkpoint(
        forward, *args, use_reentrant=False, **context
    )
