"""Measurements on a model. A residual is read and written, so a probe is one more
stream: it passes everything through and keeps what it saw."""

import weakref
from collections.abc import Callable, Sequence
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnres_ref.views import read_through, with_parts


class Trace(nn.Module):
    """Any stream, and what passes through it in one forward pass."""

    def __init__(self, stream: nn.Module):
        super().__init__()
        self.stream = stream
        self.inputs: list[Tensor] = []     # h_l of layer l, last: the final read
        self.outputs: list[Tensor] = []    # f_l(h_l), [B, T, d] each

    def begin(self, embedding):
        return self.stream.begin(embedding)

    def read(self, state, layer):
        self.inputs.append(self.stream.read(state, layer))
        return self.inputs[-1]

    def write(self, state, layer, output):
        self.outputs.append(output)
        return self.stream.write(state, layer, output)


@torch.no_grad()
def trace(model: nn.Module, tokens: Tensor) -> Trace:
    """The inputs (L + 1) and outputs (L) of all layers for tokens [B, T]. Raises ValueError
    for a model whose layers look for their stream elsewhere, as under the adapter."""
    seen = Trace(model.stream)
    with_parts(model, stream=seen)(tokens)
    if len(seen.outputs) != len(model.layers):
        raise ValueError(
            f"model has {len(model.layers)} layers, {len(seen.outputs)} wrote to the stream"
            " put in: set `model.stream = Trace(model.stream)` and run the model"
        )
    return seen


def rms(x: Tensor) -> float:
    """Root mean square over all entries: the size of a typical channel."""
    return x.float().square().mean().sqrt().item()


def magnitudes(model: nn.Module, tokens: Tensor) -> tuple[list[float], list[float]]:
    """RMS of every layer's input h_l (L + 1, the final read last) and of every
    layer's output f_l(h_l) (L); Fig. 5."""
    seen = trace(model, tokens)
    return [rms(h) for h in seen.inputs], [rms(v) for v in seen.outputs]


@torch.enable_grad()
def gradient_norms(model: nn.Module, inputs: Tensor, targets: Tensor) -> list[float]:
    """Norm of the loss' gradient in every layer's parameters (L), for int64 [B, T] inputs
    and targets; Fig. 5. Gradients that the model holds stay as they are."""
    loss = F.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten())
    layers = [[p for p in f.parameters() if p.requires_grad] for f in model.layers]
    learning = sum(layers, [])
    found = iter(torch.autograd.grad(loss, learning) if learning else ())
    return [
        torch.nn.utils.get_total_norm([next(found) for _ in layer]).item()
        for layer in layers
    ]


def dynamics(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """Everything Fig. 5 shows of a model at one moment, layer by layer, as JSON."""
    read, written = magnitudes(model, inputs)
    gradient = gradient_norms(model, inputs, targets)
    return dict(input_rms=read, output_rms=written, gradient_norm=gradient)


def unevenness(values: Sequence[float]) -> tuple[float, float]:
    """Largest over smallest, and coefficient of variation, of positive values."""
    return max(values) / min(values), stdev(values) / mean(values)


def depth_weights(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Weights of every read, averaged over tokens: L + 1 tensors [n] (Fig. 8). They are
    the model's own: a softmax's sum to one, sigmoids do not. Raises ValueError unless every
    read is one `attend`, and what `attend` raises where it returns no weights."""
    return at_every_read(model, tokens, lambda weights, _: weights.flatten(1).mean(1))


@torch.no_grad()
def at_every_read(model: nn.Module, tokens: Tensor, look: Callable) -> list:
    """look(weights [n, B, T], sources) at each of the L + 1 depth reads of tokens."""
    seen, own = [], getattr(model.stream, "attend", None)

    def attend(query, sources, norm_weight=None):
        mixed, weights = own(query, sources, norm_weight, return_weights=True)
        seen.append(look(weights, sources))
        return mixed

    read_through(model, attend, tokens)
    return seen


def saved_bytes(model: nn.Module, forward) -> int:
    """Bytes that autograd keeps for the backward of `forward()`, beyond the parameters.

    Every storage counts once, however many operations saved a view of it: this is
    what stays allocated, and what lean operators keep small.
    """
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()             # alive until counted, so no address is reused
    del result
    return sum(storages.values())


def kept_bytes(forward) -> int:
    """Bytes that `forward()` has allocated and that are still held when it returns, by what
    it returned or for its backward. Other than `saved_bytes` it sees, too, what activation
    checkpointing holds on to in order to run a region again."""
    with Allocations() as allocations:
        result = forward()             # with its graph, and whatever that holds
    kept = sum(storage.nbytes() for storage in allocations.alive())
    del result
    return kept


class Allocations(TorchDispatchMode):
    """Notes every storage that an operation makes, and holds none of them."""

    def __init__(self):
        super().__init__()
        self.known = {}                # id of a storage -> weak reference, and if it is new

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.note((args, kwargs), new=False)           # what was there before
        made = function(*args, **kwargs)
        self.note(made, new=True)
        return made

    def note(self, values, new: bool) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference, _ = self.known.get(id(storage), (None, None))
                if reference is None or reference() is not storage:
                    self.known[id(storage)] = weakref.ref(storage), new

    def alive(self) -> list[torch.UntypedStorage]:
        storages = (reference() for reference, new in self.known.values() if new)
        return [storage for storage in storages if storage is not None]
