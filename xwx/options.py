"""Global options, set for good or inside a ``with`` block, as in xarray."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["get_options", "set_options"]

_DEFAULTS: dict[str, Any] = {
    "device": "auto",
    "kernels": "auto",
    "precision": "float32",
    "progress": None,
}

_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "device": (
        '"auto", "cpu", "cuda", "cuda:<n>" or "mps"',
        lambda v: isinstance(v, str) and re.fullmatch("auto|cpu|mps|cuda(:[0-9]+)?", v) is not None,
    ),
    "kernels": (
        '"auto", "triton", "numba" or "torch"',
        lambda v: v in ("auto", "triton", "numba", "torch"),
    ),
    "precision": ('"float32" or "bfloat16"', lambda v: v in ("float32", "bfloat16")),
    "progress": (
        "True, False or None (only when slow)",
        lambda v: v is None or isinstance(v, bool),
    ),
}

_options = dict(_DEFAULTS)


def get_options() -> dict[str, Any]:
    """Return a copy of the options in force."""
    return dict(_options)


class set_options:  # the name xarray users know
    """Set options globally, or inside a ``with`` block.

    Parameters
    ----------
    device : str
        Where networks run: ``"auto"`` (the default: a GPU if there is one), ``"cpu"``,
        ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    kernels : {"auto", "triton", "numba", "torch"}
        What computes the fused operations of a network: the fast implementation for the device
        where it can run (``"auto"``, the default), or the one that is named. An operation that
        comes in the named form and cannot run so is an error; one that does not come in it runs
        as with ``"auto"``. ``"torch"`` is torch operations alone, for comparison.
    precision : {"float32", "bfloat16"}
        Precision of the arithmetic inside networks. Inputs and outputs are float32 either way.
    progress : bool or None
        Progress bars: always, never, or (``None``, the default) only when a job is slow.

    Raises
    ------
    ValueError
        For an unknown option or value.

    Examples
    --------
    >>> import xwx
    >>> with xwx.set_options(device="cpu", progress=False):
    ...     pass
    """

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name not in _CHECKS:
                raise ValueError(
                    f"unknown option {name!r}: the options are {', '.join(sorted(_CHECKS))}"
                )
            allowed, accepts = _CHECKS[name]
            if not accepts(value):
                raise ValueError(f"option {name}={value!r}: give {allowed}")
        self._before = {name: _options[name] for name in options}
        _options.update(options)

    def __enter__(self) -> set_options:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _options.update(self._before)
