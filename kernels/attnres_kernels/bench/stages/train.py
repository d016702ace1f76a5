"""Three trainings of the `gpu` preset at once, for their losses and not for their times.

They are shorter than the preset (1000 steps of its 2500) so that they fit beside the
compilation of the peers; their learning rate falls over these steps.
"""

import importlib.util

from attnres_kernels.bench.record import Record
from attnres_kernels.depth import depth_attention
from attnres_ref.training import Trainer
from attnres_ref.training.presets import PRESETS
from tiny_data import python_sources

RESIDUALS = ("prenorm", "block", "full")
SHARES = dict(cuda=3, cpu=1)
PRESET = dict(cuda="gpu", cpu="ci")
CHANGES = dict(cuda=dict(), cpu=dict(d_model=8, n_layers=2, context=4, block_size=2))
SCHEDULE = dict(
    cuda=dict(steps=1000, warmup_steps=150, eval_every=50),
    cpu=dict(steps=2, batch_size=1, eval_every=1, eval_windows=1),
)
PACKAGES = ("torch", "triton", "numpy")    # those that are there, beside Python's library


def share(k: int, of: int, out, device) -> None:
    """Every of-th training, beginning with the k-th: a record for each, with a row at each
    validation."""
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    corpus = python_sources(installed if device.type == "cuda" else ())
    preset = PRESETS[PRESET[device.type]]
    config = preset.training(**SCHEDULE[device.type])
    for residual in RESIDUALS[k::of]:
        size = preset.lm(residual, **CHANGES[device.type])
        trainer = Trainer(size, config, corpus, depth_attention, device=device.type)
        record = Record(out, f"train_{residual}", device, **trainer.identity)
        while trainer.done < config.steps:
            line = trainer.step()
            if trainer.done % config.eval_every == 0:
                record.add(**line, **trainer.validate())
