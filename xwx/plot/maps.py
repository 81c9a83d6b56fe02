"""A field on a map, with contour lines and wind barbs if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import xarray as xr

from xwx.errors import MismatchError
from xwx.fields import find_coordinates
from xwx.fields.coordinates import level_pascals
from xwx.fields.locate import locate
from xwx.fields.profile import profiles
from xwx.fields.units import affine
from xwx.plot.canvas import LATLON, centre_of, colour_bar, maps, view_of
from xwx.plot.select import chosen, has, horizontal, plain
from xwx.plot.slab import Slab, cells, closed, slab_of, within
from xwx.plot.steps import step_dim
from xwx.plot.style import Style, extend, limits, style_of
from xwx.plot.table import metric_units
from xwx.plot.times import timed
from xwx.plot.words import (
    level_text,
    long_name,
    metric_of,
    metric_text,
    remark,
    when,
    with_units,
)
from xwx.spec import Channel

__all__ = ["draw_map", "heading", "label_of", "name_of", "read", "shade"]


def draw_map(
    ds: xr.Dataset,
    variable: str | None = None,
    *,
    time: Any = None,
    level: float | None = None,
    projection: Any = None,
    extent: Sequence[float] | None = None,
    contours: str | None = None,
    contour_levels: Sequence[float] | int = 12,
    wind: bool = False,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Draw one field of one step on a map with coastlines.

    Parameters
    ----------
    ds : Dataset
    variable : str, optional
        By default the only variable along latitude and longitude.
    time : int, timedelta, time or str, optional
        The number of a step, a lead time or a valid time (a string is one exact time:
        ``"2026-01-25"`` is midnight); not needed where there is one.
    level : float, optional
        In the units of the Dataset's levels; not needed where there is one.
    projection : cartopy.crs.CRS or str, optional
        By default latitude and longitude for a globe, and one that suits the region otherwise.
    extent : (west, east, south, north), optional
        Degrees; by default all of the field, or what lies on the hemisphere of a polar
        projection. West may lie east of the date line.
    contours : str, optional
        A variable to draw as lines over the colours, at the same time and, if it has levels, the
        same level.
    contour_levels : int or sequence of float
        How many contours, about, or their values.
    wind : bool
        Whether to draw wind barbs (half a barb 5 kn, a barb 10 kn, a flag 50 kn): the wind at the
        level of the variable, at 10 m if it has none.
    cmap : str or Colormap, optional
        By default by the variable: see :mod:`xwx.plot.style`. Scores, which have a scalar
        coordinate ``metric``, have colours of their own: diverging around zero for "bias", "acc"
        and a variable ``X_difference``, light to dark for others.
    vmin, vmax : float, optional
        The range of the colours. By default that of the cells that the map shows; symmetric around
        zero for wind components, vorticity, divergence and vertical velocity, then holding 99.5 %
        of the points.
    ax : GeoAxes, optional
        Where to draw; by default in a new figure of pyplot.
    figsize : (float, float), optional
        Of a new figure [inches]; by default what the map needs.

    Returns
    -------
    matplotlib.collections.QuadMesh
        The coloured cells; ``.axes`` and ``.figure`` lead to the rest.

    Raises
    ------
    MismatchError
        If it is not clear which variable, time, level, member or start is meant, or there is no
        latitude, longitude or wind.
    ValueError, TypeError
        For a time, level, extent or projection that there is not.
    """
    ds = timed(plain(ds))
    name = has(ds, variable, _dims(ds), "a map")
    array, slab = read(ds, name, time=time, level=level)
    view = view_of(slab, projection, extent)
    lines = None if contours is None else _read_lines(ds, contours, time, level)
    barbs = _wind(ds, array, time) if wind else None
    with maps(view, ax=ax, figsize=figsize) as (axes,):
        style, shown = style_of(name, array.attrs, metric_of(array)), within(slab, view.box)
        mesh = shade(axes, slab, style, cmap, *limits(shown, style, vmin, vmax))
        beyond = extend(shown, *mesh.get_clim())
        colour_bar(axes, mesh, label_of(ds, array), beyond)
        title = heading(ds, array)
        if lines is not None:
            _contours(axes, lines[1], contour_levels)
            title = f"{title}\ncontours: {label_of(ds, lines[0])}".strip()
        if barbs is not None:
            _barbs(axes, *barbs)
        axes.set_title(title, fontsize=10)
    return mesh


def _dims(ds: xr.Dataset) -> tuple[str, str]:
    """Return the dimensions of latitude and longitude."""
    lat, lon = horizontal(ds)
    return str(ds[lat].dims[0]), str(ds[lon].dims[0])


def read(
    ds: xr.Dataset, name: str, keep: Sequence[str] = (), **select: Any
) -> tuple[xr.DataArray, Slab]:
    """Choose a field, along `keep` too, and compute it alone."""
    lat, lon = horizontal(ds)
    array = chosen(ds, name, "a map", keep=(*keep, *_dims(ds)), **select)
    slab = slab_of(array, lat, lon)
    return array, slab


def label_of(ds: xr.Dataset, array: xr.DataArray) -> str:
    """Return the name of a field with its level and units, and the metric of scores."""
    metric = metric_of(array)
    units = array.attrs.get("units") if metric is None else metric_units(array, metric)
    return with_units(name_of(ds, array), units)


def name_of(ds: xr.Dataset, array: xr.DataArray) -> str:
    """Return the name of a field with its level, and the metric of scores."""
    level = level_text(array, find_coordinates(ds).vertical if _on_level(ds, array) else None)
    name, metric = long_name(array, level), metric_of(array)
    if metric is None:
        return name
    if name[:2].istitle():  # a word, and no abbreviation or symbol
        name = name[0].lower() + name[1:]
    kind = " difference" if str(array.name).endswith("_difference") else ""
    return f"{metric_text(metric)}{kind} of {name}"


def heading(ds: xr.Dataset, array: xr.DataArray) -> str:
    """Return the times of a field, and what else was chosen."""
    vertical = find_coordinates(ds).vertical
    chosen_dims = {str(dim) for dim in ds[str(array.name)].dims}
    rest = array.drop_vars([str(vertical), "lead_time"], errors="ignore")
    return ", ".join(filter(None, (when(array), remark(rest, chosen_dims))))


def _on_level(ds: xr.Dataset, array: xr.DataArray) -> bool:
    """Whether a variable has a level of its own: a scalar one stands beside all variables."""
    vertical = find_coordinates(ds).vertical
    return vertical is not None and (
        ds[vertical].ndim == 0 or ds[vertical].dims[0] in ds[str(array.name)].dims
    )


def shade(
    ax: Any,
    slab: Slab,
    style: Style,
    cmap: Any,
    low: float,
    high: float,
) -> Any:
    """Draw the cells of a slab in colours from `low` to `high`."""
    x, y, values = cells(slab, centre_of(ax))
    return ax.pcolormesh(
        x,
        y,
        values,
        transform=LATLON,
        shading="flat",
        cmap=cmap or style.cmap,
        vmin=low,
        vmax=high,
        rasterized=True,
    )


def _read_lines(
    ds: xr.Dataset, name: str, time: Any, level: float | None
) -> tuple[xr.DataArray, Slab]:
    name = has(ds, name, _dims(ds), "contours")
    vertical = find_coordinates(ds).vertical
    layered = vertical is not None and set(ds[vertical].dims) & set(ds[name].dims)
    return read(ds, name, time=_own(ds[name], time), level=level if layered else None)


def _own(array: xr.DataArray, time: Any) -> Any:
    """Return the time for a field beside another: none for one that never changes."""
    return None if step_dim(array) is None else time


def _contours(ax: Any, slab: Slab, levels: Sequence[float] | int) -> None:
    slab = closed(slab, centre_of(ax))
    lines = ax.contour(
        slab.longitude,
        slab.latitude,
        slab.values,
        levels,
        transform=LATLON,
        colors="k",
        linewidths=0.7,
    )
    plainly = matplotlib.ticker.FormatStrFormatter("%g")
    ax.clabel(lines, fontsize=7, fmt=plainly)


def _wind(ds: xr.Dataset, array: xr.DataArray, time: Any) -> tuple[Slab, Slab]:
    """Return the wind [kn] that belongs to a field, eastward and northward."""
    vertical = find_coordinates(ds).vertical
    pascals = None
    if vertical is not None and vertical in array.coords and _on_level(ds, array):
        pascals = level_pascals(array[vertical].variable)
    level = None if pascals is None else float(pascals[0])
    keys = ("u10", "v10") if level is None else ("u", "v")
    places, problems = locate([Channel(key, level) for key in keys], profiles(ds))
    if problems:
        raise MismatchError(problems, what="wind barbs")
    parts = []
    for place in (places[0], places[1]):
        part = ds[[place.profile.name]]
        if place.level is not None and place.profile.layered:
            dim = ds[str(place.profile.vertical)].dims[0]
            part = part.isel({dim: place.level})
        step = affine(str(place.profile.units), "knot")
        assert step is not None  # locate() made sure
        _, slab = read(part, place.profile.name, time=_own(part[place.profile.name], time))
        parts.append(Slab(step.scale * slab.values, slab.latitude, slab.longitude, slab.periodic))
    return parts[0], parts[1]


def _barbs(ax: Any, east: Slab, north: Slab, most: int = 28) -> None:
    """Draw barbs, as many as can be told apart."""
    x, y = np.array(ax.get_extent(LATLON)).reshape(2, 2)
    near = _about((x[0] + x[1]) / 2, east.longitude)
    columns = np.flatnonzero((near >= x[0]) & (near <= x[1]))
    # At the poles a barb has no direction, and no place in many projections.
    inside = (east.latitude >= y[0]) & (east.latitude <= y[1]) & (np.abs(east.latitude) < 88.0)
    rows = np.flatnonzero(inside)
    spacing = max((x[1] - x[0]) / most, 1e-9)
    by = [
        max(1, round(spacing / float(np.median(np.abs(np.diff(axis))))))
        for axis in (east.latitude, east.longitude)
    ]
    rows, columns = rows[by[0] // 2 :: by[0]], columns[by[1] // 2 :: by[1]]
    lon, lat = np.meshgrid(near[columns], east.latitude[rows])
    u, v = (s.values[np.ix_(rows, columns)].astype(np.float64) for s in (east, north))
    ax.barbs(
        lon, lat, u, v, transform=LATLON, length=4.5, linewidth=0.5, flip_barb=lat < 0, zorder=3
    )


def _about(middle: float, longitude: Any) -> Any:
    """Return longitudes within half a turn of the middle of a map."""
    return middle + np.mod(longitude - middle + 180.0, 360.0) - 180.0
