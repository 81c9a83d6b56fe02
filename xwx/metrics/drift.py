"""Drift of a quantity that should be conserved."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.coordinates import find_coordinates
from xwx.fields.units import affine, dequantify, unit_text

__all__ = ["mass_drift"]

#: A Julian year, as pint has it.
_YEAR = np.timedelta64(31_557_600, "s") / np.timedelta64(1, "ns")
_NEVER, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def mass_drift(series: xr.DataArray, *, threshold: float) -> xr.Dataset:
    r"""Return how far the dry-air pressure of a forecast drifts from where it began.

    .. math:: d(t) = p_d(t) - p_d(t_0)

    Parameters
    ----------
    series : DataArray
        Global mean surface pressure of dry air, see :func:`xwx.fields.dry_air.dry_air_mass`, in
        units that convert to Pa, along ``lead_time`` or valid time (two or more, increasing), and
        any further dimensions. Dask arrays stay lazy.
    threshold : float
        A drift [Pa] that counts as too much, such as three times the standard deviation of a
        reanalysis' daily values.

    Returns
    -------
    Dataset
        ``drift`` [Pa] along time; without time ``trend`` [Pa per Julian year], the slope of a line
        fitted by least squares; ``max_abs_drift`` [Pa]; and ``first_exceedance``, the time since
        the start at which the absolute drift first exceeds the threshold, NaT if it never does.
        Plain arrays. Where a value is missing, trend and greatest drift are NaN.

    Raises
    ------
    MismatchError
        For a series without Pa, or without two increasing times.
    ValueError
        For a threshold that is not a positive number.
    """
    if not threshold > 0:
        raise ValueError(f"threshold={threshold!r}: give a positive number of pascals")
    pressure = _pascals(series)
    dim, elapsed = _elapsed(pressure)
    drift = pressure - pressure.isel({dim: 0}, drop=True)
    centred = (elapsed - elapsed.mean()) / _YEAR
    slope = (drift * centred).sum(dim, skipna=False) / (centred**2).sum()
    # as integers: minima of timedelta64 are not for every kind of array
    first = elapsed.where(abs(drift) > threshold, _LATEST).min(dim)
    found = first.where(first != _LATEST, _NEVER).astype("timedelta64[ns]")
    out = {
        "drift": (drift, "drift of the dry-air pressure", "Pa"),
        "trend": (slope, "linear trend of the dry-air pressure", "Pa yr-1"),
        "max_abs_drift": (abs(drift).max(dim, skipna=False), "greatest absolute drift", "Pa"),
        "first_exceedance": (found, f"time until the drift exceeds {threshold:g} Pa", None),
    }
    return xr.Dataset(
        {
            name: array.assign_attrs({"long_name": text} | ({"units": units} if units else {}))
            for name, (array, text, units) in out.items()
        }
    )


def _refuse(kind: str, where: str, message: str, remedy: str) -> MismatchError:
    return MismatchError([Problem(kind, where, message, remedy)], what="the drift of dry air")


def _pascals(series: xr.DataArray) -> xr.DataArray:
    name = "series" if series.name is None else str(series.name)
    text = unit_text(series.variable)
    conversion = None if text is None else affine(text, "Pa")
    if conversion is None:
        raise _refuse(
            "unconvertible-units",
            name,
            f"it has units {text!r}; a pressure in Pa is needed",
            'ds.wx.dry_air_mass()["dry_air_pressure"]',
        )
    plain = dequantify(series.to_dataset(name=name))[name]
    out = plain.astype(np.float64) * conversion.scale
    out.attrs = {}
    return out


def _elapsed(series: xr.DataArray) -> tuple[str, xr.DataArray]:
    """Return the dimension of time, and the nanoseconds since its first value."""
    valid = find_coordinates(series.to_dataset(name="series")).time
    name = "lead_time" if "lead_time" in series.dims else valid
    known = name is not None and series[name].dtype.kind in "mMO"  # no bare numbers
    if name is None or not known or series[name].ndim != 1 or series[name].size < 2:
        raise _refuse(
            "missing-time",
            "time",
            f"two times or more are needed, along one of the dimensions {series.dims}",
            "select the states of one forecast: ds.isel(time=slice(None))",
        )
    times = series[name]
    since = (times - times[0]).astype("timedelta64[ns]").astype(np.int64)
    if not bool((since.diff(since.dims[0]) > 0).all()):
        remedy = f'series = series.sortby("{name}")'
        raise _refuse("non-monotonic-time", name, "its times do not increase", remedy)
    return str(times.dims[0]), xr.DataArray(since.values, dims=since.dims)
