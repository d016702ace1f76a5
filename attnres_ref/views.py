"""The same model, seen through another stream: how probes and schedules look at it."""

import copy

from torch import nn


def with_parts(module: nn.Module, **parts) -> nn.Module:
    """A view of `module`: the same parameters, but `parts` in the place of its attributes
    or methods of these names. The module stays as it is, also for other threads."""
    module = getattr(module, "_orig_mod", module)      # what torch.compile has wrapped
    view = copy.copy(module)
    view._modules = module._modules.copy()
    view.__dict__.pop("forward", None)     # one of the object's own runs the old parts
    for name, part in parts.items():
        view._modules.pop(name, None)
        setattr(view, name, part)
    return view


def read_through(model: nn.Module, attend, tokens) -> None:
    """Run tokens [B, T] through the model, every depth read by `attend`. Raises ValueError
    for a model whose L + 1 reads are not one call of it each."""
    calls = []

    def counted(*arguments):
        calls.append(None)
        return attend(*arguments)

    with_attend(model, counted)(tokens)
    if len(calls) != len(model.layers) + 1:
        raise ValueError(
            f"model's stream {type(model.stream).__name__} calls attend {len(calls)} times "
            f"for {len(model.layers) + 1} reads: they are not one call each"
        )


def with_attend(model: nn.Module, attend) -> nn.Module:
    """A view of the model whose depth reads call `attend(query, sources, norm_weight)`.
    Raises ValueError for a model whose stream has no depth attention."""
    if not hasattr(model.stream, "attend"):
        raise ValueError(
            f"model has the stream {type(model.stream).__name__}, which has no depth "
            "attention: pass one with residual 'full' or 'block'"
        )
    return with_parts(model, stream=with_parts(model.stream, attend=attend))
