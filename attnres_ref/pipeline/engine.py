"""The course's LM on PyTorch's pipeline engine, with the cache of sec. 4.1.

`PipelineStage` and `ScheduleInterleaved1F1B` are used as they are: they move tensors
between processes and run the chunks in order. The cache is in what a chunk returns, the
tensors that the next rank lacks, and in the rank's store. gloo between CPUs, nccl
between GPUs.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.pipelining import ScheduleInterleaved1F1B

from attnres_ref.model import LM
from attnres_ref.pipeline.counting import CountingStage, Traffic
from attnres_ref.pipeline.layout import Layout
from attnres_ref.pipeline.memory import check_recompute, recomputed
from attnres_ref.pipeline.simulate import order
from attnres_ref.pipeline.store import RankStore
from attnres_ref.streams import BlockAttnRes, Depth, FullAttnRes


class Chunk(nn.Module):
    """Some consecutive layers of a model: what arrives -> what the next rank lacks.

    The loop is the model's, and so are the modules, with the names they have there. The
    rank's chunks share its stream, and each uses the queries of its own layers.
    """

    def __init__(
        self, model: LM, layout: Layout, index: int, store: RankStore, recompute: int = 0
    ):
        super().__init__()
        self.recompute = recompute
        self.layout, self.index, self.store = layout, index, store
        self.is_first, self.is_last = index == 0, index == layout.n_chunks - 1
        later = index + layout.n_ranks             # the rank's next chunk, if there is one
        self.n_kept = layout.held(later) if later < layout.n_chunks else 0
        self.layers = nn.ModuleDict(
            {str(layer): model.layers[layer] for layer in layout.layers(index)}
        )
        self.stream = model.stream
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
        if not self.n_kept:                        # naive, or the rank's last chunk
            self.store.drop(number)
        # The store stays outside: run again, it would keep every block twice.
        state = recomputed(
            self.run, self.layout.layers(self.index), state, self.recompute
        )
        if self.is_last:
            return self.head(self.norm(self.stream.read(state, self.layout.n_layers)))
        next_rank_holds = self.layout.held(self.index + 1)
        return self.keep(number, state).sources[next_rank_holds:]

    def run(self, layers: range, state: Depth) -> Depth:
        for layer in layers:
            f = self.layers[str(layer)]
            state = self.stream.write(state, layer, f(self.stream.read(state, layer)))
        return state

    def unpack(self, number: int, arrived: tuple[Tensor, ...]) -> Depth:
        """The stream's state, from what arrived and what the rank holds."""
        if self.is_first:
            return self.stream.begin(self.embedding(arrived[0]))
        partial = None
        if self.layout.has_partial(self.index - 1):
            *arrived, partial = arrived
        return Depth((*self.store.blocks(number), *arrived), partial)

    def keep(self, number: int, state: Depth) -> Depth:
        """Store what the rank's next chunk will need and is there; arrived blocks before
        the layers read them, blocks completed here (mode "all") after."""
        completed, stored = list(state.completed), len(self.store.blocks(number))
        for block in range(stored, min(self.n_kept, len(completed))):
            completed[block] = self.store.keep(number, completed[block])
        return state._replace(completed=tuple(completed))


class Pipeline:
    """This rank's chunks of `model`, and the schedule that runs them.

    Made on every rank of the process group at once, from models of equal weights. Keeps
    the model's own modules, moved to the rank's GPU under nccl. shape: B and T of a
    micro-batch; store, schedule, stage: classes, to be replaced in experiments; recompute:
    as in `memory.recomputed`. Raises ValueError for a model or a process group that does
    not fit the layout, for a schedule that splits the backward pass, and for a `recompute`
    that is no whole number.
    """

    def __init__(
        self, model: LM, layout: Layout, n_microbatches: int, shape: tuple[int, int],
        store=RankStore, schedule=ScheduleInterleaved1F1B, stage=CountingStage,
        recompute: int = 0,
    ):
        check_recompute(recompute)
        check_model(model, layout)
        check_group(layout)
        order(layout.n_ranks, layout.n_virtual, n_microbatches, schedule)  # or ValueError
        self.device = torch.device("cpu")
        if dist.get_backend() == "nccl":
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.n_microbatches = n_microbatches
        self.store = store()
        self.traffic = Traffic()
        self.chunks, self.stages = [], []
        for index in range(dist.get_rank(), layout.n_chunks, layout.n_ranks):
            chunk = Chunk(model, layout, index, self.store, recompute).to(self.device)
            wires = wire_shapes(model, chunk, shape)
            self.chunks.append(chunk)
            self.stages.append(stage(chunk, index, layout.n_chunks, self.device, *wires))
            self.stages[-1].traffic = self.traffic
        self.parameters = {            # by the model's names; the stream's on every rank
            name: p for chunk in self.chunks for name, p in chunk.named_parameters()
        }
        # The engine would divide gradients by M once for each chunk, and the stream is in
        # all of them: so the losses are divided instead.
        self.schedule = schedule(
            self.stages, n_microbatches, scale_grads=False,
            loss_fn=lambda *outputs: mean_loss(*outputs) / n_microbatches,
        )

    def step(self, tokens: Tensor, targets: Tensor) -> float | None:
        """Forward and backward of a batch [M B, T]: parameters' gradients grow by that of
        the mean loss, which the last chunk's rank returns, the others None.

        The first rank uses the tokens, the last the targets. Raises RuntimeError if
        something is left in the store.
        """
        last, losses = self.chunks[-1].is_last, []
        inputs = (tokens.to(self.device),) if self.chunks[0].is_first else ()
        outputs = dict(target=targets.to(self.device), losses=losses) if last else {}
        # The engine splits keyword arguments as it does the batch: each micro-batch is
        # told its number.
        numbers = torch.arange(self.n_microbatches)
        self.schedule.step(*inputs, microbatch=numbers, **outputs)
        self.store.check_empty()
        return sum(losses).item() if last else None

    def gradients(self) -> dict[str, Tensor]:
        """This rank's share, by the model's names, on the CPU. In the stream each rank
        has that of its own reads: the gradient of the model is the sum over ranks."""
        parameters = self.parameters.items()
        return {name: p.grad.cpu() for name, p in parameters if p.grad is not None}


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def wire_shapes(model: LM, chunk: Chunk, shape: tuple[int, int]):
    """Tensors without memory that tell the engine what arrives and what leaves. Left to
    itself it would find out by a trial run, which would go through the store."""
    kind = dict(dtype=model.embedding.weight.dtype, device="meta", requires_grad=True)

    def sources(transition: int) -> tuple[Tensor, ...]:
        count, width = chunk.layout.n_tensors(transition), model.config.d_model
        return tuple(torch.empty(*shape, width, **kind) for _ in range(count))

    tokens = torch.empty(shape, dtype=torch.int64, device="meta")
    logits = torch.empty(*shape, model.config.vocab_size, **kind)
    arrives = (tokens,) if chunk.is_first else sources(chunk.index - 1)
    leaves = (logits,) if chunk.is_last else sources(chunk.index)
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
