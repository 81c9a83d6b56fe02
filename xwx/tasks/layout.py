"""How a forecast is laid out: one start continues the Dataset, several stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["MEMBER", "RESIDUAL", "by_member", "drop_packing", "lay_out", "with_residuals"]

_INIT = {"standard_name": "forecast_reference_time", "long_name": "initial time of forecast"}
#: Of the coordinate ``member``, and of the variable ``residual``.
MEMBER = {"standard_name": "realization", "long_name": "ensemble member"}
RESIDUAL = {
    "long_name": "root mean square residual of the constraint",
    "units": "1",
    "description": (
        "root mean square of (A(x) - y) / sigma over the values that guided the window of states "
        "which this one is of; about 1 or less where the constraint is met; NaN where it had none"
    ),
}
_LEAD = {"standard_name": "forecast_period", "long_name": "time since forecast_reference_time"}


def by_member(fc: xr.Dataset, dim: str, members: int | None) -> xr.Dataset:
    """Give an ensemble its dimension ``member``.

    Parameters
    ----------
    fc : Dataset
        All times of a member after all of the one before, along `dim`.
    dim : str
        The time dimension.
    members : int or None
        None where there is one forecast, which gets no such dimension.
    """
    if members is None:
        return fc
    sizes = {"member": members, dim: fc.sizes[dim] // members}
    split = {k: _split(v.variable, dim, sizes) for k, v in fc.data_vars.items() if dim in v.dims}
    member = xr.Variable(("member",), np.arange(members, dtype=np.int32), MEMBER)
    one = fc.isel({dim: slice(sizes[dim])})  # valid times are the same for all
    return one.assign(split).assign_coords(member=member)[list(fc.data_vars)]


def with_residuals(
    fc: xr.Dataset, dim: str, names: Sequence[str], values: Any, members: int | None
) -> xr.Dataset:
    """Add how far constraints are missed: the variable ``residual``, if there are any.

    Parameters
    ----------
    fc : Dataset
        After :func:`by_member`.
    dim : str
        The time dimension.
    names : sequence of str
        Of the constraints.
    values : float64 array, shape (constraints, members or 1, times)
    members : int or None
        As for :func:`by_member`.

    Raises
    ------
    ValueError
        When the Dataset has a variable of that name.
    """
    if not names:
        return fc
    if "residual" in fc.variables:
        raise ValueError(
            'the Dataset has a variable "residual", which is the name of what constraints miss: '
            'call it otherwise with ds.rename(residual="...")'
        )
    dims = ("constraint", dim) if members is None else ("constraint", "member", dim)
    data = values[:, 0] if members is None else values
    return fc.assign(residual=(dims, data, RESIDUAL)).assign_coords(
        # objects, not fixed-length strings, which no Zarr specification knows
        constraint=("constraint", np.array(list(names), dtype=object), {"long_name": "constraint"})
    )


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
    sizes = {"init_time": len(inits), "lead_time": len(leads)}
    split = {
        str(key): _split(variable, dim, sizes)
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


def _split(variable: xr.Variable, dim: str, sizes: Mapping[str, int]) -> xr.Variable:
    """Replace a dimension by those of which it is made; the values are not copied."""
    axis = variable.dims.index(dim)
    dims = (*variable.dims[:axis], *sizes, *variable.dims[axis + 1 :])
    shape = (*variable.shape[:axis], *sizes.values(), *variable.shape[axis + 1 :])
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
