"""A trainer whose forward and backward run as CUDA graphs."""

import gc

import torch

from attnres_kernels.bench import clock
from attnres_ref.training import Trainer
from attnres_ref.views import with_parts


def put_in_graphs(trainer: Trainer) -> str | None:
    """Let the trainer replay its forward and backward, and return None; or leave it as it
    is and return why.

    The host launches a small model's kernels more slowly than the GPU runs them; a graph
    launches them all at once. It reads the weights and gradients where they lie, so the
    optimiser stays as it is. It takes batches of one size: training's. Validation replays
    the forward alone, so its windows must be a multiple of that batch.
    """
    if trainer.device.type == "cpu":
        return "no GPU"
    gc.collect()                           # an earlier trainer and its graphs are a cycle
    model = with_parts(trainer.forward)    # graphs take the place of this view's forward
    shape = trainer.config.batch_size, trainer.context
    tokens = torch.zeros(shape, dtype=torch.int64, device=trainer.device)
    half, stream = trainer.autocast_dtype, torch.cuda.current_stream()
    try:
        # Without its cache every replay casts the weights anew, as each step needs it.
        with torch.autocast("cuda", half, enabled=half is not None, cache_enabled=False):
            trainer.forward = torch.cuda.make_graphed_callables(model, (tokens,))
    except Exception as error:
        torch.cuda.set_stream(stream)      # a capture that fails leaves another behind
        return clock.told(error)
