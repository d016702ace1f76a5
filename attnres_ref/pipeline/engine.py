"""The course's LM on PyTorch's pipeline engine, with the cache of sec. 4.1.

`PipelineStage` and `ScheduleInterleaved1F1B` are used as they are: they move tensors
between processes and run the chunks in order. The cache is in what a chunk returns, the
tensors that the next rank lacks, and in the rank's store. gloo between CPUs, nccl
between GPUs.
"""

import copy

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.pipelining import ScheduleInterleaved1F1B

from attnres_ref.model import LM
from attnres_ref.pipeline.counting import CountingStage, Ledger
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.simulate import order
from attnres_ref.pipeline.store import RankStore
from attnres_ref.streams import BlockAttnRes, Depth, FullAttnRes


class Chunk(nn.Module):
    """Some consecutive layers of a model: what arrives -> what the next rank lacks.

    The loop is the model's. Parameters carry the names they have in the model. The
    stream is a copy of the whole one, of which only this chunk's queries are used.
    """

    def __init__(self, model: LM, layout: Layout, index: int, store: RankStore):
        super().__init__()
        self.layout, self.index, self.store = layout, index, store
        self.is_first, self.is_last = index == 0, index == layout.n_chunks - 1
        self.layers = nn.ModuleDict(
            {str(layer): model.layers[layer] for layer in layout.layers(index)}
        )
        self.stream = copy.deepcopy(model.stream)
        if self.is_first:
            self.embedding = model.embedding
        if self.is_last:
            self.norm, self.head = model.norm, model.head

    def forward(self, *arrived: Tensor, microbatch: Tensor):
        """arrived: tokens [B, T] in the first chunk, else the tensors [B, T, d] of the
        transition; microbatch: [1], its number. Returns logits in the last chunk, else the
        tensors of the next transition."""
        number = int(microbatch)
        state = self.keep(number, self.unpack(number, arrived))
        if self.index + self.layout.n_ranks >= self.layout.n_chunks:
            self.store.drop(number)                # the rank's last chunk
        for name, f in self.layers.items():
            layer = int(name)
            state = self.stream.write(state, layer, f(self.stream.read(state, layer)))
        if self.is_last:
            return self.head(self.norm(self.stream.read(state, self.layout.n_layers)))
        return self.pack(self.keep(number, state))

    def unpack(self, number: int, arrived: tuple[Tensor, ...]) -> Depth:
        """The stream's state, from what arrived and what the rank holds."""
        if self.is_first:
            return self.stream.begin(self.embedding(arrived[0]))
        partial = None
        if self.layout.has_partial(self.index - 1):
            *arrived, partial = arrived
        return Depth((*self.store.blocks(number), *arrived), partial)

    def keep(self, number: int, state: Depth) -> Depth:
        """Store what the layout says and is there; arrived blocks before the layers read
        them, blocks completed here (mode "all") after."""
        completed, stored = list(state.completed), len(self.store.blocks(number))
        for block in range(stored, min(self.layout.kept(self.index).stop, len(completed))):
            completed[block] = self.store.keep(number, completed[block])
        return state._replace(completed=tuple(completed))

    def pack(self, state: Depth) -> tuple[Tensor, ...]:
        blocks = tuple(state.completed[block] for block in self.layout.sent(self.index))
        return blocks if state.partial is None else (*blocks, state.partial)


class Pipeline:
    """This rank's chunks of `model`, and the schedule that runs them.

    Made on every rank of the process group at once, from models of equal weights. Keeps
    the model's own modules, moved to `device`. shape: B and T of a micro-batch.
    store: a RankStore (to be replaced in tests). Raises ValueError for a model or a
    process group that does not fit the layout, and for a schedule that splits the
    backward pass.
    """

    def __init__(
        self, model: LM, layout: Layout, n_microbatches: int, shape: tuple[int, int],
        device: torch.device | str = "cpu", store: RankStore | None = None,
        schedule=ScheduleInterleaved1F1B, stage=CountingStage,
    ):
        check_model(model, layout)
        check_group(layout)
        order(layout.n_ranks, layout.n_virtual, n_microbatches, schedule)  # or ValueError
        self.n_microbatches, self.device = n_microbatches, torch.device(device)
        self.store = store if store is not None else RankStore()
        self.ledger = Ledger()
        mine = range(dist.get_rank(), layout.n_chunks, layout.n_ranks)
        self.chunks = [
            Chunk(model, layout, index, self.store).to(self.device) for index in mine
        ]
        self.stages = []
        for chunk in self.chunks:
            arrives, leaves = wire_shapes(model, chunk, shape)
            self.stages.append(
                stage(chunk, chunk.index, layout.n_chunks, self.device, arrives, leaves)
            )
            self.stages[-1].ledger = self.ledger
        self.schedule = schedule(self.stages, n_microbatches, loss_fn=mean_loss)

    def step(self, tokens: Tensor, targets: Tensor) -> float | None:
        """Forward and backward of a batch [M B, T]: parameters get the gradient of the
        mean loss, which the last chunk's rank returns, the others None.

        The first rank uses the tokens, the last the targets. Raises RuntimeError if
        something is left in the store.
        """
        for parameter in self.parameters():
            parameter.grad = None
        inputs, losses, outputs = (), [], {}
        if self.chunks[0].is_first:
            inputs = (tokens.to(self.device),)
        if self.chunks[-1].is_last:
            outputs = dict(target=targets.to(self.device), losses=losses)
        # The engine splits keyword arguments as it does the batch: each micro-batch is
        # told its number.
        numbers = torch.arange(self.n_microbatches)
        self.schedule.step(*inputs, microbatch=numbers, **outputs)
        self.store.check_empty()
        return torch.stack(losses).mean().item() if losses else None

    def parameters(self) -> list[nn.Parameter]:
        return [p for chunk in self.chunks for p in chunk.parameters()]

    def gradients(self) -> dict[str, Tensor]:
        """This rank's share, by the model's names. Each rank has a share in the stream's
        queries: the gradient of a model is the sum over ranks."""
        shares = [
            (name, parameter.grad)
            for chunk in self.chunks
            for name, parameter in chunk.named_parameters()
        ]
        return add_up(shares)


def add_up(shares) -> dict[str, Tensor]:
    """Sum of (name, gradient) pairs by name; None is no gradient."""
    total = {}
    for name, gradient in shares:
        if gradient is not None:
            total[name] = total[name] + gradient if name in total else gradient
    return total


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def wire_shapes(model: LM, chunk: Chunk, shape: tuple[int, int]):
    """Tensors without memory that tell the engine what arrives and what leaves. Left to
    itself it would find out by a trial run, which would go through the store."""
    config, dtype = model.config, model.embedding.weight.dtype

    def sources(count: int) -> tuple[Tensor, ...]:
        one = torch.empty(*shape, config.d_model, dtype=dtype, device="meta")
        return tuple(one.clone().requires_grad_() for _ in range(count))

    if chunk.is_first:
        arrives = (torch.empty(shape, dtype=torch.int64, device="meta"),)
    else:
        arrives = sources(chunk.layout.n_tensors(chunk.index - 1))
    if chunk.is_last:
        logits = torch.empty(*shape, config.vocab_size, dtype=dtype, device="meta")
        leaves = (logits.requires_grad_(),)
    else:
        leaves = sources(chunk.layout.n_tensors(chunk.index))
    return arrives, leaves


def check_model(model: LM, layout: Layout) -> None:
    stream, config = model.stream, model.config
    # A subclass may not read every block, and no gradient would come back for the rest.
    if type(stream) not in (BlockAttnRes, FullAttnRes):
        raise ValueError(
            f"the model's stream is {type(stream).__name__}: the pipeline ships the state "
            "of AttnRes, so take residual 'block' or 'full'"
        )
    for name, has in (("n_layers", config.n_layers), ("block_size", stream.block_size)):
        if getattr(layout, name) != has:
            raise ValueError(
                f"the layout's {name} is {getattr(layout, name)}, the model's is {has}: "
                "make them equal"
            )
    if config.tied_head:
        raise ValueError(
            "tied_head is True, but the embedding and the output head lie on different "
            "ranks: train with tied_head=False"
        )


def check_group(layout: Layout) -> None:
    if not dist.is_initialized():
        raise ValueError(
            "there is no process group: start with torch.distributed.run, or through "
            "attnres_ref.pipeline.launch"
        )
    if layout.n_ranks < 2:
        raise ValueError("n_ranks is 1: nothing would be sent, so run the model itself")
    if dist.get_world_size() != layout.n_ranks:
        raise ValueError(
            f"world size is {dist.get_world_size()}, the layout has n_ranks "
            f"{layout.n_ranks}: start as many processes as the layout has ranks"
        )
