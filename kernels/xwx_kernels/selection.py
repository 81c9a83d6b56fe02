"""Which implementation of an operation runs: one rule for all of them.

``"auto"`` takes the fast implementation for the device (Triton on a GPU, numba on a CPU) where it
can run and pays, and torch otherwise; it warns if that is because an installed package is broken. A
name is an order: what cannot be obeyed is an error that says why.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch.autograd import forward_ad

__all__ = ["BACKENDS", "choose", "load", "transformed"]

BACKENDS = ("auto", "triton", "numba", "torch")

#: Triton's interpreter runs kernels on the CPU, one operation after the other: for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_PREFERRED = {"cuda": "triton", "cpu": "numba"}
_DEVICES = {"triton": "cuda", "numba": "cpu"}
_INSTALLED = {name: find_spec(name) is not None for name in _DEVICES}


def choose(
    operation: str,
    backend: str,
    device: torch.device,
    obstacle: Callable[[str], str | None],
    *,
    pays: Callable[[str], bool] = lambda name: True,
    offered: tuple[str, ...] = BACKENDS,
) -> str:
    """Return the implementation to run: "triton", "numba" or "torch".

    Parameters
    ----------
    operation : str
        Its name, for messages.
    backend : {"auto", "triton", "numba", "torch"}
    device : torch.device
        Where the tensors are.
    obstacle : callable
        From "triton" or "numba" to why this operation cannot run so on these inputs, or None.
    pays : callable
        From "triton" or "numba" to whether that is worth while on these inputs, for ``"auto"``.
    offered : tuple of str
        The backends that this operation has.

    Raises
    ------
    ValueError
        For an unknown backend.
    RuntimeError
        When a backend was asked for by name and cannot run.
    """
    if backend not in BACKENDS:
        raise ValueError(f"{operation}: backend={backend!r}: choose from {', '.join(offered)}")
    if backend == "torch":
        return backend
    if backend == "auto":
        preferred = _PREFERRED.get(device.type)
        if preferred is None or preferred not in offered or _hindrance(preferred, device, obstacle):
            return "torch"
        if not pays(preferred):
            return "torch"
        if broken := _broken(preferred):
            warnings.warn(f"{broken}. Torch computes in its place, slower", stacklevel=3)
            return "torch"
        return preferred
    if backend not in offered:
        reason: str | None = f"this operation has no {backend} kernel"
    else:
        reason = _hindrance(backend, device, obstacle) or _broken(backend)
    if reason:
        raise RuntimeError(
            f"{operation}: backend={backend!r} cannot run: {reason}. "
            "backend='auto' takes what can, backend='torch' runs everywhere"
        )
    return backend


def load(backend: str, operation: str) -> Any:
    """Import and return the module that implements an operation; "triton" or "numba"."""
    return import_module(f"xwx_kernels._{backend}.{operation}")


def transformed() -> bool:
    """Return whether torch.func transforms this call, or forward-mode derivatives are on.

    An operator is a black box to both. To forward mode it is a constant: its tangents would be
    zero, without a word.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _hindrance(
    backend: str, device: torch.device, obstacle: Callable[[str], str | None]
) -> str | None:
    """Return why a backend cannot run here, on these inputs, or None when it can."""
    if reason := _absence(backend, device):
        return reason
    if transformed():
        return "it knows nothing of torch.func and of forward-mode derivatives, which are at work"
    return obstacle(backend)


def _absence(backend: str, device: torch.device) -> str | None:
    """Return why a backend cannot run anything on a device, or None when it can."""
    if not _INSTALLED[backend]:
        return f"the package {backend} is not installed"
    if device.type == _DEVICES[backend] or (backend == "triton" and INTERPRETED):
        return None
    return f"{backend} kernels take tensors on {_DEVICES[backend]}, these are on {device.type}"


def _broken(backend: str) -> str | None:
    """Return why an installed backend cannot be imported, or None when it can."""
    # A compiler that traces this call finds out when it runs what it has traced.
    return None if torch.compiler.is_compiling() else _import_error(backend)


@cache
def _import_error(backend: str) -> str | None:
    try:
        import_module(backend)
    except ImportError as error:
        return f"the package {backend} is installed but cannot be imported: {error}"
    return None
