"""PreNorm, Block and Full trained from the same seeds, for their losses and not for their
times. Each residual has a process, and all take the seeds in the same order, so that a cut
loses no more than the seed under way.
"""

import importlib.util
from dataclasses import replace

from attnres_kernels.bench import clock
from attnres_kernels.bench.graphs import put_in_graphs
from attnres_kernels.bench.record import Record
from attnres_kernels.depth import depth_attention
from attnres_kernels.two_phase import TwoPhase
from attnres_ref import LM
from attnres_ref.training import Trainer
from attnres_ref.training.presets import PRESETS
from attnres_ref.views import with_parts
from tiny_data import python_sources

RESIDUALS = ("prenorm", "block", "full")
SHARES = dict(cuda=3, cpu=1)
PRESET = dict(cuda="gpu", cpu="ci")
CHANGES = dict(cuda=dict(), cpu=dict(d_model=8, n_layers=2, context=4, block_size=2))

# All 2500 steps of the preset, of 32 windows each, would leave time for one seed, and one
# seed says nothing about chance. Shorter runs of smaller batches, 2.5M tokens each, leave
# it for several; seeds that no longer fit are cut. Model and rate are the preset's. 256
# windows of validation instead of 64: they are an error of a paired difference, too.
SCHEDULE = dict(
    cuda=dict(steps=300, batch_size=16, warmup_steps=60, eval_every=100, eval_windows=256),
    cpu=dict(steps=2, batch_size=1, eval_every=1, eval_windows=1),
)
SEEDS = dict(cuda=range(5), cpu=range(2))
PACKAGES = ("torch", "triton", "numpy")    # those that are there, beside Python's library


def share(k: int, of: int, out, device) -> None:
    """Every of-th residual, beginning with the k-th: all of its seeds."""
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    corpus = python_sources(installed if device.type == "cuda" else ())
    corpus = replace(corpus, tokens=corpus.tokens.to(device))      # so are its batches
    for seed in SEEDS[device.type]:
        for residual in RESIDUALS[k::of]:
            train(residual, seed, corpus, out, device)


def train(residual: str, seed: int, corpus, out, device) -> None:
    """One run and its record: a row at every validation, the first before step 1."""
    preset = PRESETS[PRESET[device.type]]
    size = preset.lm(residual, **CHANGES[device.type])
    config = preset.training(seed=seed, **SCHEDULE[device.type])
    schedule = None if residual == "prenorm" else in_two_phases
    trainer = Trainer(size, config, corpus, depth_attention, device=device.type,
                      schedule=schedule)
    name = f"train_{residual}_seed{seed}"
    record = Record(out, name, device, **trainer.identity,
                    schedule=trainer.made["schedule"])
    run = dict(arm=residual, seed=seed)
    try:
        why = put_in_graphs(trainer)
        record.add(**run, step=0, **trainer.validate(), graph=why is None, why=why)
        while trainer.done < config.steps:
            line = trainer.step()
            if trainer.done % config.eval_every == 0:
                record.add(**run, **line, **trainer.validate())
    except Exception as error:             # Diverged, or out of memory
        record.add(**run, after_step=trainer.done, error=clock.told(error))


def in_two_phases(model: LM) -> LM:
    """The model with its depth read by the kernels in two phases: Block's groups are its
    blocks, Full's have 4 layers, which move least (attnres_kernels.traffic)."""
    full = model.config.residual == "full"
    group_size = min(4, model.config.n_layers) if full else None
    return with_parts(model, stream=TwoPhase(model.stream, group_size))
