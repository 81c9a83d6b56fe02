"""Interpolation as an honest user would do it: in space from cells, in time from daily means."""

from __future__ import annotations

import numpy as np
import xarray as xr
from common import FINE, TIME, Floats
from scipy.interpolate import CubicSpline, RectBivariateSpline, RegularGridInterpolator

from xwx.spec import Grid

#: Rows and columns that are added on every side, so that the globe has no edge.
_AROUND = 5


def to_cells(ds: xr.Dataset, cells: Grid) -> xr.Dataset:
    """Return area means over cells, by exact overlap."""
    return ds.wx.regrid(cells, "conservative")


def conservative(coarse: xr.Dataset) -> xr.Dataset:
    """Return the fine grid's area means of fields that are constant in each cell."""
    return coarse.wx.regrid(FINE, "conservative")


def bilinear(coarse: xr.Dataset) -> xr.Dataset:
    """Interpolate linearly between the centres of cells."""
    return _each_field(coarse, _linear_field)


def bicubic(coarse: xr.Dataset) -> xr.Dataset:
    """Interpolate with cubic splines between the centres of cells."""
    return _each_field(coarse, _spline_field)


def consistent(coarse: xr.Dataset, cells: Grid, times: int) -> xr.Dataset:
    """Interpolate with splines, then again what the cells of the result are off by, and so on.

    Splines take means for values at centres, and so flatten every low. Adding the interpolated
    misfit a few times mends that without any knowledge of the weather.
    """
    estimate = bicubic(coarse)
    for _ in range(times):
        estimate = estimate + bicubic(coarse - _labelled(to_cells(estimate, cells), coarse))
        estimate = _with_attributes(estimate, coarse)
    return estimate


def linear_in_time(daily: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Interpolate linearly between the middles of days; held beyond the first and the last."""
    at = like[TIME].clip(daily[TIME].values[0], daily[TIME].values[-1])
    return daily.interp({TIME: at.values}).assign_coords({TIME: like[TIME]})


def cubic_in_time(daily: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Interpolate with natural cubic splines between the middles of days."""
    return _splined(daily, like, means=False)


def conserving_in_time(daily: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Take the slope of a cubic spline through the running integral: keeps every day's mean."""
    return _splined(daily, like, means=True)


def _splined(daily: xr.Dataset, like: xr.Dataset, *, means: bool) -> xr.Dataset:
    origin = daily[TIME].values[0]
    days = (daily[TIME].values - origin) / np.timedelta64(1, "D")
    at = (like[TIME].values - origin) / np.timedelta64(1, "D")
    out = {}
    for name, field in daily.data_vars.items():
        values = field.transpose(TIME, ...).values.astype(np.float64)
        if means:
            # A day's mean is that of four states, each of which stands for six hours.
            total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
            edges = np.append(days - 0.5, days[-1] + 0.5)
            found = CubicSpline(edges, total, bc_type="natural")(at, 1)
        else:
            at_most = np.clip(at, days[0], days[-1])
            found = CubicSpline(days, values, bc_type="natural")(at_most)
        out[name] = like[name].copy(data=found.astype(np.float32))
    return xr.Dataset(out)


def _linear_field(field: Floats, lat: Floats, lon: Floats) -> Floats:
    made = RegularGridInterpolator((lat, lon), field, method="linear")
    rows, columns = np.meshgrid(FINE.rows, FINE.columns, indexing="ij")
    found: Floats = made((rows, columns))
    return found


def _spline_field(field: Floats, lat: Floats, lon: Floats) -> Floats:
    # Rows have to increase for the spline.
    made = RectBivariateSpline(lat[::-1], lon, field[::-1])
    found: Floats = made(FINE.rows[::-1], FINE.columns)[::-1]
    return found


def _each_field(coarse: xr.Dataset, interpolate: object) -> xr.Dataset:
    lat, lon = _around(coarse)

    def fields(values: Floats) -> Floats:
        flat = values.reshape(-1, *values.shape[-2:]).astype(np.float64)
        found = np.stack([interpolate(_wrapped(f), lat, lon) for f in flat])  # type: ignore[operator]
        return found.reshape(*values.shape[:-2], *FINE.shape).astype(np.float32)

    out = xr.apply_ufunc(
        fields,
        coarse,
        input_core_dims=[["latitude", "longitude"]],
        output_core_dims=[["latitude", "longitude"]],
        exclude_dims={"latitude", "longitude"},
        keep_attrs=True,
    )
    out = out.assign_coords(
        latitude=("latitude", FINE.rows, coarse["latitude"].attrs),
        longitude=("longitude", FINE.columns, coarse["longitude"].attrs),
    )
    return _with_attributes(out, coarse)


def _around(coarse: xr.Dataset) -> tuple[Floats, Floats]:
    """Return latitudes and longitudes with rows beyond the poles and columns all round."""
    lat, lon = coarse["latitude"].values, coarse["longitude"].values
    n = _AROUND
    rows = np.concatenate([180 - lat[:n][::-1], lat, -180 - lat[-n:][::-1]])
    columns = np.concatenate([lon[-n:] - 360, lon, lon[:n] + 360])
    return rows, columns


def _wrapped(field: Floats) -> Floats:
    """Continue a field over the poles, on the opposite meridian, and round the globe."""
    n = _AROUND
    opposite = np.roll(field, field.shape[1] // 2, axis=1)
    tall = np.concatenate([opposite[:n][::-1], field, opposite[-n:][::-1]])
    return np.concatenate([tall[:, -n:], tall, tall[:, :n]], axis=1)


def _labelled(ds: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Give a Dataset the very coordinates of another, so that differences align."""
    return ds.assign_coords(latitude=like["latitude"], longitude=like["longitude"])


def _with_attributes(ds: xr.Dataset, like: xr.Dataset) -> xr.Dataset:
    """Give variables the attributes that arithmetic has dropped."""
    for name in ds.data_vars:
        ds[name].attrs = like[name].attrs
    return ds
