"""Ensembles: a plume at a point, and one contour of every member on a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import conform, find_coordinates
from xwx.plot.canvas import LATLON, centre_of, curve_axes, maps, view_of
from xwx.plot.maps import name_of, read
from xwx.plot.select import chosen, has, horizontal, plain
from xwx.plot.slab import closed
from xwx.plot.steps import step_dim, times_along
from xwx.plot.times import timed
from xwx.plot.words import level_text, long_name, stamp, when, with_units

__all__ = ["distance", "plume", "spaghetti"]

_EARTH_RADIUS = 6371.0
_MEMBERS = ("member", "number", "ensemble", "realization")


def plume(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    latitude: float,
    longitude: float,
    level: float | None = None,
    truth: xr.Dataset | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
) -> Axes:
    """Draw an ensemble over time at the grid point next to a place.

    Parameters
    ----------
    ds : Dataset
        With the dimension ``member`` and times, of one start.
    variable : str, optional
        By default the only one.
    latitude, longitude : float
        Degrees north and east, in any convention.
    level : float, optional
        Not needed where there is one.
    truth : Dataset, optional
        In any presentation, on the same grid; drawn at the valid times that it has.
    ax : Axes, optional
        By default in a new figure of pyplot.
    figsize : (float, float), optional

    Returns
    -------
    Axes
        Members as thin lines, their median, the ranges that hold 50 % and 90 % of them, over
        valid time, or over lead time where the calendar is not a real one. The title has the
        grid point and its distance.

    Raises
    ------
    MismatchError
        If there is no ensemble, or more dimensions are left than the picture has.
    ValueError
        For a place outside the grid.
    """
    ds = timed(plain(ds))
    lat, lon = horizontal(ds)
    member = _member(ds)
    dims = str(ds[lat].dims[0]), str(ds[lon].dims[0])
    name = has(ds, variable, (*dims, member), "a plume")
    row, column, text = _nearest(ds, lat, lon, latitude, longitude)
    # Lists keep the dimensions, so that the truth can be brought to this one point.
    point = ds[[name]].isel({dims[0]: [row], dims[1]: [column]})
    step = step_dim(point[name])
    if step is None:
        problem = Problem("missing-time", name, "it has no steps", "spaghetti or map draw one step")
        raise MismatchError([problem], what="a plume")
    array = chosen(point, name, "a plume", level=level, keep=(step, member))
    x, label = _abscissa(array, step)
    with curve_axes(ax, figsize or (8.0, 4.2)) as axes:
        _draw_plume(axes, x, array.transpose(step, member).values)
        if truth is not None:
            when_, values = _truth(plain(truth), point, array, step)
            axes.plot(when_, values, "k.-", linewidth=1.2, label="truth", zorder=4)
        axes.set_xlabel(label)
        if label == "valid time":
            locator: Any = mdates.AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]
            dates: Any = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(dates)
        axes.set_ylabel(with_units("", array.attrs.get("units")).strip())
        axes.margins(x=0.01)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        height = level_text(array, find_coordinates(ds).vertical if level is not None else None)
        axes.set_title(f"{long_name(array, height)}\n{text}", fontsize=10)
        axes.legend(frameon=False, fontsize=8, ncols=5, loc="best")
    return axes


def _member(ds: xr.Dataset) -> str:
    for name in _MEMBERS:
        if name in ds.dims:
            return name
    problem = Problem(
        kind="missing-dimension",
        where="member",
        message=f"an ensemble has a dimension 'member'; there are {', '.join(map(str, ds.dims))}",
        remedy='ds = xr.concat(forecasts, "member")  # or ds.rename({"ens": "member"})',
    )
    raise MismatchError([problem], what="a picture of an ensemble")


def _nearest(
    ds: xr.Dataset, lat: str, lon: str, latitude: float, longitude: float
) -> tuple[int, int, str]:
    """Return the row and column of the nearest grid point, and both places in words."""
    if not -90.0 <= latitude <= 90.0:
        raise ValueError(f"latitude={latitude}: give degrees north, -90 to 90")
    rows, columns = (ds[key].values.astype(np.float64) for key in (lat, lon))
    apart = distance(latitude, longitude, rows[:, None], columns[None, :])
    row, column = (int(n) for n in np.unravel_index(apart.argmin(), apart.shape))
    high, wide = (np.abs(np.diff(a)).min() if a.size > 1 else 1.0 for a in (rows, columns))
    reach = _EARTH_RADIUS * float(np.deg2rad(np.hypot(high, wide)))
    nearest = apart[row, column]
    if nearest > reach:
        raise ValueError(
            f"latitude={latitude}, longitude={longitude}: the nearest grid point is {nearest:.0f} "
            f"km away; the grid has latitudes {rows.min():g} to {rows.max():g} and longitudes "
            f"{columns.min():g} to {columns.max():g}"
        )
    there, here = _place(rows[row], columns[column]), _place(latitude, longitude)
    return row, column, f"{there}, {nearest:.0f} km from {here}"


def distance(
    latitude: float, longitude: float, latitudes: NDArray[Any], longitudes: NDArray[Any]
) -> NDArray[np.float64]:
    r"""Great-circle distance [km] by the haversine formula, on a sphere of radius 6371 km.

    .. math:: 2 R \arcsin\sqrt{\sin^2\tfrac{\Delta\varphi}{2}
        + \cos\varphi_1 \cos\varphi_2 \sin^2\tfrac{\Delta\lambda}{2}}

    Parameters
    ----------
    latitude, longitude : float
        Degrees north and east.
    latitudes, longitudes : array
        Degrees, of shapes that broadcast.
    """
    a, b = np.deg2rad(latitude), np.deg2rad(latitudes)
    across = np.deg2rad(longitudes - longitude)
    square = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(across / 2) ** 2
    return np.asarray(2 * _EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(square, 0.0, 1.0))))


def _place(latitude: float, longitude: float) -> str:
    east = (longitude + 180.0) % 360.0 - 180.0
    return (
        f"{abs(latitude):g}°{'N' if latitude >= 0 else 'S'} "
        f"{abs(east):g}°{'E' if east >= 0 else 'W'}"
    )


def _abscissa(array: xr.DataArray, step: str) -> tuple[Any, str]:
    """Return where the steps lie along the axis, and its label."""
    times = times_along(array, step)
    if times is not None and np.issubdtype(times.dtype, np.datetime64):
        return times, "valid time"
    if "lead_time" in array.coords:
        return array["lead_time"].values / np.timedelta64(1, "h"), "lead time [h]"
    return np.arange(array.sizes[step]), "step"


def _draw_plume(ax: Axes, x: Any, values: NDArray[Any]) -> None:
    """Draw members (steps, members), their median and ranges."""
    lines = ax.plot(x, values, color="0.6", linewidth=0.4, alpha=0.7, zorder=1)
    lines[0].set_label("members")
    low, lower, median, upper, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    ax.fill_between(x, low, high, color="C0", alpha=0.2, linewidth=0, label="90 %", zorder=2)
    ax.fill_between(x, lower, upper, color="C0", alpha=0.4, linewidth=0, label="50 %", zorder=2)
    ax.plot(x, median, color="C0", linewidth=2, label="median", zorder=3)


def _truth(
    truth: xr.Dataset, point: xr.Dataset, array: xr.DataArray, step: str
) -> tuple[Any, NDArray[Any]]:
    """Return the truth at the point, at the valid times that it has."""
    times, name = times_along(array, step), find_coordinates(truth).time
    if name is None or times is None or truth[name].ndim == 0:
        where = "forecast" if times is None else "truth"
        remedy = 'ds = ds.assign_coords(time=("time", times))'
        problem = Problem("missing-time", where, "it has no valid times along a dimension", remedy)
        raise MismatchError([problem], what="a plume with the truth")
    held = truth[name].values
    common = np.flatnonzero(np.isin(held, times))
    if not common.size:
        message = f"it has none of the valid times {stamp(times[0])} to {stamp(times[-1])}"
        remedy = "open the truth at these times, or leave truth out"
        problem = Problem("missing-time", f"truth: {name}", message, remedy)
        raise MismatchError([problem], what="a plume with the truth")
    dim = str(truth[name].dims[0])
    like = point.isel({d: 0 for d in point.dims if d in (step, *_MEMBERS, "init_time")})
    vertical = find_coordinates(point).vertical
    fitted = conform(truth.isel({dim: common}), like)
    level = float(array[vertical]) if vertical is not None and vertical in array.coords else None
    layered = vertical is not None and set(point[vertical].dims) & set(fitted[array.name].dims)
    values = chosen(
        fitted, str(array.name), "the truth", level=level if layered else None, keep=(dim,)
    )
    x, _ = _abscissa(array, step)
    place = dict(zip(times.tolist(), np.asarray(x), strict=True))
    return np.array([place[time] for time in held[common].tolist()]), values.values


def spaghetti(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    contour: float,
    time: Any = None,
    level: float | None = None,
    projection: Any = None,
    extent: Sequence[float] | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Draw one contour of every member on a map, and that of their mean.

    Parameters
    ----------
    ds : Dataset
        With the dimension ``member``.
    variable : str, optional
        By default the only one.
    contour : float
        The value of the lines, in the units of the variable.
    time, level, projection, extent, ax, figsize
        As for :func:`xwx.plot.maps.draw_map`.

    Returns
    -------
    GeoAxes

    Raises
    ------
    MismatchError
        If there is no ensemble, or it is not clear which time, level or start is meant.
    ValueError
        If no member has the value.
    """
    ds = timed(plain(ds))
    lat, lon = horizontal(ds)
    member = _member(ds)
    dims = str(ds[lat].dims[0]), str(ds[lon].dims[0])
    name = has(ds, variable, (*dims, member), "a spaghetti plot")
    array, slab = read(ds, name, keep=(member,), time=time, level=level)
    low, high = float(np.nanmin(slab.values)), float(np.nanmax(slab.values))
    if not low <= contour <= high:
        units = array.attrs.get("units", "")
        raise ValueError(
            f"contour={contour:g}: no member has it; {name!r} goes from {low:g} to {high:g} {units}"
        )
    with maps(view_of(slab, projection, extent), ax=ax, figsize=figsize, bar=False) as (axes,):
        slab = closed(slab, centre_of(axes))
        fields = [*slab.values, slab.values.mean(axis=0)]
        for number, values in enumerate(fields):
            mean = number == len(fields) - 1
            if values.min() <= contour <= values.max():  # otherwise matplotlib warns
                axes.contour(
                    slab.longitude,
                    slab.latitude,
                    values,
                    [contour],
                    transform=LATLON,
                    colors="k" if mean else [f"C{number % 10}"],
                    linewidths=2.0 if mean else 0.7,
                )
        value = f"{contour:g} {array.attrs.get('units', '')}".strip()
        axes.set_title(f"{name_of(ds, array)} = {value}\n{when(array)}".strip(), fontsize=10)
        lines = [Line2D([], [], color="k", linewidth=2), Line2D([], [], color="C0", linewidth=0.7)]
        texts = ["mean", f"{len(fields) - 1} members"]
        axes.legend(lines, texts, loc="lower left", fontsize=8, framealpha=0.9)
    return axes
