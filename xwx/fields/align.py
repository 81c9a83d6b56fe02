"""Which rows and columns of one grid are the points of another; never between points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.axes import axes_problems
from xwx.fields.coordinates import find_coordinates
from xwx.fields.degrees import degrees_problems
from xwx.fields.orient import TOLERANCE, Turn, turn_columns, turn_rows
from xwx.fields.units import magnitudes
from xwx.spec import Grid

__all__ = ["Axes", "axes_of", "match"]

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
#: Of the checks of order, that of the values comes first: any grid will do for it.
_ANY = Grid((0.0,), (0.0,))


@dataclass(frozen=True, eq=False)
class Axes:
    """Latitude and longitude of a Dataset.

    Attributes
    ----------
    names, dims : tuple of str
        Of latitude and longitude: the coordinates, and the dimensions that they run along.
    rows, columns : array
        Degrees north and east, as they are in the Dataset.
    """

    names: tuple[str, str]
    dims: tuple[str, str]
    rows: Floats
    columns: Floats

    def __str__(self) -> str:
        lat, lon = self.rows, self.columns
        return (
            f"{lat.size} x {lon.size} (latitude {lat[0]:g} to {lat[-1]:g}, "
            f"longitude {lon[0]:g} to {lon[-1]:g})"
        )


def axes_of(ds: xr.Dataset) -> Axes | list[Problem]:
    """Read latitude and longitude of a Dataset, or say what is wrong with them."""
    found = find_coordinates(ds)
    lat, lon = found.latitude, found.longitude
    absent = axes_problems(ds, found)
    if lat is None or lon is None or absent:
        return absent
    dims = str(ds[lat].dims[0]), str(ds[lon].dims[0])
    if wrong := degrees_problems(ds, lat, lon):
        return wrong
    rows, columns = (magnitudes(ds.variables[k]).astype(np.float64) for k in (lat, lon))
    if empty := [k for k, v in ((lat, rows), (lon, columns)) if not v.size]:
        message, remedy = "it has length 0", "look at the range before selecting"
        return [Problem("zero-length", key, message, remedy) for key in empty]
    checked = (turn_rows(rows, lat, _ANY), turn_columns(columns, lon, _ANY))
    faults = [p for p in checked if not isinstance(p, Turn) and not p.kind.endswith("-grid")]
    return faults or Axes((lat, lon), dims, rows, columns)


def match(source: Axes, target: Axes, side: str) -> tuple[Positions, Positions] | Problem:
    """Find every row and column of `target` in `source`.

    Parameters
    ----------
    source, target : Axes
        Longitudes in any convention, starting anywhere. `target` may be a part of `source`.
    side : str
        What the Dataset of `target` is, e.g. "the forecast".

    Returns
    -------
    rows, columns : array of int
        Positions in `source`, in the order of `target`; or the problem "wrong-grid".
    """
    rows, off_rows = _nearest(source.rows, target.rows)
    columns, off_columns = _nearest(source.columns, target.columns, period=360.0)
    close_rows = off_rows <= TOLERANCE * _spacing(source.rows, target.rows)
    close_columns = off_columns <= TOLERANCE * _spacing(source.columns, target.columns, 360.0)
    if close_rows.all() and close_columns.all():
        thinned = _thinned(rows, source.rows) or _thinned(columns, np.mod(source.columns, 360.0))
        return _sampled(source, target, side) if thinned else (rows, columns)
    pairs = zip(source.names, (close_rows, close_columns), (off_rows, off_columns), strict=True)
    apart = [
        f"{np.sum(~close)} of {close.size} {name}s of {side} are up to {off.max():.3g} degrees "
        "from the nearest"
        for name, close, off in pairs
        if not close.all()
    ]
    return Problem(
        kind="wrong-grid",
        where=", ".join(source.names),
        message=f"the grid is {source}, that of {side} {target}: {', and '.join(apart)}",
        remedy=_remedy(source, target, off_rows, off_columns, side),
    )


def _thinned(positions: Positions, source: Floats) -> bool:
    """Whether points of the source lie between those chosen; the two ends of a circle may."""
    rank = np.argsort(np.argsort(source))
    apart = np.diff(np.sort(rank[positions]))
    return int(np.sum(apart > 1)) > 1 or (
        bool(np.any(apart > 1)) and not _round_the_seam(np.sort(rank[positions]), source)
    )


def _round_the_seam(ranks: Positions, source: Floats) -> bool:
    """Whether chosen points are the first and the last of an axis that closes."""
    steps = np.diff(np.sort(source))
    closes = abs(360.0 - (source.max() - source.min()) - np.median(steps)) < np.median(steps) / 2
    return bool(closes and ranks[0] == 0 and ranks[-1] == source.size - 1)


def _sampled(source: Axes, target: Axes, side: str) -> Problem:
    """Say that one grid is a coarser choice of points of the other."""
    name = side.split()[-1]
    picks = ", ".join(f'{dim}={name}["{dim}"].values' for dim in target.dims)
    return Problem(
        kind="wrong-grid",
        where=", ".join(source.names),
        message=(
            f"the grid is {source}, that of {side} {target}: it has further points between those "
            f"of {side}"
        ),
        remedy=(
            'verify(truth, grid="forecast")  # averages over the cells; to take single points: '
            f'.sel({picks}, method="nearest")'
        ),
    )


def _nearest(source: Floats, target: Floats, period: float = 0.0) -> tuple[Positions, Floats]:
    """Return the position in `source` nearest to each of `target`, and how far off it is."""
    index = np.arange(source.size)
    if period:
        east = np.mod(source, period)
        source, index = np.concatenate([east - period, east, east + period]), np.tile(index, 3)
        target = np.mod(target, period)
    order = np.argsort(source, kind="stable")
    held = source[order]
    right = np.clip(np.searchsorted(held, target), 0, held.size - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.where(np.abs(held[left] - target) <= np.abs(held[right] - target), left, right)
    return index[order[nearer]], np.abs(held[nearer] - target)


def _spacing(one: Floats, other: Floats, period: float = 0.0) -> float:
    """Return the smallest distance of neighbours in two axes; one degree for single points."""
    steps = [np.abs(np.diff(np.sort(np.mod(v, period) if period else v))) for v in (one, other)]
    return float(np.concatenate(steps).min(initial=np.inf if max(map(len, steps)) else 1.0))


def _remedy(source: Axes, target: Axes, off_rows: Floats, off_columns: Floats, side: str) -> str:
    """Select what is covered, if the source covers a part only; else regrid."""
    parts = []
    pairs = ((source.rows, off_rows, 0.0), (source.columns, off_columns, 360.0))
    for (values, off, period), dim in zip(pairs, target.dims, strict=True):
        inside = off <= (0.5 + TOLERANCE) * _typical(values, period)
        if not inside.any():
            return f"open data that cover {side}: the two have no point in common"
        if not inside.all():
            parts.append(f"{dim}={_ranges(np.flatnonzero(inside))}")
    if not parts:
        return 'verify(truth, grid="forecast")  # averages over the cells of the forecast'
    name = side.split()[-1]
    return f"{name} = {name}.isel({', '.join(parts)})  # the part that both cover"


def _typical(values: Floats, period: float) -> float:
    """Return the typical distance of neighbours, the gap of a region over a seam left out."""
    if values.size < 2:
        return 0.0
    ordered = np.sort(np.mod(values, period)) if period else np.sort(values)
    return float(np.median(np.diff(ordered)))


def _ranges(positions: Positions) -> str:
    """Spell positions as code: one slice, or ``np.r_`` of several."""
    pieces = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    if len(pieces) == 1:
        return f"slice({positions[0]}, {positions[-1] + 1})"
    return f"np.r_[{', '.join(f'{p[0]}:{p[-1] + 1}' for p in pieces)}]"
