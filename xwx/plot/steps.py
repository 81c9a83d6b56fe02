"""Steps of a Dataset: which dimension they run along, and which of them is meant by a time."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.coordinates import is_reference, is_time
from xwx.plot.words import duration, several, stamp

__all__ = ["REFERENCES", "at_time", "lead_dim", "step_dim", "times_along"]

#: Names of the time when a forecast began.
REFERENCES = frozenset({"init_time", "forecast_reference_time", "reference_time"})
#: A lead time as people write it: "24h", "+3 days", "90 min".
_LEAD = re.compile(
    r"\+?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>h|hours?|d|days?|min|minutes?)", re.IGNORECASE
)


def step_dim(array: xr.DataArray) -> str | None:
    """Return the dimension of the steps: lead time, or valid time."""
    if (dim := lead_dim(array)) is not None:
        return dim
    found = [
        str(c.dims[0])
        for name, c in array.coords.items()
        if c.ndim == 1 and name not in REFERENCES and is_time(c.variable)
    ]
    return next(iter(found), None)


def lead_dim(array: xr.DataArray) -> str | None:
    """Return the dimension that the lead time runs along."""
    if "lead_time" in array.coords and array["lead_time"].ndim == 1:
        return str(array["lead_time"].dims[0])
    return None


def times_along(array: xr.DataArray, dim: str) -> NDArray[Any] | None:
    """Return the valid times along a dimension; None where there are none.

    With the dimensions ``init_time`` and ``lead_time`` the valid time has both: it counts where
    there is one initial time.
    """
    for name, coordinate in array.coords.items():
        if name in REFERENCES or not is_time(coordinate.variable):
            continue
        if is_reference(coordinate.variable) or dim not in coordinate.dims:
            continue
        if coordinate.size == coordinate.sizes[dim]:
            return np.asarray(coordinate.values.reshape(-1))
    return None


def at_time(array: xr.DataArray, time: Any) -> xr.DataArray:
    dim = step_dim(array)
    if dim is None:
        raise ValueError(f"time={time!r}: {array.name!r} has no steps to choose from; leave it out")
    return array.isel({dim: _position(array, dim, time)})


def _position(array: xr.DataArray, dim: str, time: Any) -> int:
    size = array.sizes[dim]
    if isinstance(time, int | np.integer) and not isinstance(time, bool | np.timedelta64):
        if not -size <= time < size:
            raise ValueError(f"time={time}: there are {size} steps, give -{size} to {size - 1}")
        return int(time)
    time = _lead(time)
    said = repr(time)
    if isinstance(time, timedelta | np.timedelta64):
        leads = array["lead_time"].values if lead_dim(array) else None
        wanted, kind = np.timedelta64(time), "lead time"
        said = duration(wanted)
        texts = None if leads is None else [duration(v) for v in leads]
        near = None if leads is None else leads == wanted
    elif isinstance(time, str | date | np.datetime64) or hasattr(time, "calendar"):
        times, kind = times_along(array, dim), "valid time"
        texts = None if times is None else [stamp(v) for v in times]
        near = None if times is None else np.array([_iso(v) == _iso(time) for v in times])
    else:
        raise TypeError(
            f"time={time!r} is a {type(time).__name__}: give the number of a step, a valid time "
            'such as "2026-01-25T06", or a lead time such as "6h"'
        )
    if near is None or texts is None:
        raise ValueError(f"time={said}: {array.name!r} has no {kind} along {dim!r}{_why(array)}")
    if not near.any():
        raise ValueError(f"time={said}: there is no such {kind}; there are {several(texts)}")
    return int(near.argmax())


def _lead(time: Any) -> Any:
    """Return the lead time that a text such as "24h" or "+3 d" is; anything else as it is."""
    match = _LEAD.fullmatch(time) if isinstance(time, str) else None
    if match is None:
        return time
    seconds = {"h": 3600, "d": 86400, "m": 60}[match["unit"][0].lower()]
    return np.timedelta64(round(float(match["number"]) * seconds * 10**9), "ns")


def _why(array: xr.DataArray) -> str:
    many = "init_time" in array.dims and array.sizes["init_time"] > 1
    return "; select one start first: ds.isel(init_time=0)" if many else ""


def _iso(time: Any) -> str:
    """Write a time of any kind to the second; a day alone is its midnight."""
    if hasattr(time, "calendar"):
        return str(time.isoformat())[:19]
    if not isinstance(time, str):
        return str(np.datetime64(time).astype("datetime64[s]"))
    try:
        return str(np.datetime64(time).astype("datetime64[s]"))
    except ValueError:  # a day that the real calendar does not have, such as 30 February
        return time.replace(" ", "T") + "0000-01-01T00:00:00"[len(time) :]
