"""Labelled regridding between latitude-longitude grids: separable, exact on the sphere."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.coordinates import Coordinates, curvilinear, find_coordinates
from xwx.fields.degrees import degrees_problems
from xwx.fields.grid import bounds_of, latitude_edges
from xwx.fields.units import held_unit, magnitudes, quantity, strip
from xwx.spec import Grid

__all__ = ["column_weights", "regrid", "row_weights"]

Floats = NDArray[np.float64]
Method = Literal["conservative", "linear"]
#: Part of a target cell that may lie outside the source, for rounding of coordinates.
_SLACK = 1e-4


def regrid(ds: xr.Dataset, grid: Grid, method: Method = "conservative") -> xr.Dataset:
    """Bring all fields of a Dataset on to another latitude-longitude grid.

    Parameters
    ----------
    ds : Dataset
        With one-dimensional latitude and longitude, in any order; global or regional.
    grid : Grid
        The target; it must lie inside the source.
    method : {"conservative", "linear"}
        Averages over cells, weighted with the exact areas of overlap (sine of latitude by
        longitude); or bilinear in degrees, periodic round the globe. Poleward of the last row
        the bilinear method takes that row.

    Returns
    -------
    Dataset
        Same names, dimension order, attributes, dtype; latitude runs the way it did, longitude
        keeps its convention. A value is NaN where a NaN contributes to it. Bounds of the old
        coordinates are dropped.

    Raises
    ------
    MismatchError
        If the target lies outside the source, or the source has no rows and columns, in degrees.
    ValueError
        For another `method`.
    """
    if method not in ("conservative", "linear"):
        raise ValueError(f'method={method!r}: give "conservative" or "linear"')
    names = find_coordinates(ds)
    lat, lon = _axes(ds, names)
    rows = magnitudes(ds.variables[lat]).astype(np.float64)
    columns = magnitudes(ds.variables[lon]).astype(np.float64)
    new_rows = grid.rows if rows[0] > rows[-1] else grid.rows[::-1]
    new_columns = grid.columns
    if columns.min() < 0:
        new_columns = np.sort(np.mod(new_columns + 180.0, 360.0) - 180.0)
    weights = {
        str(ds[lat].dims[0]): row_weights(rows, new_rows, method, bounds_of(ds, lat)),
        str(ds[lon].dims[0]): column_weights(columns, new_columns, method),
    }
    return _apply(ds, weights, {lat: new_rows, lon: new_columns})


def _axes(ds: xr.Dataset, names: Coordinates) -> tuple[str, str]:
    lat, lon = names.latitude, names.longitude
    if lat is None or lon is None or ds[lat].dims == ds[lon].dims:
        wide = curvilinear(ds)
        found = f"; {wide[0]!r} and {wide[1]!r} are two-dimensional" if wide else ""
        raise _refuse(
            "missing-latitude" if not wide else "curvilinear-grid",
            "latitude, longitude",
            f"one-dimensional latitude and longitude are needed{found}",
            "use a regridder for curvilinear grids, such as xesmf.Regridder",
        )
    if wrong := degrees_problems(ds, lat, lon):
        raise MismatchError(wrong, what="regridding")
    return lat, lon


def _refuse(kind: str, where: str, message: str, remedy: str) -> MismatchError:
    return MismatchError([Problem(kind, where, message, remedy)], what="regridding")


def _outside(axis: str, target: Floats, source: Floats) -> MismatchError:
    return _refuse(
        "regional-grid",
        axis,
        f"the target's {axis} {target.min():g} to {target.max():g} is not inside the source's, "
        f"{source.min():g} to {source.max():g}",
        "choose a target inside the source, or open data of the whole domain",
    )


def _overlap(source: Floats, target: Floats) -> Floats:
    """Return lengths of overlap (target, source) of intervals (n, 2)."""
    low = np.maximum(target[:, None, 0], source[None, :, 0])
    high = np.minimum(target[:, None, 1], source[None, :, 1])
    return np.asarray(np.clip(high - low, 0.0, None))


def row_weights(
    source: Floats, target: Floats, method: Method, bounds: Floats | None = None
) -> Floats:
    """Return the matrix (target rows, source rows); each of its rows sums to one.

    Parameters
    ----------
    source, target : array, shape (n,)
        Latitudes [degrees north], each monotonic.
    method : {"conservative", "linear"}
    bounds : array, shape (n, 2), optional
        Bounds of the source rows.
    """
    try:
        edges = latitude_edges(source, bounds)
    except ValueError as error:
        problem = ("non-monotonic-latitude", "latitude", str(error), 'ds = ds.sortby("latitude")')
        raise _refuse(*problem) from error
    if method == "linear":
        return _linear_rows(source, target, edges)
    cells = np.sin(np.deg2rad(latitude_edges(target)))
    weights: Floats = _overlap(np.sin(np.deg2rad(edges)), cells)
    covered = weights.sum(axis=1, keepdims=True)
    if np.any(covered[:, 0] < (1 - _SLACK) * (cells[:, 1] - cells[:, 0])):
        raise _outside("latitude", target, edges)
    return np.asarray(weights / covered)


def _linear_rows(source: Floats, target: Floats, edges: Floats) -> Floats:
    low, high = source.min(), source.max()
    # a row whose cell touches the pole stands for everything poleward of it
    low = -90.0 if edges.min() <= -90.0 + _SLACK else low
    high = 90.0 if edges.max() >= 90.0 - _SLACK else high
    if target.min() < low - _SLACK or target.max() > high + _SLACK:
        raise _outside("latitude", target, source)
    return _linear(source, target)


def _linear(source: Floats, target: Floats) -> Floats:
    """Return the weights of linear interpolation, constant outside."""
    order = np.argsort(source)
    hats = np.eye(source.size)
    return np.stack([np.interp(target, source[order], hat[order]) for hat in hats], axis=1)


def column_weights(source: Floats, target: Floats, method: Method) -> Floats:
    """Return the matrix (target columns, source columns); each of its rows sums to one.

    Parameters
    ----------
    source, target : array, shape (n,)
        Longitudes [degrees east], in any convention and order.
    method : {"conservative", "linear"}
    """
    order, gaps, periodic = _eastwards(source)
    if source.size < 2 or gaps.min() <= 1e-6:
        message = "two columns or more are needed, each meridian once"
        raise _refuse(
            "duplicated-longitude", "longitude", message, "ds = ds.isel(longitude=slice(None, -1))"
        )
    east = np.unwrap(source[order], period=360.0)
    weights = np.zeros((target.size, source.size))
    weights[:, order] = (
        _conservative_columns(east, target, periodic)
        if method == "conservative"
        else _linear_columns(east, target, periodic)
    )
    return weights


def _eastwards(columns: Floats) -> tuple[NDArray[np.intp], Floats, bool]:
    """Return the order eastwards, the gaps, and whether they go round the globe.

    Those of a region begin east of its widest gap, so that one over Greenwich stays in one piece.
    """
    order = np.argsort(np.mod(columns, 360.0))
    east = np.mod(columns, 360.0)[order]
    gaps = np.diff(np.append(east, east[0] + 360.0))
    start = 0 if gaps.max() <= 1.5 * np.median(gaps) else int(gaps.argmax()) + 1
    return np.roll(order, -start), gaps, start == 0


def _edges(east: Floats, periodic: bool) -> Floats:
    steps = np.diff(east)
    first = (east[0] - (east[-1] - 360.0)) if periodic else steps[0]
    last = first if periodic else steps[-1]
    sides = np.concatenate([[east[0] - first / 2], east[:-1] + steps / 2, [east[-1] + last / 2]])
    return np.stack([sides[:-1], sides[1:]], axis=1)


def _conservative_columns(east: Floats, target: Floats, periodic: bool) -> Floats:
    source = _edges(east, periodic)
    order, _, closes = _eastwards(target)
    cells = np.empty((target.size, 2))
    cells[order] = _edges(np.unwrap(target[order], period=360.0), closes)
    turns = 360.0 * np.arange(-2, 3)
    weights = np.sum([_overlap(source + turn, cells) for turn in turns], axis=0)
    covered = weights.sum(axis=1, keepdims=True)
    if np.any(covered[:, 0] < (1 - _SLACK) * (cells[:, 1] - cells[:, 0])):
        raise _outside("longitude", target, source)
    return np.asarray(weights / covered)


def _linear_columns(east: Floats, target: Floats, periodic: bool) -> Floats:
    at = np.mod(target - east[0] + _SLACK, 360.0) - _SLACK + east[0]
    if not periodic:
        if at.max() > east[-1] + _SLACK:
            raise _outside("longitude", target, east)
        return _linear(east, at)
    closed = _linear(np.append(east, east[0] + 360.0), np.maximum(at, east[0]))
    closed[:, 0] += closed[:, -1]
    return np.asarray(closed[:, :-1])


def _apply(ds: xr.Dataset, weights: dict[str, Floats], axes: dict[str, Floats]) -> xr.Dataset:
    dims = {str(ds[name].dims[0]) for name in axes}
    bounds = {ds[name].attrs.get("bounds") for name in axes}
    variables: dict[Any, xr.Variable] = {}
    coords: dict[Any, xr.Variable] = {}
    for key, variable in ds.variables.items():
        if key in axes or key in bounds:
            continue
        touched = dims & set(map(str, variable.dims))
        if touched and not np.issubdtype(variable.dtype, np.number) and variable.dtype != bool:
            if key in ds.coords:
                continue
            message, remedy = f"{variable.dtype} has no mean", f'ds = ds.drop_vars("{key}")'
            raise _refuse("wrong-dtype", str(key), message, remedy)
        into = coords if key in ds.coords else variables
        into[key] = _weighted(variable, weights) if touched else ds[key].variable
    for name, values in axes.items():
        old = ds.variables[name]
        attrs = {k: v for k, v in old.attrs.items() if k != "bounds"}
        if (unit := held_unit(old)) is not None:
            attrs["units"] = str(unit)
        coords[name] = xr.Variable(old.dims, values, attrs)
    return xr.Dataset(variables, coords, ds.attrs)


def _weighted(variable: xr.Variable, weights: dict[str, Floats]) -> xr.Variable:
    unit = held_unit(variable)
    out = xr.DataArray(variable.copy(data=strip(variable.data)))
    for dim, matrix in weights.items():
        if dim in variable.dims:
            out = xr.apply_ufunc(
                _average,
                out,
                kwargs={"matrix": matrix},
                input_core_dims=[[dim]],
                output_core_dims=[[dim]],
                exclude_dims={dim},
                dask="parallelized",
                dask_gufunc_kwargs={
                    "output_sizes": {dim: matrix.shape[0]},
                    "allow_rechunk": True,
                },
                output_dtypes=[np.result_type(variable.dtype, np.float32)],
                keep_attrs=True,
            )
    values = out.transpose(*variable.dims).variable.data
    data = values if unit is None else quantity(values, unit)
    return xr.Variable(variable.dims, data, variable.attrs)


def _average(values: NDArray[Any], matrix: Floats) -> NDArray[Any]:
    """Return ``matrix @ values`` along the last axis, in float64; constants stay exactly."""
    dtype = np.result_type(values.dtype, np.float32)
    exact = values.astype(np.float64)
    gap = np.isnan(exact)
    base = np.where(gap, 0.0, exact)[..., :1]
    out = np.where(gap, 0.0, exact - base) @ matrix.T + base
    if gap.any():
        out[gap.astype(np.float64) @ matrix.T > 0] = np.nan
    return out.astype(dtype)
