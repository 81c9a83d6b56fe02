"""The dimension of ensemble members."""

from __future__ import annotations

import xarray as xr

from xwx.fields.variables import stated_name

__all__ = ["member_dim"]

_NAMES = ("member", "realization", "number", "ensemble", "ensemble_member", "ens", "sample")


def member_dim(ds: xr.Dataset) -> str | None:
    """Return the dimension of ensemble members, by standard_name or a name in use; or None."""
    stated = [
        str(c.dims[0])
        for c in ds.coords.values()
        if c.ndim == 1 and stated_name(c.attrs) == "realization"
    ]
    return next((dim for dim in (*stated, *_NAMES) if dim in ds.dims), None)
