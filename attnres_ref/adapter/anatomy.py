"""What a block of somebody else's decoder is made of, and how to run it without its sums.

A block in the usual style is a few layers in a row, each `h = h + k f(norm(h))`. Which of
its parts make up an f, and what they are called, differs from family to family: Gemma 2 has
a norm after its MLP, Granite multiplies what it adds, Phi-3 applies dropout to it. No list
of names stays right for long, but the block's own `forward` knows: see find.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


@dataclass(frozen=True)
class Argument:
    """Stands for an argument of the block, wherever a part is given it."""

    name: str


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
        return returned[0] if isinstance(returned, (tuple, list)) else returned

    def at(self, values: dict) -> "Call":
        """The same call with these arguments known."""
        keywords = {k: filled(x, values) for k, x in self.keywords.items()}
        return Call(self.part, filled(self.args, values), keywords)


def filled(template, values: dict):
    """The template with a value for every Argument that has one, also within tuples and
    lists."""
    if isinstance(template, Argument):
        return values.get(template.name, template)
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
    fixed: tuple[str, ...]             # arguments that are known at their default only
    has_rest: bool                     # whether it takes others as well

    def given(self, args: tuple, keywords: dict) -> dict:
        """The block's arguments by name. Raises TypeError as the block itself would, and
        for an argument of which it is not known what the block does with it."""
        given = self.defaults | dict(zip(self.names, args)) | keywords
        twice = set(self.names[: len(args)]) & set(keywords)
        rest = {name: given.pop(name) for name in set(given) - set(self.names)}
        missing = [name for name in self.names if name not in given]
        if twice or missing or rest and not self.has_rest or len(args) > len(self.names):
            raise TypeError(
                f"a block got {len(args)} positional arguments and {sorted(keywords)}: its "
                f"forward takes {', '.join(self.names)}"
            )
        for name in self.fixed:
            value, default = given[name], self.defaults[name]
            if value is not default and (type(value), value) != (type(default), default):
                raise TypeError(
                    f"a block got {name}: convert knows what it does without, where "
                    f"{name} is {default!r}, and no more"
                )
        return given | {REST: rest}
