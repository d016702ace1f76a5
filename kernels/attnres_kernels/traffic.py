"""What the residual stream of a whole model moves in one training step, counted.

    python -m attnres_kernels.traffic --json notebooks/recorded/traffic.json

runs each stream forward and backward between layers that do nothing, and counts what
every operator reads and writes: PyTorch's, the kernels', and autograd's additions, for
the gradients of a source with several readers are added in pairs. The tensors are
PyTorch's fake ones: operators and autograd run as ever, on shapes without numbers.

Units are u = T d elements, one pass over one source; numbers per token (scores, lse) and
parameters are left out. Columns: the operators of forward and of backward, autograd's
additions, their total; `live`: the most that lives at a time of what backward allocates.

Every argument counts as read once and every result as written once, so the second loops
of the backward kernels count as finding the sources in the L2 cache. Phase 1's backward
counts once for each of its launches, which take four queries at this d. All is float32:
in half precision the reference operator would copy the sources besides. While someone
counts, autograd adds to a new tensor and never in place: that moves as much, and lets
`live` be up to 1 u larger.
"""

import argparse
import json
import sys
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnres_kernels.depth import depth_attention
from attnres_kernels.interpret import available, interpreting
from attnres_kernels.phase_one_operators import query_tiles
from attnres_kernels.two_phase import TwoPhase
from attnres_ref.bench import timing
from attnres_ref.bench.options import count as whole
from attnres_ref.bench.options import output_file
from attnres_ref.chained import Chained
from attnres_ref.streams import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.training.provenance import provenance, require_clean

T, D = 8192, 1024                      # no parameter is as large as T d
aten = torch.ops.aten
# Operators that do not read their first argument, and those that neither read nor write.
UNREAD = aten.copy_, aten.fill_, aten.zero_, aten.zeros_like, aten.ones_like, aten.new_zeros
ALLOCATE = aten.empty, aten.empty_like, aten.new_empty, aten.empty_strided
GROUPS = 1, 2, 3, 4, 5, 6, 8, 12, 24   # group sizes for Full in two phases


@torch.library.custom_op("traffic::layer", mutates_args=())
def layer(h: Tensor) -> Tensor:
    """Stands for a layer. What layers move is not the stream's, so it is not counted."""
    return h.clone()


layer.register_fake(torch.empty_like)
layer.register_autograd(lambda ctx, gradient: layer(gradient))


def in_u(tensor) -> int:
    """Its size in u; 0 for parameters, for numbers per token, and for what is no tensor."""
    return tensor.numel() // (T * D) if isinstance(tensor, Tensor) else 0


class Counter(TorchDispatchMode):
    """Counts, in u, what operators move while it is on; `phase` says where it belongs."""

    def __init__(self):
        super().__init__()
        self.phase, self.live, self.most_live = "forward", 0, 0
        self.moved = dict(forward=0, backward=0, additions=0)

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        results = operator(*arguments, **(options or {}))
        made, phase = allocated(operator, results), self.phase
        if operator.namespace in ("aten", "attnres"):
            adds = operator.overloadpacket in (aten.add, aten.add_)
            phase = "additions" if adds and phase == "backward" else phase
            self.moved[phase] += moved(operator, arguments, made)
        for tensor in made if self.phase == "backward" else []:
            if size := in_u(tensor):
                self.change(size)
                weakref.finalize(tensor.untyped_storage(), self.change, -size)
        return results

    def change(self, size):
        self.live += size
        self.most_live = max(self.live, self.most_live)


def allocated(operator, results) -> list:
    """The tensors that an operator has made: no views, nothing that it wrote in place."""
    places = operator._schema.returns
    returned = results if len(places) > 1 else [results]
    return tree_leaves([x for x, at in zip(returned, places) if at.alias_info is None])


def moved(operator, arguments, made) -> int:
    """What an operator reads and writes, in u."""
    if operator.is_view or operator.overloadpacket in ALLOCATE:
        return 0
    read = arguments[operator.overloadpacket in UNREAD :]
    written = [x for x, at in zip(arguments, operator._schema.arguments) if at.is_write]
    everything = tree_leaves((read, written, made))
    return sum(map(in_u, everything)) + again(operator, arguments)


def again(operator, arguments) -> int:
    """What phase 1's backward moves once more for each further launch: see query_tiles."""
    if operator is not torch.ops.attnres.phase_one_backward.default:
        return 0
    _, _, sources, queries, _ = arguments
    return 3 * len(sources) * (len(query_tiles(*queries.shape)) - 1)


@dataclass
class Row:
    """The traffic of one stream's training step, in u."""

    stream: str
    forward: int
    backward: int
    additions: int
    total: int
    live: int


def count(name: str, stream: nn.Module, n_layers: int) -> Row:
    """One forward and one backward pass of a bare stream."""
    device = "cpu" if interpreting() else "cuda"
    with FakeTensorMode(allow_non_fake_inputs=True):
        leaf = torch.randn(1, T, D, device=device, requires_grad=True)
        gradient = torch.ones_like(leaf)
        with Counter() as counter:
            state = stream.begin(layer(leaf))
            for i in range(n_layers):
                state = stream.write(state, i, layer(stream.read(state, i)))
            hidden = stream.read(state, n_layers)
            del state
            counter.phase = "backward"
            torch.autograd.grad(hidden, [leaf, *stream.parameters()], gradient)
    total = sum(counter.moved.values())
    return Row(name, **counter.moved, total=total, live=counter.most_live)


def streams(L: int, S: int) -> Iterator[tuple[str, nn.Module]]:
    """Every stream of the table: L layers, blocks of S."""
    yield "PreNorm", PreNorm(L, D)
    yield "Block, reference", BlockAttnRes(L, D, S)
    yield "Block, chained", Chained(BlockAttnRes(L, D, S))
    yield "Block, kernels", BlockAttnRes(L, D, S, depth_attention)
    yield "Block, two phases", TwoPhase(BlockAttnRes(L, D, S))
    yield "Full, reference", FullAttnRes(L, D)
    yield "Full, chained", Chained(FullAttnRes(L, D))
    yield "Full, kernels", FullAttnRes(L, D, depth_attention)
    for size in GROUPS:
        if size <= L:
            yield f"Full, two phases of {size}", TwoPhase(FullAttnRes(L, D), size)


COLUMNS = [("stream", "{name:22s}"), *(
    (title, f"{{{title}:8d}}")
    for title in ("forward", "backward", "additions", "total", "live")
)]


def table(rows: list[Row]) -> str:
    """The rows as text."""
    return timing.table({row.stream: asdict(row) for row in rows}, COLUMNS)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=whole, default=24, help="L (default: 24)")
    parser.add_argument("--block-size", type=whole, default=4, help="S (default: 4)")
    parser.add_argument("--json", type=output_file, help="write the record here")
    options = parser.parse_args(arguments)
    if not available():
        sys.exit("Triton is not installed here: without it our operators refuse to run.")
    if options.json:
        require_clean()
    L, S = options.layers, options.block_size
    rows = [count(name, stream, L) for name, stream in streams(L, S)]
    print(table(rows))
    if options.json:
        facts = provenance(torch.device("cpu"), layers=L, block_size=S)
        record = dict(rows=[asdict(row) for row in rows], **facts)
        text = json.dumps(record, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
