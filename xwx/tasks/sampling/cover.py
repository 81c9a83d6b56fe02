"""Which cells of a model lie in the region of a Dataset, and how the Dataset would present them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import Horizontal
from xwx.spec import Grid

__all__ = ["Cover", "cover"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
#: Degrees by which a cell's centre may lie outside, for the rounding of coordinates.
_SLACK = 1e-4


@dataclass(frozen=True, eq=False)
class Cover:
    """The cells of a model's grid whose centres lie in a region.

    Attributes
    ----------
    grid : Grid
        Of these cells: the model's where all of them do.
    rows, columns : array of int
        Their positions in the model's grid, from north to south and eastwards.
    latitude, longitude : array
        Their centres in the order and the convention of the Dataset.
    """

    grid: Grid
    rows: Indices
    columns: Indices
    latitude: Floats
    longitude: Floats


def cover(where: Horizontal, grid: Grid, what: str) -> Cover:
    """Find the cells of a model in the region of a Dataset.

    The region reaches to the outer edges of the Dataset's outermost cells. That of rows that go
    round the globe reaches to a pole which is nearer than the next row would be.

    Parameters
    ----------
    where : Horizontal
        The grid of the Dataset.
    grid : Grid
        The model's.
    what : str
        What the Dataset is meant for, for the error.

    Raises
    ------
    MismatchError
        When no cell lies there, or latitude does not run one way.
    """
    try:
        edges = where.row_edges
    except ValueError as error:
        problem = Problem("non-monotonic-latitude", "latitude", str(error), 'ds.sortby("latitude")')
        raise MismatchError([problem], what) from error
    widths = np.ptp(where.column_edges, axis=1)
    closes = bool(abs(float(widths.sum()) - 360.0) < widths.min() / 2)
    rows = _rows(edges, grid.rows, closes=closes)
    columns, longitude = _columns(where, grid.columns, closes=closes)
    if not rows.size or not columns.size:
        raise MismatchError([_nothing(where, grid)], what)
    latitude = grid.rows[rows]
    if where.latitude[0] < where.latitude[-1]:
        latitude = latitude[::-1]
    whole = (rows.size, columns.size) == grid.shape
    if whole:  # from the model's first column, so that nothing is to be rolled
        columns = np.arange(columns.size)
    return Cover(grid if whole else _part(grid, rows, columns), rows, columns, latitude, longitude)


def _rows(edges: Floats, rows: Floats, *, closes: bool) -> Indices:
    south, north = float(edges.min()), float(edges.max())
    if closes:
        south = -90.0 if south + 90.0 < np.ptp(edges[edges[:, 0].argmin()]) / 2 else south
        north = 90.0 if 90.0 - north < np.ptp(edges[edges[:, 1].argmax()]) / 2 else north
    return np.flatnonzero((rows >= south - _SLACK) & (rows <= north + _SLACK))


def _columns(where: Horizontal, centres: Floats, *, closes: bool) -> tuple[Indices, Floats]:
    """Return the columns eastwards from the west of the region, and how they are presented."""
    given, edges = where.longitude, where.column_edges
    westwards = _westwards(given)
    ahead = given[::-1] if westwards else given
    rises = bool(np.all(np.diff(ahead) > 0))
    start_of = -1 if westwards else 0
    first = start_of if closes else int(np.argmin(edges[:, 0]))
    span = 360.0 if closes else float(edges.max() - edges.min())
    # the western edge of the first column, near the longitude that the Dataset gives it
    start = float(edges[first, 0]) + 360.0 * np.round((given[first] - edges[first].mean()) / 360.0)
    if closes and rises:
        start = _convention(ahead, start)
    along = np.mod(centres - start + _SLACK, 360.0) - _SLACK
    inside = np.flatnonzero(along <= span + _SLACK)
    inside = inside[np.argsort(along[inside])]
    smooth = rises and first % given.size == start_of % given.size
    base = start if smooth else (-180.0 if given.min() < 0 else 0.0)
    turns = np.round((np.mod(centres - base + _SLACK, 360.0) + base - centres) / 360.0)
    values = (centres + 360.0 * turns)[inside]
    if rises and not smooth:  # in two parts, at either end of the longitudes
        values = np.sort(values)
    return inside, values[::-1] if westwards else values


def _westwards(given: Floats) -> bool:
    """Whether longitudes run westwards, wherever they begin."""
    steps = np.diff(given)
    short = np.mod(steps + 180.0, 360.0) - 180.0
    return not np.all(steps > 0) and bool(np.sum(short < 0) > np.sum(short > 0))


def _convention(ahead: Floats, start: float) -> float:
    """Return where longitudes that go round the globe begin: at 0, at -180, or where they do."""
    if ahead[0] >= 0.0 and ahead[-1] < 360.0:
        return 0.0
    return -180.0 if ahead[0] >= -180.0 and ahead[-1] <= 180.0 else start


def _part(grid: Grid, rows: Indices, columns: Indices) -> Grid:
    east = grid.columns[columns]
    east = east[0] + np.mod(east - east[0], 360.0)
    return Grid(tuple(grid.rows[rows].tolist()), tuple(east.tolist()))


def _nothing(where: Horizontal, grid: Grid) -> Problem:
    single = 1 in (where.latitude.size, where.longitude.size)
    hint = ", and a single row or column has no width" if single else ""
    return Problem(
        kind="regional-grid",
        where="latitude, longitude",
        message=f"no cell of the model's grid, {grid}, lies within the Dataset's, {where}{hint}",
        remedy="open a region of two rows and columns or more, on the grid of the model",
    )
