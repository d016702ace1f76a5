"""The same training with the kernels and with the reference operator, loss by loss.

In bf16 two runs of the same mathematics drift apart. How far is shown by the reference
itself, which runs again with the rows of each batch in another order: that leaves every
loss and gradient as it is and changes only the order of their sums.
"""

from attnres_kernels.bench import clock
from attnres_kernels.bench.graphs import put_in_graphs
from attnres_kernels.bench.stages.train import CHANGES, in_two_phases
from attnres_kernels.depth import depth_attention
from attnres_kernels.two_phase import fused
from attnres_ref import depth_attention as reference
from attnres_ref.training import Trainer
from attnres_ref.training.presets import PRESETS
from tiny_data import Corpus, python_sources

PRESET = dict(cuda="t4", cpu="ci")
SCHEDULE = dict(cuda=dict(steps=150), cpu=dict(steps=5, batch_size=2, warmup_steps=2))
EVERY = 5                                  # steps from one written loss to the next


class Reversed(Corpus):
    """A corpus whose batches come with their last row first."""

    def batch(self, *arguments):
        inputs, targets = super().batch(*arguments)
        return inputs.flip(0), targets.flip(0)


class Rotated(Corpus):
    """A corpus whose batches come with their first row last."""

    def batch(self, *arguments):
        inputs, targets = super().batch(*arguments)
        return inputs.roll(-1, 0), targets.roll(-1, 0)


BASE = "reference"
CASES = {                                  # name: depth operator, schedule, corpus
    BASE: (reference, None, Corpus),
    "reference, rows reversed": (reference, None, Reversed),
    "reference, rows rotated": (reference, None, Rotated),
    "kernels": (depth_attention, None, Corpus),
    "kernels in two phases": (depth_attention, in_two_phases, Corpus),
    "kernels, fused": (depth_attention, fused, Corpus),
}


def measure(record, device) -> None:
    """A row with the training loss at every fifth step of every case, all of seed 0."""
    preset, text = PRESETS[PRESET[device.type]], python_sources()
    size = preset.lm("block", **CHANGES[device.type])
    config = preset.training(**SCHEDULE[device.type])
    for case, (attend, schedule, kind) in CASES.items():
        corpus = kind(text.name, text.tokens.to(device))
        trainer = Trainer(size, config, corpus, attend, device=device.type,
                          schedule=schedule)
        record.note(**trainer.identity)
        try:
            why = put_in_graphs(trainer)
            record.add(case=case, graph=why is None, why=why)
            while trainer.done < config.steps:
                line = trainer.step()
                if trainer.done == 1 or trainer.done % EVERY == 0:
                    record.add(case=case, step=line["step"], loss=line["loss"])
        except Exception as error:
            record.add(case=case, error=clock.told(error))
