"""How a forecast is laid out: one start continues the Dataset, several stand side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["drop_packing", "lay_out"]

_INIT = {"standard_name": "forecast_reference_time", "long_name": "initial time of forecast"}
_LEAD = {"standard_name": "forecast_period", "long_name": "time since forecast_reference_time"}


def lay_out(
    fc: xr.Dataset,
    time: tuple[str, str],
    inits: NDArray[Any],
    leads: NDArray[np.timedelta64],
    *,
    several: bool,
) -> xr.Dataset:
    """Give forecasts their lead times and initial times.

    Parameters
    ----------
    fc : Dataset
        Starts after each other along the time dimension, each with all its leads.
    time : (str, str)
        The time dimension, and the coordinate of valid times.
    inits : array, shape (starts,)
    leads : array, shape (leads,)
    several : bool
        Whether the time dimension becomes ``init_time`` and ``lead_time``; otherwise there is
        one start, and it keeps its dimension.
    """
    dim, name = time
    whole = not np.any(leads % np.timedelta64(1, "h"))
    units = {"units": "hours" if whole else "seconds", "dtype": "int32"}
    lead = xr.Variable(("lead_time",), leads, _LEAD, units)
    if not several:
        along = xr.Variable((dim,), leads, _LEAD, lead.encoding)
        encoding = _clock(fc[name].encoding)
        init = xr.Variable((), inits[0], _INIT, encoding)
        return fc.assign_coords(lead_time=along, init_time=init)
    split = {
        str(key): _split(variable, dim, (len(inits), len(leads)))
        for key, variable in fc.variables.items()
        if dim in variable.dims
    }
    init = xr.Variable(("init_time",), inits, _INIT, _clock(fc[name].encoding))
    out = fc.drop_vars(list(split))
    data = {key: value for key, value in split.items() if key in fc.data_vars}
    coords = {key: value for key, value in split.items() if key not in data}
    out = out.assign_coords({"init_time": init, "lead_time": lead} | coords).assign(data)
    return out[[str(key) for key in fc.data_vars]] if data else out


def _clock(encoding: Any) -> dict[str, Any]:
    return {key: encoding[key] for key in ("units", "calendar", "dtype") if key in encoding}


def _split(variable: xr.Variable, dim: str, sizes: tuple[int, int]) -> xr.Variable:
    """Replace the time dimension by initial and lead time; the values are not copied."""
    axis = variable.dims.index(dim)
    dims = (*variable.dims[:axis], "init_time", "lead_time", *variable.dims[axis + 1 :])
    shape = (*variable.shape[:axis], *sizes, *variable.shape[axis + 1 :])
    data = variable.to_base_variable().data.reshape(shape)
    return xr.Variable(dims, data, variable.attrs, variable.encoding)


def drop_packing(fc: xr.Dataset) -> xr.Dataset:
    """Drop the packing to integers that the variables of the input were stored with.

    It was given a scale for the input's own range. Written with it, a forecast beyond that range
    would wrap round to a wrong number without a word, and one inside it loses precision.
    """
    for variable in fc.data_vars.values():
        packed = np.dtype(variable.encoding.get("dtype", "float32")).kind in "iu"
        if packed or "scale_factor" in variable.encoding or "add_offset" in variable.encoding:
            for key in ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value"):
                variable.encoding.pop(key, None)
    return fc
