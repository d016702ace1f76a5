"""A block's own `forward`, run with stand-ins for its parts.

Each stand-in answers with a unit vector of its own; therefore the coordinates of whatever a
later part reads, or the block returns, say what it is the sum of. Every token carries
another multiple of the vector, and gradients are followed as well, so that what bends,
clamps, drops or detaches something between the parts is seen.
"""

import copy
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnres_ref.adapter.anatomy import HIDDEN, Argument, Call, Layer

WIDTH = 64                             # coordinates: more than a block calls parts
# What a token's vector is multiplied with. Powers of two are exact; the second is beyond
# any clamp.
FACTORS = (1.0, -(2.0**100), 0.5, -4.0, 8.0, -0.125)


@dataclass(frozen=True)
class Run:
    """How the block is run: what it does must not depend on that."""

    training: bool = False
    dtype: torch.dtype = torch.float64
    shape: tuple[int, int] = (1, 2)    # B, T
    autocast: bool = False


class Units:
    """The unit vectors of a run, [B, T, WIDTH] each, on the CPU whatever the default device
    is: of the hidden state, then of each part that is called."""

    def __init__(self, run: Run):
        n_tokens = run.shape[0] * run.shape[1]
        like = dict(dtype=run.dtype, device="cpu")
        self.factors = torch.tensor(FACTORS[:n_tokens], **like).reshape(*run.shape, 1)
        self.one, self.made, self.autocast = torch.eye(WIDTH, **like), [], run.autocast

    def new(self) -> Tensor:
        if len(self.made) == WIDTH:
            raise ValueError(f"it calls more than {WIDTH - 1} parts")
        self.made.append((self.factors * self.one[len(self.made)]).requires_grad_())
        return self.made[-1].clone()   # which may be changed in place

    def coordinates(self, hidden: Tensor) -> Tensor:
        """[WIDTH] of a sum of units. Raises ValueError where it is none, and where the
        gradient of a unit is not what the sum says."""
        hidden, last = hidden.as_subclass(Tensor), self.factors.shape[:2] + (WIDTH,)
        if hidden.dtype != self.one.dtype or hidden.shape != last or not torch.equal(
            hidden, self.factors * hidden[0, 0]
        ):
            raise ValueError("something other than a sum happens between its parts")
        found = hidden[0, 0].detach().clone()
        gradients = torch.autograd.grad(
            hidden.sum(), self.made, retain_graph=True, materialize_grads=True
        ) if hidden.requires_grad else [torch.zeros_like(unit) for unit in self.made]
        for unit, gradient, weight in zip(self.made, gradients, found):
            if not torch.equal(gradient, weight.expand_as(unit)):
                raise ValueError("something between its parts keeps gradients back")
        return found


class Watched(Argument):
    """An argument during a run. It can be given on and compared with None, no more: what a
    block decides by it, or takes out of it, would not be known."""

    def looked_into(self, *_):
        raise ValueError(f"it looks into its argument `{self.name}`")

    __bool__ = __iter__ = __len__ = __getitem__ = __hash__ = looked_into

    def __eq__(self, other) -> bool:
        return other is self or other is not None and self.looked_into()

    def __getattr__(self, name):
        raise AttributeError(f"it looks into its argument `{self.name}`")


class Output(Tensor):
    """What a part returns: a tensor, which may be taken for (tensor, attention weights)."""

    second = Watched("what a part returns besides")

    def __iter__(self):
        return iter((self, self.second))

    def __getitem__(self, index):
        return (self, self.second)[index]


def layers_of(block: nn.Module, arguments: dict, run: Run) -> tuple[Layer, ...]:
    """The block's layers, read off one run. Raises ValueError, or whatever somebody else's
    code raises that meets a stand-in."""
    calls, units = [], Units(run)      # every call, and the coordinates of what it read
    for key, x in arguments.items():
        arguments = arguments | {key: Watched(x.name) if isinstance(x, Argument) else x}
    probe = shell(block, run, {
        name: None if part is None else StandIn(name, calls, units)
        for name, part in block._modules.items()
    })
    before, chance = dict(probe.__dict__), (torch.random.get_rng_state(), random.getstate())
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=run.autocast):
        try:
            returned = type(block).forward(probe, units.new(), **arguments)
            drew = not torch.equal(torch.random.get_rng_state(), chance[0])
            drew |= random.getstate() != chance[1]
        finally:
            torch.random.set_rng_state(chance[0])
            random.setstate(chance[1])
        if not isinstance(returned, Tensor):
            raise ValueError(f"it returns a {type(returned).__name__}, not a tensor")
        result = units.coordinates(returned)
    if drew:
        raise ValueError("it draws random numbers between its parts")
    kept = [
        key for key, x in vars(probe).items() if key not in before or before[key] is not x
        or type(x) in (list, dict, set) and len(x) != len(vars(block).get(key, x))
    ]
    if kept:
        raise ValueError(f"it keeps {kept} of what it computes, which would be lost")
    return layers_in(calls, result, units.one)


def shell(block: nn.Module, run: Run, parts: dict) -> nn.Module:
    """The block with other parts. What it notes down goes into copies of its own."""
    probe = copy.copy(block)
    for key, x in vars(block).items():
        if type(x) in (list, dict, set):
            vars(probe)[key] = copy.copy(x)
    # transformers wraps forward in a checkpoint; the class on the stream gets that as well.
    vars(probe).update(training=run.training, gradient_checkpointing=False, _modules=parts)
    return probe


class StandIn:
    """Answers with a unit, and notes in `calls` how it was called and what it was given."""

    def __init__(self, name: str, calls: list, units: Units):
        self.name, self.calls, self.units = name, calls, units

    def __call__(self, *args, **keywords) -> Output:
        name, units = self.name, self.units
        if torch._C._autograd._top_saved_tensors_default_hooks(True):
            raise ValueError(f"it checkpoints {name} itself, which would be lost")
        modes = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        if modes != (True, units.autocast):
            raise ValueError(f"{name} runs without gradients, or in a precision of its own")
        given = (*args, *keywords.values())
        seen = [units.coordinates(x) for x in given if isinstance(x, Tensor)]
        if not seen or any(not torch.equal(x, seen[0]) for x in seen):
            raise ValueError(f"{name} is not given one hidden state")
        args = tuple(template(x) for x in args)
        keywords = {key: template(x) for key, x in keywords.items()}
        self.calls.append((Call(name, args, keywords), seen[0]))
        return units.new().as_subclass(Output)

    def taken_apart(self, *_):
        raise ValueError(f"it takes something out of its part {self.name}")

    __iter__ = __len__ = __getitem__ = __getattr__ = taken_apart


def template(value):
    """What a part was given, to be filled in later. Raises ValueError for a tensor that
    stands in something else: whether it is the hidden state would not be known."""
    if isinstance(value, Tensor):
        return HIDDEN
    if type(value) is Watched:
        return Argument(value.name)
    if type(value) not in (tuple, list):
        return value
    if any(isinstance(x, Tensor) for x in value):
        raise ValueError("it packs its hidden state with something else")
    return type(value)(map(template, value))


def layers_in(calls: list, returned: Tensor, one: Tensor) -> tuple[Layer, ...]:
    """Cut the row of calls where the sum is made. Raises ValueError where a part reads
    something that is neither the sum so far nor what the part before it returned."""
    total, layers, row = one[0], [], []
    for i, (call, read) in enumerate([*calls, (None, returned)]):
        if row and call and torch.equal(read, one[i]):
            row.append(call)           # it reads what the part before it returned
            continue
        if row:
            weight = read[i].item()
            total = total + weight * one[i]
            layers.append(Layer(tuple(row), weight))
        if not torch.equal(read, total) or row and weight == 0:
            what = f"{call.part} reads" if call else "it returns"
            raise ValueError(f"{what} something else than the sum so far")
        row = [call]
    if not layers:
        raise ValueError("it adds nothing to what it is given")
    return tuple(layers)
