"""Numbers along time, in a unit that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.clock import nat_problems, no_time, order_problems
from xwx.fields.coordinates import find_coordinates
from xwx.fields.units import affine, magnitudes, unit_text

__all__ = ["values_along_time"]


def values_along_time(
    da: xr.DataArray, units: str
) -> tuple[NDArray[np.float64], NDArray[Any], str, list[Problem]]:
    """Read a DataArray along time.

    Parameters
    ----------
    da : DataArray
        Along one dimension with valid times, with units; or at one time.
    units : str

    Returns
    -------
    values : array of float64, shape (n,)
        In `units`.
    when : array, shape (n,)
        Valid times.
    name : str
        Their coordinate.
    problems : list of Problem
        The rest is empty if there are any.
    """
    label = str(da.name or "target")
    ds = da.to_dataset(name="_values")
    time = find_coordinates(ds).time
    problems = []
    if time is None:
        problems.append(no_time(ds))
    elif da.dims != ds[time].dims:
        message = f"it runs along {', '.join(map(str, da.dims)) or 'nothing'}, and not along time"
        problems.append(Problem("extra-dimension", label, message, "ds = ds.mean(...)"))
    else:
        when = np.atleast_1d(ds[time].values)
        problems += nat_problems(when, time, time)
        problems += [p for p in order_problems(when, time, time) if p.kind == "duplicated-time"]
    text = unit_text(da.variable)
    step = None if text is None else affine(text, units)
    if step is None:
        kind = "missing-units" if text is None else "unconvertible-units"
        message = f'its units are {text!r}; one that converts to "{units}" is needed'
        problems.append(Problem(kind, label, message, f'ds.attrs["units"] = "{units}"'))
    if problems or step is None:
        return np.empty(0), np.empty(0), "", problems
    values = np.atleast_1d(magnitudes(da.variable)).astype(np.float64)
    return values * step.scale + step.offset, when, str(time), []
