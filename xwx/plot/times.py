"""Valid times of a forecast that has only starts and lead times."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xwx.fields import lead_times
from xwx.fields.coordinates import is_reference
from xwx.plot.steps import REFERENCES

__all__ = ["timed"]


def timed(ds: xr.Dataset) -> xr.Dataset:
    """Return a forecast with valid times, start + lead time, where it has none.

    The names of start and lead time become ``init_time`` and ``lead_time``. In the layout of
    WeatherBench the start is called ``time``; several such starts stay as they are.
    """
    names = [str(k) for k, c in ds.coords.items() if c.ndim <= 1]
    lead = next((k for k in names if lead_times(ds, k) is not None), None)
    times = [str(k) for k, c in ds.coords.items() if np.issubdtype(c.dtype, np.datetime64)]
    starts = [k for k in times if k in REFERENCES or is_reference(ds[k].variable)]
    if lead is None or any(k not in starts and set(ds[lead].dims) <= {*ds[k].dims} for k in times):
        return ds
    starts = starts or [k for k in times if ds[k].size == 1]
    if not starts or ds[starts[0]].ndim > 1:
        return ds
    new = {starts[0]: "init_time", lead: "lead_time"}
    leads = xr.Variable(ds[lead].dims, lead_times(ds, lead), ds[lead].attrs)
    out = ds.assign_coords({lead: leads})
    out = out.rename({old: name for old, name in new.items() if name not in ds.variables})
    init = out["init_time"].variable
    valid = init + out["lead_time"].variable
    name = "time" if "time" not in out.variables else "valid_time"
    return out.assign_coords({name: (valid.dims, valid.data, {"standard_name": "time"})})
