"""A pipeline beside one process: same weights, same batches, every gradient compared.

The functions run on all ranks of a process group; rank 0 gets the result.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from attnres_ref.model import LM, LMConfig
from attnres_ref.pipeline.engine import Pipeline, add_up, mean_loss
from attnres_ref.pipeline.launch import device
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.store import RankStore


class ForgetfulStore(RankStore):
    """Wrong on purpose, for notebook 10 and the tests: the gradient that later chunks
    leave at a kept block is never handed over. The loss does not notice."""

    def keep(self, microbatch, value):
        self.leaves.setdefault(microbatch, []).append(value.detach().requires_grad_())
        return value


@dataclass(frozen=True)
class Trial:
    """What a few training steps on a pipeline showed."""

    losses: list[float]                # by step
    one_process: list[float]           # the same without a pipeline
    gradients: dict[str, float]        # parameter: largest difference, in the last step
    forward: list[float]               # by transition: tensors per micro-batch
    backward: list[float]              # likewise, of gradients
    n_bytes: list[int]                 # by transition: bytes of a step, both directions
    peak_tensors: list[int]            # by rank: most received ones waiting for backward

    @property
    def loss_difference(self) -> float:
        return max(abs(a - b) for a, b in zip(self.losses, self.one_process, strict=True))

    @property
    def gradient_difference(self) -> float:
        return max(self.gradients.values())


def trials(jobs: list[dict]) -> list[Trial] | None:
    """One `trial` after the other, in one process group; `jobs` are their arguments."""
    results = [trial(**job) for job in jobs]
    return results if dist.get_rank() == 0 else None


def trial(
    layout: Layout, n_microbatches: int = 8, steps: int = 1, d_model: int = 16,
    context: int = 8, lr: float = 1e-2, seed: int = 0, dtype=torch.float64,
    store: type[RankStore] = RankStore, layers: str = "attention,mlp",
) -> Trial | None:
    """Train `steps` AdamW steps on random bytes, one sequence to a micro-batch.

    Every rank builds the whole (small) model from `seed` and keeps its chunks. Raises
    ValueError as `Pipeline` does.
    """
    shape = (1, context)
    config = LMConfig(
        d_model=d_model, n_heads=2, context=context, n_layers=layout.n_layers,
        residual="block", block_size=layout.block_size, layers=layers,
    )
    where = device()
    model = make_model(config, seed, dtype)
    pipeline = Pipeline(model, layout, n_microbatches, shape, where, store())
    alone = make_model(config, seed, dtype).to(where) if dist.get_rank() == 0 else None
    losses, one_process = [], []
    optimizers = [
        torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
        for parameters in (pipeline.parameters(), alone and list(alone.parameters()))
        if parameters
    ]
    for step in range(steps):
        batch = torch.Generator().manual_seed(seed + step)
        text = torch.randint(256, (n_microbatches, context + 1), generator=batch)
        tokens, targets = text[:, :-1].to(where), text[:, 1:].to(where)     # [M, T] each
        losses.append(pipeline.step(tokens, targets))
        if alone is not None:
            alone.zero_grad(set_to_none=True)
            loss = mean_loss(alone(tokens), targets)
            loss.backward()
            one_process.append(loss.item())
        for optimizer in optimizers:
            optimizer.step()

    ledger = pipeline.ledger
    gradients = {name: grad.cpu() for name, grad in pipeline.gradients().items()}
    share = losses, gradients, ledger.tensors, ledger.n_bytes, ledger.peak
    shares = [None] * layout.n_ranks if alone is not None else None
    dist.gather_object(share, shares)
    if alone is None:
        return None
    all_losses, all_gradients, tensors, n_bytes, peaks = zip(*shares)
    whole = add_up(pair for part in all_gradients for pair in part.items())
    passes = steps * n_microbatches
    by_transition = layout.transitions

    def counted(counters, kind):
        return [sum(counter[kind, c] for counter in counters) for c in by_transition]

    return Trial(
        losses=all_losses[layout.rank(layout.n_chunks - 1)],
        one_process=one_process,
        gradients={
            name: (whole[name] - parameter.grad.cpu()).abs().max().item()
            for name, parameter in alone.named_parameters()
        },
        forward=[count / passes for count in counted(tensors, "F")],
        backward=[count / passes for count in counted(tensors, "B")],
        n_bytes=[
            (down + up) // steps
            for down, up in zip(counted(n_bytes, "F"), counted(n_bytes, "B"))
        ],
        peak_tensors=list(peaks),
    )


def make_model(config: LMConfig, seed: int, dtype: torch.dtype) -> LM:
    """The same weights wherever it is called. Queries and key norms as after some
    training: at zero, a wrong gradient of theirs could hide."""
    torch.manual_seed(seed)
    model = LM(config).to(dtype)
    for parameter in model.stream.parameters():
        torch.nn.init.normal_(parameter, std=config.d_model**-0.5)
    return model
