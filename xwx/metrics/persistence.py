"""Persistence: the forecast that nothing will change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import conform, find_coordinates, lead_times, no_time, show, stated_name

__all__ = ["persistence"]

Times = NDArray[Any]
_WHAT = "persistence"
_STARTS = ("init_time", "forecast_reference_time", "reference_time", "initial_time", "time")


def persistence(ds: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    """Return the forecast that keeps the state at its start, beside another forecast.

    Parameters
    ----------
    ds : Dataset
        Analyses along time, in any presentation.
    forecast : Dataset
        A forecast with lead times, from one start or several: its starts, leads, variables,
        names and units are those of the result.

    Returns
    -------
    Dataset
        The variables of `forecast` that change with time, without members. Lazy where `ds` is.

    Raises
    ------
    MismatchError
        Where `ds` lacks a variable or a start, or holds several states for one, or `forecast`
        has no starts or no lead times.
    """
    lead, starts = _leads_and_starts(forecast)
    moving = [
        str(k) for k, v in forecast.data_vars.items() if {*lead.dims, *starts.dims} & {*v.dims}
    ]
    states = conform(ds, forecast[moving], what="the forecast")
    time = find_coordinates(states).time
    if time is None or states[time].ndim == 0:
        raise MismatchError([no_time(ds) if time is None else _one_state(time)], what=_WHAT)
    positions = _positions(states[time].values, starts.values, time)
    states = states.isel({states[time].dims[0]: xr.Variable(starts.dims, positions)})
    out = xr.Dataset(attrs=forecast.attrs)
    members = set(forecast.dims) - {*lead.dims, *starts.dims} - set(states.dims)
    for name in moving:
        order = [d for d in forecast[name].dims if d not in members]
        extra = [str(d) for d in states[name].dims if d not in order]
        if extra:
            raise MismatchError([_extra(name, extra)], what=_WHAT)
        missing = {d: forecast.sizes[d] for d in order if d not in states[name].dims}
        bare = xr.DataArray(states[name].variable)
        out[name] = bare.expand_dims(missing).transpose(*order)
    coords = {k: c for k, c in forecast.coords.items() if not set(c.dims) & members}
    return out.assign_coords(coords)


def _leads_and_starts(forecast: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the coordinate of lead times, and when the forecasts began."""
    found = [str(k) for k in forecast.coords if lead_times(forecast, str(k)) is not None]
    lead = next((k for k in found if forecast[k].ndim == 1), None)
    if lead is None:
        raise MismatchError([_no_starts()], what=_WHAT)
    stated = [
        str(k)
        for k, c in forecast.coords.items()
        if stated_name(c.attrs) == "forecast_reference_time"
    ]
    for name in (*stated, *_STARTS):
        start = forecast[name] if name in forecast.coords else None
        if start is not None and start.ndim <= 1 and start.dims != forecast[lead].dims:
            return forecast[lead], start
    raise MismatchError([_no_starts()], what=_WHAT)


def _positions(times: Times, starts: Times, name: str) -> Any:
    """Return where the starts are among the times of the analyses."""
    if np.unique(times).size < times.size:
        raise MismatchError([_twice(name)], what=_WHAT)
    same = (times.dtype == object) == (starts.dtype == object)
    index: Any = pd.Index(times)
    flat = np.atleast_1d(starts)
    positions = index.get_indexer(flat) if same else np.full(flat.shape, -1)
    if np.any(positions < 0):
        raise MismatchError([_no_analysis(name, flat[positions < 0])], what=_WHAT)
    return np.asarray(positions).reshape(starts.shape)


def _no_starts() -> Problem:
    return Problem(
        kind="missing-start",
        where="forecast",
        message="it does not say when it began (init_time) and how far it goes (lead_time)",
        remedy="forecast = ds.wx.forecast(...)  # or add both coordinates",
    )


def _no_analysis(time: str, missing: Times) -> Problem:
    return Problem(
        kind="missing-start-time",
        where=time,
        message=(
            f"it lacks {missing.size} of the starts of the forecast, the first {show(missing[0])}"
        ),
        remedy="open the analyses of all starts, in the calendar of the forecast",
    )


def _one_state(time: str) -> Problem:
    return Problem(
        kind="single-time",
        where=time,
        message="it is one state; analyses along time are needed",
        remedy=f'ds = ds.expand_dims("{time}")  # if this is the state at the start',
    )


def _twice(time: str) -> Problem:
    return Problem(
        kind="duplicated-time",
        where=time,
        message="times occur more than once",
        remedy=f'ds = ds.drop_duplicates("{time}")',
    )


def _extra(name: str, dims: list[str]) -> Problem:
    chosen = ", ".join(f"{d}=0" for d in dims)
    return Problem(
        kind="extra-dimension",
        where=name,
        message=f"it has the further dimension {', '.join(dims)}: the state at a start is one",
        remedy=f"ds = ds.isel({chosen})  # or its mean",
    )
