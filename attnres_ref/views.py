"""The same model, seen through another stream: how probes and schedules look at it."""

import copy

from torch import nn


def with_parts(module: nn.Module, **parts) -> nn.Module:
    """A view of `module`: the same parameters, but `parts` in the place of its attributes
    or methods of these names. The module stays as it is, also for other threads."""
    module = getattr(module, "_orig_mod", module)      # what torch.compile has wrapped
    view = copy.copy(module)
    view._modules = module._modules.copy()
    view._compiled_call_impl = None        # module.compile() has compiled the old parts
    for name, part in parts.items():
        view._modules.pop(name, None)
        setattr(view, name, part)
    return view


def with_attend(model: nn.Module, attend) -> nn.Module:
    """A view of the model whose depth reads call `attend(query, sources, norm_weight)`.
    Raises ValueError for a model whose stream has no depth attention."""
    if not hasattr(model.stream, "attend"):
        raise ValueError(
            f"model has the stream {type(model.stream).__name__}, which has no depth "
            "attention: pass one with residual 'full' or 'block'"
        )
    return with_parts(model, stream=with_parts(model.stream, attend=attend))
