"""Forecast, truth and their difference side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import area_weights, conform, difference_units, find_coordinates
from xwx.plot.canvas import colour_bar, maps, view_of
from xwx.plot.maps import label_of, read, shade
from xwx.plot.select import has, horizontal, plain
from xwx.plot.slab import Slab, within
from xwx.plot.style import DIFFERENCE, extend, limits, style_of
from xwx.plot.times import timed
from xwx.plot.words import stamp, when, with_units

__all__ = ["compare", "truth_at"]


def compare(
    ds: xr.Dataset,
    truth: xr.Dataset,
    variable: str | None = None,
    *,
    time: Any = None,
    level: float | None = None,
    projection: Any = None,
    extent: Sequence[float] | None = None,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Draw a forecast, the truth at its valid time, and forecast minus truth.

    Parameters
    ----------
    ds : Dataset
        The forecast.
    truth : Dataset
        In any presentation, on the same grid; it needs the valid time that is drawn.
    variable, time, level, projection, extent, cmap, vmin, vmax, figsize
        As for :func:`xwx.plot.maps.draw_map`; the colours are those of forecast and truth.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``axes`` are the three maps. Forecast and truth share one range, that of both; the
        difference is symmetric around zero. Its title has the area-weighted RMSE and bias

        .. math:: \\sqrt{\\overline{w (f - o)^2}}, \\quad \\overline{w (f - o)}

        over the field, or, with `extent`, over the points inside it; points where either is NaN
        do not count.

    Raises
    ------
    MismatchError
        If the truth does not fit the forecast, or does not have its valid time.
    ValueError, TypeError
        As for :func:`xwx.plot.maps.draw_map`.
    """
    ds, truth = timed(plain(ds)), plain(truth)
    lat, lon = horizontal(ds)
    name = has(ds, variable, (str(ds[lat].dims[0]), str(ds[lon].dims[0])), "a comparison")
    array, forecast = read(ds, name, time=time, level=level)
    observed = read(truth_at(truth, array), name)[1]
    units, factor = _difference(array)
    apart = forecast.values.astype(np.float64) - observed.values.astype(np.float64)
    difference = Slab(factor * apart, forecast.latitude, forecast.longitude, forecast.periodic)
    view, style = view_of(forecast, projection, extent), style_of(name, array.attrs)
    both = np.concatenate([within(slab, view.box) for slab in (forecast, observed)])
    low, high = limits(both, style, vmin, vmax)
    with maps(view, 3, figsize=figsize) as axes:
        for ax, slab, title in zip(axes, (forecast, observed), ("forecast", "truth"), strict=False):
            mesh = shade(ax, slab, style, cmap, low, high)
            colour_bar(ax, mesh, label_of(ds, array), extend(both, low, high), below=True)
            ax.set_title(f"{title}\n{when(array) if slab is forecast else _valid(array)}", size=10)
        shown = within(difference, view.box)
        mesh = shade(axes[2], difference, DIFFERENCE, None, *limits(shown, DIFFERENCE))
        beyond = extend(shown, *mesh.get_clim())
        colour_bar(axes[2], mesh, with_units("difference", units), beyond, below=True)
        weights = _weights(ds, difference, view.box if extent is not None else None)
        axes[2].set_title(f"forecast - truth\n{_sums(difference.values, weights, units)}", size=10)
        figure: Figure = axes[0].figure
    return figure


def truth_at(truth: xr.Dataset, array: xr.DataArray) -> xr.Dataset:
    """Return the truth at the valid time of a field (or valid times), presented like the field.

    Parameters
    ----------
    truth : Dataset
    array : DataArray
        Of the forecast: its valid time is a scalar coordinate.

    Raises
    ------
    MismatchError
        If the truth has no such time, or does not fit.
    """
    name = find_coordinates(truth).time
    wanted = find_coordinates(array.to_dataset()).time
    if name is None or wanted is None:
        where = "truth" if name is None else str(array.name)
        remedy = 'ds = ds.assign_coords(time=("time", times))  # times: datetime64'
        problem = Problem("missing-time", where, "it has no valid time", remedy)
        raise MismatchError([problem], what="a comparison with the truth")
    if truth[name].ndim:
        truth = truth.isel({truth[name].dims[0]: _at(truth[name], array[wanted])})
    else:
        _at(truth[name].expand_dims("time"), array[wanted])
    return conform(truth, array.to_dataset())


def _at(times: xr.DataArray, wanted: xr.DataArray) -> int:
    found = np.flatnonzero(times.values == wanted.values)
    if not found.size:
        ends = f"{stamp(times.values[0])} to {stamp(times.values[-1])}"
        problem = Problem(
            kind="missing-time",
            where=f"truth: {times.name}",
            message=f"it has no {stamp(wanted.values[()])}; it has {times.size} times, {ends}",
            remedy="open the truth at that time too, or choose another: time=...",
        )
        raise MismatchError([problem], what="a comparison with the truth")
    return int(found[0])


def _valid(array: xr.DataArray) -> str:
    return when(array.drop_vars("lead_time", errors="ignore"))


def _difference(array: xr.DataArray) -> tuple[str, float]:
    """Return the units of a difference of two values, and the factor that brings it to them."""
    text = str(array.attrs.get("units", "")).strip()
    return difference_units(text) if text else ("", 1.0)


def _weights(ds: xr.Dataset, slab: Slab, box: Any) -> NDArray[np.float64]:
    """Return the area weight of every point, zero outside a box of west, east, south, north."""
    name, rows = horizontal(ds)[0], slab.latitude
    along = area_weights(ds).sortby(name).values
    weights = np.repeat(along[:, None], slab.longitude.size, axis=1)
    if box is not None:
        west, east, south, north = box
        inside = np.mod(slab.longitude - west, 360.0) <= east - west
        weights = weights * inside * ((rows >= south) & (rows <= north))[:, None]
    return weights


def _sums(difference: NDArray[np.float64], weights: NDArray[np.float64], units: str) -> str:
    there = np.isfinite(difference)
    total = float(weights[there].sum())
    if not total:
        return "no point to compare"
    bias = float((weights[there] * difference[there]).sum() / total)
    rmse = float(np.sqrt((weights[there] * difference[there] ** 2).sum() / total))
    bias = bias if abs(bias) > 1e-9 * rmse else 0.0  # what is left is rounding
    return f"RMSE {rmse:.4g}, bias {bias:.4g} {units}".strip()
