"""Kernel tests run in Triton's interpreter where there is no GPU. That is decided when
Triton is first imported, which torch.compile does too: so here, before any test."""

import attnres_kernels  # noqa: F401
