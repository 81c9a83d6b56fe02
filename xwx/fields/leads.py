"""Lead times: durations since a forecast began, decoded or as numbers with a unit of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.units import affine, magnitudes, unit_text
from xwx.fields.variables import stated_name

__all__ = ["lead_times"]

_NAMES = frozenset(
    {"lead_time", "prediction_timedelta", "forecast_period", "step", "lead", "leadtime"}
)


def lead_times(ds: xr.Dataset, name: str) -> NDArray[np.timedelta64] | None:
    """Return the lead times that a coordinate holds; None where it holds something else.

    Parameters
    ----------
    ds : Dataset
    name : str
        Of a coordinate. It is known by its standard_name, ``forecast_period``, or as one of the
        names in use; numbers need units such as ``"hours"``.
    """
    variable: Any = ds.variables[name]
    if name not in _NAMES and stated_name(variable.attrs) != "forecast_period":
        return None
    if np.issubdtype(variable.dtype, np.timedelta64):
        return np.asarray(variable.values)
    if not np.issubdtype(variable.dtype, np.number):
        return None
    conversion = affine(unit_text(variable) or "", "s")
    if conversion is None:
        return None
    seconds = magnitudes(variable).astype(np.float64) * conversion.scale
    return np.round(seconds * 1e3).astype("timedelta64[ms]").astype("timedelta64[ns]")
