"""A part of a grid on the whole of it, NaN beyond, whatever the convention of its longitudes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.align import Axes, axes_of
from xwx.fields.orient import TOLERANCE
from xwx.fields.units import dequantify, is_quantified, magnitudes
from xwx.spec import Grid

__all__ = ["on_whole_grid", "same_meridians"]


def on_whole_grid(ds: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Return a Dataset whose points are some of a grid's on all of them, NaN where it has none.

    Parameters
    ----------
    ds : Dataset
        Longitudes in any convention.
    grid : Grid

    Returns
    -------
    Dataset
        `ds` as it is, where its points are others, or where points lie between them: those may be
        means over larger cells.
    """
    axes = axes_of(ds)
    if not isinstance(axes, Axes):
        return ds
    wanted: dict[Hashable, Any] = {}
    places: dict[Hashable, Any] = {}
    for name, dim, own, points, turn in zip(
        axes.names,
        axes.dims,
        (axes.rows, axes.columns),
        (grid.rows, grid.columns),
        (None, 360.0),
        strict=True,
    ):
        at = _positions(own, points, turn)
        if at is None or not _gapless(at, None if turn is None else points.size):
            return ds
        wanted[name] = points
        places[name] = xr.Variable(dim, points[at], ds[name].attrs)
    plain = dequantify(ds) if is_quantified(ds) else ds
    names = zip(axes.dims, axes.names, strict=True)
    bounds = [plain[name].attrs.get("bounds") for name in axes.names]
    moved = plain.drop_vars(bounds, errors="ignore").assign_coords(places)
    return moved.swap_dims({dim: name for dim, name in names if dim != name}).reindex(wanted)


def _positions(
    own: NDArray[np.float64], points: NDArray[np.float64], turn: float | None
) -> NDArray[np.intp] | None:
    """Return the point that each value is, None if one is none or two are the same."""
    away = np.abs(own[:, None] - points)
    if turn is not None:
        away = np.abs(np.mod(own[:, None] - points + turn / 2, turn) - turn / 2)
    at = away.argmin(axis=1)
    slack = TOLERANCE * (float(np.abs(np.diff(points)).min()) if points.size > 1 else 1.0)
    fits = bool((away.min(axis=1) <= slack).all()) and np.unique(at).size == own.size
    return at if fits else None


def _gapless(at: NDArray[np.intp], around: int | None) -> bool:
    """Whether no point lies between some; with `around` many, the last is beside the first."""
    ordered = np.sort(at)
    gaps = int(np.sum(np.diff(ordered) > 1))
    round_the_seam = around is not None and ordered[0] == 0 and ordered[-1] == around - 1
    return gaps == 0 or (gaps == 1 and round_the_seam)


def same_meridians(mask: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
    """Return an array with the longitudes of another, where they are the same but for turns.

    Parameters
    ----------
    mask : DataArray
        With or without a dimension coordinate of the name of `longitude`.
    longitude : DataArray, 1-D

    Returns
    -------
    DataArray
        Each longitude as `longitude` has it; `mask` as it is, where one is not among them.
    """
    name = str(longitude.name)
    if name not in mask.coords or mask[name].dims != (name,) or mask[name].dtype.kind not in "fiu":
        return mask
    own, given = (magnitudes(v.variable) for v in (mask[name], longitude))
    at = _positions(own.astype(np.float64), given.astype(np.float64), 360.0)
    if at is None or np.array_equal(own, given[at]):
        return mask
    return mask.assign_coords({name: (name, given[at], mask[name].attrs)})
