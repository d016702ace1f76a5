"""What a block of somebody else's decoder does, found out by running it with stand-ins.

A block in the usual style is a few layers in a row, each `h = h + k f(norm(h))`. Which of
its parts make up an f, and what they are called, differs from family to family: Gemma 2 has
a norm after its MLP, Granite multiplies what it adds, Phi-3 applies dropout to it. No list
of names stays right for long, but the block's own `forward` knows. So that runs once, with
a stand-in for every part. Each stand-in answers with a unit vector of its own; therefore
the coordinates of whatever a later part reads, or the block returns, say what it is the sum
of.

Not everything can be seen so. What a block does by chance, by a global or by the size of
its input, may pass: compare the converted decoder on PreNorm with the one before.
"""

import copy
import inspect
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

WIDTH = 64                             # coordinates: more than a block calls parts
FAR = -(2.0**20)                       # beyond any clamp; times a power of two is exact
KNOWN = "convert knows blocks whose layers follow each other as h = h + k f(norm(h))"


@dataclass(frozen=True)
class Argument:
    """Stands for an argument of the block, wherever a part is given it. It can be given on
    and compared with None, no more: what a block decides by it, or takes out of it, would
    not be known."""

    name: str

    def looked_into(self, *_):
        raise ValueError(f"it looks into its argument `{self.name}`")

    __bool__ = __iter__ = __len__ = __getitem__ = looked_into


HIDDEN = Argument("what the part reads")
REST = "arguments that the block does not name"


class Call(NamedTuple):
    """How the block calls one of its parts."""

    part: str                          # the part's name in the block
    args: tuple                        # HIDDEN, another Argument, or a constant
    keywords: dict                     # the same by name; REST where all others go, too

    def __call__(self, block: nn.Module, h: Tensor, given: dict) -> Tensor:
        """What the part returns for h [B, T, d]; given: arguments of the block by name."""
        values = given | {HIDDEN.name: h}
        keywords = {k: filled(x, values) for k, x in self.keywords.items() if k != REST}
        rest = given[REST] if REST in self.keywords else {}
        returned = getattr(block, self.part)(*filled(self.args, values), **keywords, **rest)
        # Attentions return (output, weights), some mixtures of experts (output, logits).
        return returned[0] if isinstance(returned, tuple) else returned


def filled(template, values: dict):
    """The template with a value for every Argument, also within tuples and lists."""
    if isinstance(template, Argument):
        return values[template.name]
    if type(template) in (tuple, list):
        return type(template)(filled(part, values) for part in template)
    return template


class Layer(NamedTuple):
    """A layer of the stream: its calls in a row, the norm first, and k."""

    calls: tuple[Call, ...]
    weight: float


class Anatomy(NamedTuple):
    """All that is needed to run a block without its sums."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]             # of the block's arguments, the hidden state first
    defaults: dict
    has_rest: bool                     # whether it takes others as well

    def given(self, args: tuple, keywords: dict) -> dict:
        """The block's arguments by name. Raises TypeError as the block itself would."""
        given = self.defaults | dict(zip(self.names, args)) | keywords
        rest = {name: given.pop(name) for name in set(given) - set(self.names)}
        missing = [name for name in self.names if name not in given]
        if missing or rest and not self.has_rest or len(args) > len(self.names):
            raise TypeError(
                f"a block got {len(args)} positional arguments and {sorted(keywords)}: its "
                f"forward takes {', '.join(self.names)}"
            )
        return given | {REST: rest}


def anatomy(block: nn.Module) -> Anatomy:
    """Of a block, from runs of its `forward` in both modes; the block stays as it is.
    Raises ValueError that says what about it convert does not know."""
    own = [name for name, _ in (*block._parameters.items(), *block._buffers.items())]
    if own:
        raise refusal(block, f"has {', '.join(own)} beside its parts, which would be lost")
    forward = type(block).forward.__get__(block)
    first, *others = inspect.signature(forward).parameters.values()
    named = [p for p in others if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    has_rest = any(p.kind == p.VAR_KEYWORD for p in others)
    arguments = {p.name: Argument(p.name) for p in named}
    arguments |= {REST: Argument(REST)} if has_rest else {}
    layers = layers_of(block, arguments)
    if layers != layers_of(block, arguments, training=True):
        raise refusal(block, "computes something else while it trains")
    layers_of(block, arguments, dtype=torch.bfloat16)      # would show a cast to float32
    called = {call.part for layer in layers for call in layer.calls}
    if unused := [name for name, part in block.named_children() if name not in called]:
        raise refusal(block, f"has parts that its forward did not call: {unused}")
    defaults = {p.name: p.default for p in named if p.default is not p.empty}
    return Anatomy(layers, (first.name, *(p.name for p in named)), defaults, has_rest)


def layers_of(
    block: nn.Module, arguments: dict, training=False, dtype=torch.float64
) -> tuple[Layer, ...]:
    """The block's layers, read off a run with stand-ins."""
    calls = []                         # every call, and the coordinates of what it read

    def stand_in(name: str):
        def part(*args, **keywords) -> Output:
            given = (*args, *keywords.values())
            seen = [coordinates(x, dtype) for x in given if isinstance(x, Tensor)]
            if not seen or any(not torch.equal(x, seen[0]) for x in seen):
                raise ValueError(f"{name} is not given one hidden state")
            args = tuple(HIDDEN if isinstance(x, Tensor) else x for x in args)
            keywords = {
                k: HIDDEN if isinstance(x, Tensor) else x for k, x in keywords.items()
            }
            calls.append((Call(name, args, keywords), seen[0]))
            return unit(len(calls), dtype).as_subclass(Output)
        return part

    probe = copy.copy(block)           # its own dictionary, but the block's own values
    probe.__dict__["training"] = training
    probe.__dict__["_modules"] = {
        name: part and stand_in(name) for name, part in block._modules.items()
    }
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            returned = type(block).forward(probe, unit(0, dtype), **arguments)
        if not isinstance(returned, Tensor):
            raise ValueError(f"it returns a {type(returned).__name__}, not a tensor")
        return layers_in(calls, coordinates(returned, dtype))
    except Exception as error:         # whatever somebody else's code may raise
        raise refusal(block, f"cannot be followed: {error}") from error


def layers_in(calls: list, returned: Tensor) -> tuple[Layer, ...]:
    """Cut the row of calls where the sum is made. Raises ValueError where a part reads
    something that is neither the sum so far nor what the part before it returned."""
    one = torch.eye(WIDTH, dtype=returned.dtype, device="cpu")
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


class Output(Tensor):
    """What a part returns: a tensor, which may be taken for (tensor, attention weights)."""

    def __iter__(self):
        return iter((self, None))

    def __getitem__(self, index):
        return (self, None)[index]


def unit(i: int, dtype: torch.dtype) -> Tensor:
    """Two tokens, [1, 2, WIDTH]: the i-th unit vector, and FAR times that. On the CPU,
    whatever the default device is."""
    if i >= WIDTH:
        raise ValueError(f"it calls more than {WIDTH - 1} parts")
    hidden = torch.zeros(1, 2, WIDTH, dtype=dtype, device="cpu")
    hidden[0, 0, i], hidden[0, 1, i] = 1, FAR
    return hidden


def coordinates(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """[WIDTH] of a linear combination of units. Raises ValueError where it is none: the
    second token shows whether something bent, clamped or dropped what was added."""
    hidden = hidden.as_subclass(Tensor)
    if hidden.dtype != dtype or hidden.shape != (1, 2, WIDTH) or not torch.equal(
        FAR * hidden[0, 0], hidden[0, 1]
    ):
        raise ValueError("something other than a sum happens between its parts")
    return hidden[0, 0]


def is_norm(part: nn.Module, width: int) -> bool:
    """Whether x and 2 x give the same, so that the size of a weighted mean does not matter.
    Asked with weights of one, so that it does not matter where the weights are."""
    values = (*part.named_parameters(), *part.named_buffers())
    ones = {
        name: torch.ones(value.shape, dtype=torch.float64, device="cpu")
        for name, value in values
    }
    x = torch.linspace(-1e3, 2e3, 2 * width, dtype=torch.float64, device="cpu")
    x = x.reshape(1, 2, width)
    try:
        with torch.no_grad():
            once, twice = (functional_call(part, ones, (k * x,)) for k in (1, 2))
        return torch.allclose(once, twice, rtol=1e-3)
    except Exception:                  # it wants more than one argument: no norm
        return False


def refusal(block: nn.Module, why: str) -> ValueError:
    return ValueError(f"{type(block).__name__} {why}. {KNOWN}")
