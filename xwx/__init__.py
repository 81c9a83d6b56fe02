"""xwx: weather models as methods of an xarray Dataset.

Importing this package registers the accessor ``ds.wx`` and imports neither torch, numba, pint,
dask nor matplotlib: those come with the first call that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xwx import errors
from xwx.accessor import register_accessor
from xwx.options import get_options, set_options
from xwx.spec import Channel, Grid, Spec

if TYPE_CHECKING:
    from xwx import constraints, metrics, tutorial
    from xwx.diffusion.settings import Sampling
    from xwx.models.checkpoint import Model
    from xwx.models.registry import list_models, load
    from xwx.version import __version__ as __version__

__all__ = [
    "Channel",
    "Grid",
    "Model",
    "Sampling",
    "Spec",
    "constraints",
    "errors",
    "get_options",
    "list_models",
    "load",
    "metrics",
    "register_accessor",
    "set_options",
    "tutorial",
]

_LAZY = {
    "Model": "xwx.models.checkpoint",
    "Sampling": "xwx.diffusion.settings",
    "constraints": "",
    "list_models": "xwx.models.registry",
    "load": "xwx.models.registry",
    "metrics": "",
    "tutorial": "",
    "__version__": "xwx.version",
}

register_accessor("wx", optional=True)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _LAZY[name]:
        return importlib.import_module(f"xwx.{name}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
