"""The entry of a climatology for each valid time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import find_coordinates
from xwx.metrics.slots import EMPTY, hours_of, span

__all__ = ["at_valid_times", "check_apart", "check_days"]

_DAYS = ("dayofyear", "month")
_PERIOD = "xwx_climatology_period"
_WHAT = "the climatology of a verification"
_EXAMPLE = {"dayofyear": "1 to 366", "month": "1 to 12", "hour": "0, 6, 12, 18"}


def at_valid_times(clim: xr.Dataset, valid: NDArray[Any], *, dim: str = "case") -> xr.Dataset:
    """Return a climatology at valid times.

    Parameters
    ----------
    clim : Dataset
        Along ``dayofyear`` or ``month``, ``hour``, both or none of them, in any order: as
        :func:`climatology` or WeatherBench 2 give it, or ``ds.groupby("time.dayofyear").mean()``. A
        field without any of them is the same at all times.
    valid : ndarray of datetime64 or cftime, shape (cases,)
        Valid times, which may repeat.
    dim : str
        Name of the new dimension.

    Returns
    -------
    Dataset
        The variables with `dim` in the place of day and hour; those that have neither as they are.
        Day 366 is day 365 where the climatology ends there. Lazy arrays stay lazy, and only the
        days and hours that are wanted are read.

    Raises
    ------
    MismatchError
        If the climatology lacks a day, month or hour of the valid times, or its coordinates do not
        say which is which, or it is a Dataset along time, or a valid time is missing (NaT).
    ValueError
        If `valid` is not one-dimensional.
    """
    if np.ndim(valid) != 1:
        raise ValueError(f"valid has shape {np.shape(valid)}: flatten the valid times first")
    when = xr.DataArray(valid, dims="case", name="time")
    if problems := _form_problems(clim, when):
        raise MismatchError(problems, what=_WHAT)
    along = [name for name in (*_DAYS, "hour") if name in clim.dims]
    at: dict[str, NDArray[np.int64]] = {name: np.empty(0, np.int64) for name in along}
    for name in along if len(valid) else ():
        if name == "hour":
            at[name], found = _hours(clim[name].values, hours_of(when, _WHAT))
        else:
            at[name], found = _days(clim[name].values, getattr(when.dt, name).values, name)
        problems += found
    if problems:
        raise MismatchError(problems, what=_WHAT)
    taken = {name: _taken(clim[name].variable, at, dim) for name in clim.data_vars}
    coords = {k: v for k, v in clim.coords.items() if not set(v.dims) & set(at)}
    return xr.Dataset(taken, coords, clim.attrs)


def check_apart(clim: xr.Dataset, valid: NDArray[Any]) -> None:
    """Refuse a climatology that was made, by its own statement, of the times to be scored.

    Parameters
    ----------
    clim : Dataset
        Its attribute ``xwx_climatology_period`` tells the first and last time; without it nothing
        is checked.
    valid : ndarray of datetime64 or cftime
        Valid times of the forecasts.

    Raises
    ------
    MismatchError
        If a valid time is within the period, or the attribute cannot be read.
    """
    stated = clim.attrs.get(_PERIOD)
    if stated is None or not np.size(valid):
        return
    bounds = re.findall(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)", str(stated))
    if len(bounds) != 2:
        problem = Problem(
            kind="unreadable-period",
            where=_PERIOD,
            message=f"{stated!r} does not say the first and the last time",
            remedy=f'clim.attrs["{_PERIOD}"] = "1993-01-01T00 .. 2016-12-31T18"  # the true ones',
        )
        raise MismatchError([problem], what=_WHAT)
    first, last = (int("".join(bound)) for bound in bounds)
    times = np.ravel(valid)
    part = xr.DataArray(times, dims="case").dt
    number = ((part.year * 100 + part.month) * 100 + part.day) * 100 + part.hour
    inside = times[((number >= first) & (number <= last)).values]
    if not inside.size:
        return
    problem = Problem(
        kind="overlap",
        where="climatology",
        message=(
            f"{inside.size} of {times.size} valid times ({span(inside.min(), inside.max())}) are "
            f"within the period that it was made of, {stated}: it knows the truth in part"
        ),
        remedy="xwx.metrics.climatology(ds, period=(first, last))  # years that are not scored; or "
        "climatology_overlap=True to accept it",
    )
    raise MismatchError([problem], what=_WHAT)


def check_days(clim: xr.Dataset, valid: NDArray[Any]) -> None:
    """Refuse a climatology that says that it has no samples for some of the valid times.

    Parameters
    ----------
    clim : Dataset
        Its attribute ``xwx_climatology_empty_days`` lists the days of the year without samples.
    valid : ndarray of datetime64 or cftime

    Raises
    ------
    MismatchError
        If a valid time is on one of them.
    """
    stated = str(clim.attrs.get(EMPTY, ""))
    pairs = re.findall(r"(\d+)(?:-(\d+))?", stated)
    if not pairs or not np.size(valid):
        return
    empty = np.concatenate([np.arange(int(a), int(b or a) + 1) for a, b in pairs])
    days = xr.DataArray(np.ravel(valid), dims="case", name="time").dt.dayofyear.values
    wanted = np.unique(days[np.isin(days, empty)])
    if not wanted.size:
        return
    shown = ", ".join(map(str, wanted[:5])) + (", ..." if wanted.size > 5 else "")
    problem = Problem(
        kind="empty-days",
        where="dayofyear",
        message=f"it has no samples for day {shown} of the year, which valid times are on "
        f"(nor for any of {stated})",
        remedy="xwx.metrics.climatology(ds, window=31)  # of whole years, or with a wider window",
    )
    raise MismatchError([problem], what=_WHAT)


def _form_problems(clim: xr.Dataset, when: xr.DataArray) -> list[Problem]:
    """Say what is wrong with the dimensions of a climatology, or with the valid times."""
    problems = []
    time = find_coordinates(clim).time
    if time is not None and clim[time].ndim == 1:
        problems.append(
            Problem(
                kind="not-a-climatology",
                where=time,
                message=f"it has {clim[time].size} times, not days of the year",
                remedy="clim = xwx.metrics.climatology(clim)",
            )
        )
    if set(_DAYS) <= set(clim.dims):
        problems.append(
            Problem(
                kind="day-and-month",
                where="dayofyear",
                message="it is along dayofyear and month at once",
                remedy='clim = clim.drop_dims("month")  # or "dayofyear"',
            )
        )
    problems += _label_problems(clim)
    if when.dtype.kind == "M" and bool(when.isnull().any()):
        count = int(when.isnull().sum())
        problems.append(
            Problem(
                kind="nat",
                where="valid",
                message=f"{count} of {when.size} valid times are NaT (not a time)",
                remedy='forecast = forecast.dropna("time", how="all")  # or set its valid times',
            )
        )
    return problems


def _label_problems(clim: xr.Dataset) -> list[Problem]:
    """Say which dimensions of a climatology have no numbers to look up."""
    problems = []
    for name in (*_DAYS, "hour"):
        if name not in clim.dims:
            continue
        values = clim.variables[name].values if name in clim.variables else None
        if values is None or values.dtype.kind not in "iuf" or np.unique(values).size < values.size:
            found = "has no coordinate" if values is None else f"is {values}"
            problems.append(
                Problem(
                    kind="unlabelled",
                    where=name,
                    message=f"dimension {name!r} {found}; different numbers are needed",
                    remedy=f"clim = clim.assign_coords({name}=numbers)  # like {_EXAMPLE[name]}",
                )
            )
    return problems


def _places(held: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return where the wanted labels are, and those that are not held."""
    order = np.argsort(held)
    at = np.minimum(np.searchsorted(held, wanted, sorter=order), held.size - 1)
    places = order[at]
    return places, np.unique(wanted[held[places] != wanted])


def _days(
    held: NDArray[Any], wanted: NDArray[Any], name: str
) -> tuple[NDArray[np.int64], list[Problem]]:
    if name == "dayofyear" and 365 in held and 366 not in held:
        wanted = np.where(wanted == 366, 365, wanted)
    places, lacking = _places(held, wanted)
    if not lacking.size:
        return places, []
    shown = ", ".join(map(str, lacking[:5])) + (", ..." if lacking.size > 5 else "")
    return places, [
        Problem(
            kind=f"missing-{name}",
            where=name,
            message=(
                f"valid times need {name} {shown} ({lacking.size} in all), the climatology has "
                f"{held.min()} to {held.max()} ({held.size} of them)"
            ),
            remedy="clim = xwx.metrics.climatology(ds)  # of whole years, in the calendar of the "
            "forecasts",
        )
    ]


def _hours(held: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.int64], list[Problem]]:
    places, lacking = _places(held, wanted)
    if not lacking.size:
        return places, []
    numbers = ", ".join(map(str, lacking))
    return places, [
        Problem(
            kind="missing-hour",
            where="hour",
            message=(
                f"valid times are at hour {numbers}, the climatology has hours "
                f"{', '.join(f'{hour:g}' for hour in np.sort(held))}"
            ),
            remedy=(
                'clim = clim.mean("hour")  # the same at all hours; or '
                f"clim.interp(hour=[{numbers}]), where these are between its hours; or "
                f"xwx.metrics.climatology(ds, hours=({numbers},)) of an archive that has them"
            ),
        )
    ]


def _taken(variable: xr.Variable, at: dict[str, NDArray[np.int64]], dim: str) -> xr.Variable:
    """Take the entries of one variable along the new dimension."""
    along = [name for name in variable.dims if name in at]
    if not along:
        return variable
    first, *others = (str(name) for name in along)
    dims = [dim if name == first else name for name in variable.dims if name not in others]
    if not others:
        out = variable.isel({first: xr.Variable(dim, at[first])})
    elif variable.chunks is None:
        out = variable.isel({name: xr.Variable(dim, at[name]) for name in (first, *others)})
    else:
        out = _taken_by_hour(variable, at, dim)
    return out.transpose(*dims)


def _taken_by_hour(
    variable: xr.Variable, at: dict[str, NDArray[np.int64]], dim: str
) -> xr.Variable:
    """Take days hour by hour and put them in order: dask takes along one axis without detours."""
    day = next(name for name in at if name != "hour")
    order = np.argsort(at["hour"], kind="stable")
    hours, begins = np.unique(at["hour"][order], return_index=True)
    parts = [
        variable.isel({"hour": hour}).isel({day: xr.Variable(dim, at[day][chosen])})
        for hour, chosen in zip(hours, np.split(order, begins[1:]), strict=True)
    ]
    axis = parts[0].dims.index(dim)
    data = np.concatenate([part.data for part in parts], axis=axis)
    return xr.Variable(parts[0].dims, data, variable.attrs).isel({dim: np.argsort(order)})
