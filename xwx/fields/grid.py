"""Cells of a latitude-longitude grid: edges, areas, weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.coordinates import find_coordinates
from xwx.fields.degrees import degrees_problem, degrees_problems
from xwx.fields.units import magnitudes
from xwx.spec import Grid

__all__ = [
    "area_weights",
    "bounds_of",
    "cell_areas",
    "grid_of",
    "latitude_edges",
    "latitude_weights",
]

Floats = NDArray[np.float64]


def latitude_edges(latitude: ArrayLike, bounds: ArrayLike | None = None) -> Floats:
    """Return the southern and northern edge of each row.

    Parameters
    ----------
    latitude : array_like, shape (H,)
        Degrees north, strictly monotonic, in either direction.
    bounds : array_like, shape (H, 2), optional
        CF bounds; without them an edge lies midway between two rows, and the outermost ones
        half a spacing outside, clipped at the poles.

    Returns
    -------
    array of float64, shape (H, 2)
        South and north edge [degrees north].

    Raises
    ------
    ValueError
        For latitudes that are not monotonic or not within [-90, 90], and for a single row
        without bounds.
    """
    rows = np.asarray(latitude, dtype=np.float64)
    if bounds is not None:
        pairs = np.asarray(bounds, dtype=np.float64)
        if pairs.shape != (rows.size, 2):
            raise ValueError(f"latitude bounds have shape {pairs.shape}, need ({rows.size}, 2)")
        return np.clip(np.sort(pairs, axis=1), -90.0, 90.0)
    if rows.ndim != 1 or rows.size < 2:
        raise ValueError(f"latitude of shape {rows.shape}: give two rows or more, or bounds")
    steps = np.diff(rows)
    if not (np.all(steps > 0) or np.all(steps < 0)) or np.abs(rows).max() > 90.0 + 1e-6:
        raise ValueError("latitude must be strictly monotonic within [-90, 90] degrees")
    middle = rows[:-1] + steps / 2
    edges = np.concatenate([[rows[0] - steps[0] / 2], middle, [rows[-1] + steps[-1] / 2]])
    edges = np.clip(edges, -90.0, 90.0)
    return np.sort(np.stack([edges[:-1], edges[1:]], axis=1), axis=1)


def cell_areas(latitude: ArrayLike, bounds: ArrayLike | None = None) -> Floats:
    r"""Area of a cell of each row, per radian of longitude, on the unit sphere.

    .. math:: a_i = \sin\varphi_i^N - \sin\varphi_i^S

    Parameters
    ----------
    latitude : array_like, shape (H,)
        Degrees north, strictly monotonic.
    bounds : array_like, shape (H, 2), optional
        CF bounds [degrees north]; midpoints, clipped at the poles, without them.

    Returns
    -------
    array of float64, shape (H,)
        In the order of `latitude`; sums to 2 over the globe.

    Raises
    ------
    ValueError
        See :func:`latitude_edges`.
    """
    south, north = np.deg2rad(latitude_edges(latitude, bounds)).T
    # sin N - sin S without cancellation
    areas: Floats = 2.0 * np.cos((north + south) / 2) * np.sin((north - south) / 2)
    return areas


def latitude_weights(
    latitude: ArrayLike, kind: Literal["area", "cos"] = "area", bounds: ArrayLike | None = None
) -> Floats:
    """Mean-one weights of the rows of a grid.

    Parameters
    ----------
    latitude : array_like, shape (H,)
        Degrees north.
    kind : {"area", "cos"}
        Exact cell areas, or the cosine of latitude that many papers use.
    bounds : array_like, shape (H, 2), optional
        CF bounds [degrees north], for ``kind="area"``.

    Returns
    -------
    array of float64, shape (H,)

    Raises
    ------
    ValueError
        For another `kind`, and as :func:`latitude_edges`.
    """
    rows = np.asarray(latitude, dtype=np.float64)
    if kind not in ("area", "cos"):
        raise ValueError(f'weights={kind!r}: give "area" or "cos"')
    if rows.size == 1:
        return np.ones(1)
    raw = cell_areas(rows, bounds) if kind == "area" else np.cos(np.deg2rad(rows))
    return np.asarray(raw / raw.mean())


def bounds_of(ds: xr.Dataset, name: str) -> Floats | None:
    """Return the CF bounds (n, 2) of a one-dimensional coordinate of `ds`; None without them."""
    key: Any = ds[name].attrs.get("bounds", ds[name].encoding.get("bounds"))
    if key is None or key not in ds.variables:
        return None
    variable = ds.variables[key]
    if variable.ndim != 2 or ds[name].dims[0] not in variable.dims:
        return None
    pairs = magnitudes(variable.transpose(ds[name].dims[0], ...)).astype(np.float64)
    return pairs if pairs.shape[1] == 2 else None


def area_weights(ds: xr.Dataset) -> xr.DataArray:
    """Mean-one cell-area weights along the latitude of a Dataset.

    Parameters
    ----------
    ds : Dataset
        With a one-dimensional latitude; its CF bounds are used if it has them.

    Returns
    -------
    DataArray
        Along the Dataset's own latitude, ready for ``ds.weighted(...)``.

    Raises
    ------
    MismatchError
        If there is no one-dimensional, monotonic latitude in degrees north.
    """
    name = find_coordinates(ds).latitude
    if name is None:
        raise MismatchError([_no_latitude()], what="area weights")
    if (wrong := degrees_problem(ds, name, "latitude")) is not None:
        raise MismatchError([wrong], what="area weights")
    coordinate = ds[name]
    try:
        weights = latitude_weights(magnitudes(coordinate.variable), bounds=bounds_of(ds, name))
    except ValueError as error:
        problem = Problem("non-monotonic-latitude", name, str(error), f'ds = ds.sortby("{name}")')
        raise MismatchError([problem], what="area weights") from error
    attrs = {"long_name": "area weight, mean one", "units": "1"}
    array = xr.DataArray(weights, dims=coordinate.dims, name="area_weights", attrs=attrs)
    return array.assign_coords(coordinate.coords)


def _no_latitude() -> Problem:
    return Problem(
        kind="missing-latitude",
        where="latitude",
        message="no one-dimensional latitude coordinate was found, by standard_name, units or name",
        remedy='ds["y"].attrs["standard_name"] = "latitude"  # "y": the name of your latitude',
    )


def grid_of(ds: xr.Dataset) -> Grid:
    """Return the grid of a Dataset in the house's orientation: north first, eastwards from 0.

    Parameters
    ----------
    ds : Dataset
        With one-dimensional latitude and longitude.

    Raises
    ------
    MismatchError
        If latitude or longitude is not found, or not in degrees north and east.
    """
    names = find_coordinates(ds)
    if names.latitude is None or names.longitude is None:
        raise MismatchError(
            [
                Problem(
                    kind="missing-latitude",
                    where="latitude, longitude",
                    message="one-dimensional latitude and longitude are needed, and not found",
                    remedy='ds["lat"].attrs["units"] = "degrees_north"  # and "degrees_east"',
                )
            ],
            what="a grid",
        )
    if wrong := degrees_problems(ds, names.latitude, names.longitude):
        raise MismatchError(wrong, what="a grid")
    rows = magnitudes(ds.variables[names.latitude]).astype(np.float64)
    columns = magnitudes(ds.variables[names.longitude]).astype(np.float64)
    return Grid(tuple(np.sort(rows)[::-1].tolist()), tuple(np.sort(columns % 360.0).tolist()))
