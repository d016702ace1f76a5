"""The short way to the kernels, for eager mode.

torch.library makes an operator of a function, which torch.compile needs, and whoever
watches operators. Its way through the dispatcher may take longer than a small kernel, so
where nobody needs it, the function is called itself.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode


def shortest(function: Callable, operator: Callable, tensor: Tensor) -> Callable:
    """`function`, or the `operator` that was made of it: for tensors of another kind, as
    fake ones, and under a TorchDispatchMode, as what counts operators."""
    plain = type(tensor) in (Tensor, nn.Parameter)
    return function if plain and _get_current_dispatch_mode() is None else operator
