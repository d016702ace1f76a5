"""The anatomy of a block, from runs of its own `forward` with stand-ins (probe.py).

Not everything can be seen so. What a block does by a global, by a clock, by the type of an
argument, or to an object that it shares may pass, and so may a checkpointing of its own
that a flag turns on: compare the converted decoder on PreNorm with the one before.
"""

import ast
import inspect

import torch
from torch import nn
from torch.func import functional_call

from attnres_ref.adapter.anatomy import REST, Anatomy, Argument, Layer
from attnres_ref.adapter.probe import Run, layers_of

USUAL = Run()
KNOWN = "convert knows blocks whose layers follow each other as h = h + k f(norm(h))"


def anatomy(block: nn.Module) -> Anatomy:
    """What the block does, in whatever mode and size; the block stays as it is. Raises
    ValueError that says what about it convert does not know."""
    check_outside(block)
    forward = type(block).forward.__get__(block)
    first, *others = inspect.signature(forward).parameters.values()
    named = [p for p in others if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    rest = [p for p in others if p.kind == p.VAR_KEYWORD]
    if len(named) + len(rest) < len(others):
        raise refusal(block, "takes arguments by position that it does not name")
    if rest and looks_into(block, forward, rest[0].name):
        raise refusal(block, f"looks into its arguments `{rest[0].name}`")
    defaults = {p.name: p.default for p in named if p.default is not p.empty}
    arguments = known(block, [p.name for p in named], defaults)
    arguments |= {REST: Argument(REST)} if rest else {}
    layers = followed(block, arguments)
    check_modes(block, arguments, layers, defaults)
    called = {call.part for layer in layers for call in layer.calls}
    if unused := [name for name, part in block.named_children() if name not in called]:
        raise refusal(block, f"has parts that its forward did not call: {unused}")
    fixed = tuple(name for name in defaults if name not in arguments)
    names = (first.name, *(p.name for p in named))
    return Anatomy(layers, names, defaults, fixed, bool(rest))


def check_outside(block: nn.Module) -> None:
    """Refuse a block that has something beside its forward and its parts."""
    own = [*block._parameters, *block._buffers]
    if own:
        raise refusal(block, f"has {', '.join(own)} beside its parts, which would be lost")
    if "forward" in vars(block):
        raise refusal(block, "has a forward of its own, set on the object")
    if block._backward_hooks or block._backward_pre_hooks:
        raise refusal(block, "has backward hooks, which see no tensors on a stream")
    if hasattr(block, "fitting"):
        raise refusal(block, "has an attribute `fitting`, the name that convert needs")


def known(block: nn.Module, names: list[str], defaults: dict) -> dict[str, Argument]:
    """The arguments that the block can be given: all, or where it takes a way of its own
    for one, as GPT-2 does with an encoder's states, those that it only gives on."""
    every = {name: Argument(name) for name in names}
    try:
        layers_of(block, every, USUAL)
        return every
    except Exception:
        some = {name: every[name] for name in names if name not in defaults}
    plain = followed(block, some)
    for name in defaults:
        try:
            found = layers_of(block, some | {name: every[name]}, USUAL)
        except Exception:
            continue
        if [len(layer.calls) for layer in found] == [len(layer.calls) for layer in plain]:
            some[name] = every[name]
    return some


def followed(block: nn.Module, arguments: dict, run: Run = USUAL) -> tuple[Layer, ...]:
    try:
        return layers_of(block, arguments, run)
    except Exception as error:         # whatever somebody else's code may raise
        why = str(error).rstrip(".") or type(error).__name__
        raise refusal(block, f"cannot be followed: {why}") from error


def check_modes(block: nn.Module, arguments: dict, layers: tuple, defaults: dict) -> None:
    """Refuse a block that does something else while it trains, for another size or dtype,
    or where an argument has its default, or is None."""
    if followed(block, arguments, Run(training=True, shape=(3, 1))) != layers:
        raise refusal(block, "computes something else while it trains, or for another size")
    if followed(block, arguments, Run(shape=(2, 3))) != layers:
        raise refusal(block, "goes by the size of what it reads")
    half = followed(block, arguments, Run(dtype=torch.bfloat16, autocast=True))
    if [layer.calls for layer in half] != [layer.calls for layer in layers]:
        raise refusal(block, "goes by the dtype of what it reads")   # weights are rounded
    for name in arguments.keys() - {REST}:
        value = {name: defaults.get(name)}
        expected = tuple(
            Layer(tuple(call.at(value) for call in layer.calls), layer.weight)
            for layer in layers
        )
        if followed(block, arguments | value) != expected:
            what = f"`{name}` is {value[name]!r}"
            raise refusal(block, f"does something else where {what}")


def looks_into(block: nn.Module, forward, name: str) -> bool:
    """Whether the source takes something out of its `**name`, or gives it to one of the
    block's own methods, in place of giving all of it to a part. False where there is no
    source to read."""
    try:
        source = inspect.getsource(inspect.unwrap(forward))
    except OSError:
        return False
    nodes = [*ast.walk(ast.parse(f"if 1:\n{source}" if source[0].isspace() else source))]
    to_parts = [
        node for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and not hasattr(type(block), node.func.attr)
    ]
    given_on = {id(k.value) for node in to_parts for k in node.keywords if k.arg is None}
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    return any(id(node) not in given_on for node in uses)


def is_norm(part: nn.Module, width: int) -> bool:
    """Whether x and 2 x give the same, so that the size of a weighted mean does not matter.
    Asked with weights of one, so that it does not matter where the weights are, and of
    small and large x, for a tanh is flat far out."""
    ones = {
        name: torch.ones(value.shape, dtype=torch.float64, device="cpu")
        for name, value in (*part.named_parameters(), *part.named_buffers())
    }
    x = torch.linspace(-1, 2, 2 * width, dtype=torch.float64, device="cpu")
    x = x.reshape(1, 2, width)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            results = [functional_call(part, ones, (k * x,)) for k in (1, 2, 1e3)]
        return all(torch.allclose(y, results[0], rtol=1e-3, atol=1e-3) for y in results)
    except Exception:                  # it wants more than one argument: no norm
        return False


def refusal(block: nn.Module, why: str) -> ValueError:
    return ValueError(f"{type(block).__name__} {why}. {KNOWN}")
