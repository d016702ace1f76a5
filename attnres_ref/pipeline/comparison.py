"""A pipeline beside one process: same weights, same batches, every gradient compared.

The functions run on all ranks of a process group; rank 0 gets the result.
"""

from collections import Counter
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from attnres_ref.model import LM, LMConfig
from attnres_ref.pipeline.engine import Pipeline, mean_loss
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.store import RankStore


class ForgetfulStore(RankStore):
    """Wrong on purpose, for notebook 10 and the tests: the gradient that later chunks
    leave at a kept block is never handed over. The loss does not notice."""

    def keep(self, microbatch, value):
        self.leaves.setdefault(microbatch, []).append(value.detach().requires_grad_())
        return value


@dataclass(frozen=True)
class Comparison:
    """What a few training steps on a pipeline showed, in float64."""

    losses: list[float]                # by step
    loss_difference: float             # from one process: the largest over the steps
    gradients: dict[str, float]        # parameter: largest difference, in the last step
    forward: list[float]               # by transition: tensors per micro-batch
    backward: list[float]              # likewise, of gradients
    n_bytes: list[int]                 # by transition: bytes of a step, both directions
    peak_tensors: list[int]            # by rank: most received ones waiting for backward

    @property
    def gradient_difference(self) -> float:
        return max(self.gradients.values())


def comparisons(cases: list[dict]) -> list[Comparison | None]:
    """One after the other in one process group; a case: `beside_one_process`' arguments."""
    return [beside_one_process(**case) for case in cases]


def beside_one_process(
    layout: Layout, n_microbatches: int = 8, steps: int = 1, d_model: int = 16,
    context: int = 8, store: type[RankStore] = RankStore, layers: str = "attention,mlp",
    recompute: int = 0,
) -> Comparison | None:
    """Train `steps` AdamW steps on random bytes, one sequence to a micro-batch.

    Every rank builds the whole (small) model and keeps its chunks; rank 0 then trains
    another one alone. Raises ValueError as `Pipeline` does.
    """
    config = LMConfig(
        d_model=d_model, n_heads=2, context=context, n_layers=layout.n_layers,
        residual="block", block_size=layout.block_size, layers=layers,
    )
    model = make_model(config)
    pipeline = Pipeline(
        model, layout, n_microbatches, (1, context), store, recompute=recompute
    )
    size, generator = (steps, n_microbatches, context + 1), torch.Generator().manual_seed(0)
    batches = torch.randint(256, size, generator=generator).to(pipeline.device)
    losses = train(pipeline.parameters.values(), pipeline.step, batches)
    by_rank = [None] * layout.n_ranks
    dist.all_gather_object(by_rank, (losses, pipeline.gradients(), pipeline.traffic))
    if dist.get_rank() > 0:
        return None

    alone = make_model(config).to(pipeline.device)

    def step(tokens, targets):
        loss = mean_loss(alone(tokens), targets)
        loss.backward()
        return loss.item()

    one_process = train(alone.parameters(), step, batches)
    all_losses, shares, traffic = zip(*by_rank)
    losses = all_losses[-1]                        # the last chunk is on the last rank
    tensors = sum((rank.tensors for rank in traffic), Counter())
    n_bytes = sum((rank.n_bytes for rank in traffic), Counter())
    passes = steps * n_microbatches
    return Comparison(
        losses=losses,
        loss_difference=max(abs(a - b) for a, b in zip(losses, one_process, strict=True)),
        gradients=gradient_differences(alone, shares),
        forward=[tensors["F", c] / passes for c in layout.transitions],
        backward=[tensors["B", c] / passes for c in layout.transitions],
        n_bytes=[n_bytes[c] // steps for c in layout.transitions],
        peak_tensors=[rank.peak for rank in traffic],
    )


def gradient_differences(model: nn.Module, shares: list[dict]) -> dict[str, float]:
    """By parameter, the largest entry of |its gradient - the sum of the ranks' shares|."""
    differences = {}
    for name, parameter in model.named_parameters():
        whole = sum(share[name] for share in shares if name in share)
        differences[name] = (whole - parameter.grad.cpu()).abs().max().item()
    return differences


def train(parameters, step, batches: Tensor) -> list[float]:
    """The loss of each AdamW step; step(tokens, targets), [M, T] each, adds gradients."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
    losses = []
    for text in batches:
        optimizer.zero_grad()
        losses.append(step(text[:, :-1], text[:, 1:]))
        optimizer.step()
    return losses


def make_model(config: LMConfig) -> LM:
    """The same weights wherever it is called. Queries and key norms as after some
    training: at zero, a wrong gradient of theirs could hide."""
    torch.manual_seed(0)
    model = LM(config).double()
    for parameter in model.stream.parameters():
        nn.init.normal_(parameter, std=config.d_model**-0.5)
    return model
