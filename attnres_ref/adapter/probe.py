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

from attnres_ref.adapter.anatomy import HIDDEN, Call, Layer

WIDTH = 64                             # coordinates: more than a block calls parts
# What a token's vector is multiplied with. Powers of two are exact; the second is beyond
# any clamp.
FACTORS = (1.0, -(2.0**20), 0.5, -4.0, 8.0, -0.125)


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
        return self.made[-1]

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


class Output(Tensor):
    """What a part returns: a tensor, which may be taken for (tensor, attention weights)."""

    def __iter__(self):
        return iter((self, None))

    def __getitem__(self, index):
        return (self, None)[index]


def layers_of(block: nn.Module, arguments: dict, run: Run) -> tuple[Layer, ...]:
    """The block's layers, read off one run. Raises ValueError, or whatever somebody else's
    code raises that meets a stand-in."""
    calls, units = [], Units(run)      # every call, and the coordinates of what it read
    probe = copy.copy(block)           # its own dictionary, but the block's own values
    probe.__dict__["training"] = run.training
    probe.__dict__["gradient_checkpointing"] = False
    probe.__dict__["_modules"] = {
        name: part and stand_in(name, calls, units) for name, part in block._modules.items()
    }
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
    kept = [k for k, v in probe.__dict__.items() if k not in before or before[k] is not v]
    if kept:
        raise ValueError(f"it keeps {kept} of what it computes, which would be lost")
    return layers_in(calls, result, units.one)


def stand_in(name: str, calls: list, units: Units):
    """Answers with a unit, and notes in `calls` how it was called and what it was given."""
    def part(*args, **keywords) -> Output:
        modes = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        if modes != (True, units.autocast):
            raise ValueError(f"{name} runs without gradients, or in a precision of its own")
        given = (*args, *keywords.values())
        seen = [units.coordinates(x) for x in given if isinstance(x, Tensor)]
        if not seen or any(not torch.equal(x, seen[0]) for x in seen):
            raise ValueError(f"{name} is not given one hidden state")
        args = tuple(template(x) for x in args)
        calls.append((Call(name, args, {k: template(x) for k, x in keywords.items()}),
                      seen[0]))
        return units.new().as_subclass(Output)

    return part


def template(value):
    """What a part was given, to be filled in later. Raises ValueError for a tensor that
    stands in something else: whether it is the hidden state would not be known."""
    if isinstance(value, Tensor):
        return HIDDEN
    if isinstance(value, (tuple, list)) and any(isinstance(x, Tensor) for x in value):
        raise ValueError("it packs its hidden state with something else")
    return value


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
