"""Inputs that follow from coordinates and time alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.clock import REAL_CALENDARS, calendar_of
from xwx.spec import FORCINGS, Grid

__all__ = ["forcings"]

_WAVES = {"sin": np.sin, "cos": np.cos}


def forcings(times: ArrayLike, grid: Grid, names: Sequence[str]) -> NDArray[np.float32]:
    r"""Compute forcing fields.

    ``sin_`` and ``cos_`` of latitude, longitude, local solar time (UTC hours + longitude / 15,
    as :math:`2\pi h / 24`; ``_2_`` is twice that angle) and of the fraction of the year that has
    passed.

    Parameters
    ----------
    times : array_like, shape (time,)
        Valid times, datetime64 or cftime objects.
    grid : Grid
    names : sequence of str
        From :data:`xwx.spec.FORCINGS`.

    Returns
    -------
    array of float32, shape (time, len(names), lat, lon)

    Raises
    ------
    ValueError
        For an unknown name.
    MismatchError
        For a forcing of the year with a calendar that has no real dates.
    """
    if unknown := [name for name in names if name not in FORCINGS]:
        raise ValueError(f"unknown forcings {unknown}: choose from {', '.join(FORCINGS)}")
    moments = np.atleast_1d(np.asarray(times))
    out = np.empty((moments.size, len(names), *grid.shape), dtype=np.float32)
    for number, name in enumerate(names):
        wave, _, angle = name.partition("_")
        out[:, number] = _WAVES[wave](_angle(angle, moments, grid))
    return out


def _angle(name: str, times: NDArray[Any], grid: Grid) -> NDArray[np.float64]:
    """Return an angle [radian] that broadcasts to (time, lat, lon)."""
    if name == "latitude":
        return np.asarray(np.deg2rad(grid.rows)[None, :, None])
    longitude = np.deg2rad(grid.columns)[None, None, :]
    if name == "longitude":
        return np.asarray(longitude)
    if name == "year":
        return 2 * np.pi * _year_fraction(times)[:, None, None]
    local = 2 * np.pi * _day_fraction(times)[:, None, None] + longitude
    return 2 * local if name.startswith("2_") else local


def _is_datetime64(times: NDArray[Any]) -> bool:
    return bool(np.issubdtype(times.dtype, np.datetime64))


def _day_fraction(times: NDArray[Any]) -> NDArray[np.float64]:
    if _is_datetime64(times):
        return np.asarray((times - times.astype("datetime64[D]")) / np.timedelta64(1, "D"))
    seconds = [t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6 for t in times]
    return np.array(seconds) / 86400.0


def _year_fraction(times: NDArray[Any]) -> NDArray[np.float64]:
    calendar = calendar_of(times)
    if calendar not in REAL_CALENDARS:
        problem = Problem(
            kind="calendar",
            where="time",
            message=f"the day of the year is needed, but the calendar is {calendar!r}",
            remedy='ds = ds.convert_calendar("standard", align_on="date")',
        )
        raise MismatchError([problem], what="the forcings of the year")
    if not _is_datetime64(times):
        times = np.array([t.isoformat() for t in times], dtype="datetime64[us]")
    start = times.astype("datetime64[Y]")
    length = (start + 1).astype("datetime64[D]") - start.astype("datetime64[D]")
    return np.asarray((times - start.astype("datetime64[D]")) / length)
