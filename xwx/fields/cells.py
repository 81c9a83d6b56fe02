"""The cells of a Dataset's grid and of a model's, and what of one lies in the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.fields.align import Axes, axes_of
from xwx.fields.grid import bounds_of, latitude_edges
from xwx.fields.horizontal import Horizontal
from xwx.fields.orient import Turn
from xwx.spec import Grid

__all__ = ["Cells", "Overlap", "cells_of", "model_cells", "overlap", "single_cells"]

Floats = NDArray[np.float64]
#: Part of a cell that may lie outside the grid, or be smaller, for rounding of coordinates.
_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a latitude-longitude grid, from north to south and eastwards.

    Attributes
    ----------
    rows : array, shape (h, 2)
        South and north edge of each row [degrees north].
    columns : array, shape (w, 2)
        West and east edge of each column [degrees east], the east one the greater.
    dims : tuple of str
        Of the Dataset, for latitude and longitude.
    turns : tuple of Turn
        How its axes were turned.
    """

    rows: Floats
    columns: Floats
    dims: tuple[str, str] = ("latitude", "longitude")
    turns: tuple[Turn, Turn] = (Turn(), Turn())

    @property
    def size(self) -> tuple[float, float]:
        """Height and width of a typical cell [degrees]."""
        height, width = (float(np.median(np.diff(e, axis=1))) for e in (self.rows, self.columns))
        return height, width


@dataclass(frozen=True, eq=False)
class Overlap:
    """How a grid's cells are made up of a finer one's.

    Attributes
    ----------
    rows : array, shape (h, H)
        Overlap of each row with each row of the finer grid, in sine of latitude.
    columns : array, shape (w, W)
        Overlap of each column with each of the finer grid's [degrees].
    """

    rows: Floats
    columns: Floats


def cells_of(ds: xr.Dataset, axes: Axes, turns: tuple[Turn, Turn]) -> Cells | list[Problem]:
    """Return the cells of a Dataset's grid, by its CF bounds or else midway between two points.

    Parameters
    ----------
    ds : Dataset
    axes : Axes
        Of `ds`.
    turns : tuple of Turn
        That bring its rows north to south, and its columns eastwards.
    """
    (lat, lon), problems = axes.names, []
    plain = Horizontal(*axes.dims, axes.rows, axes.columns)
    bounds = [bounds_of(ds, name) for name in axes.names]
    rows = plain.row_edges if bounds[0] is None else latitude_edges(axes.rows, bounds[0])
    columns = plain.column_edges
    if bounds[1] is not None:
        columns = _eastwards(bounds[1], axes.columns)
    for name, edges, centres, period in (
        (lat, rows, axes.rows, 0.0),
        (lon, columns, axes.columns, 360.0),
    ):
        size = np.diff(edges, axis=1)[:, 0]
        off = centres - edges.mean(1)
        off = np.abs(off - period * np.rint(off / period) if period else off)
        if not (size > 0).all():
            problems.append(_no_size(name, float(centres[0])))
        elif (wrong := off > (0.5 + _SLACK) * size).any():
            problems.append(_elsewhere(name, int(wrong.sum()), centres[wrong][0]))
    if problems:
        return problems
    for_rows, for_columns = turns
    return Cells(_turned(rows, for_rows), _turned(columns, for_columns), axes.dims, turns)


def single_cells(ds: xr.Dataset) -> list[Problem]:
    """Return the problem of a single row or column without bounds: its size is not known."""
    axes = axes_of(ds)
    if not isinstance(axes, Axes):
        return []
    pairs = zip(axes.names, (axes.rows, axes.columns), strict=True)
    return [
        _no_size(name, float(values[0]))
        for name, values in pairs
        if values.size == 1 and bounds_of(ds, name) is None
    ]


def _turned(values: Floats, turn: Turn) -> Floats:
    pieces = [values[source] for _, source in turn.pieces(values.shape[0])]
    return np.concatenate(pieces)


def _eastwards(bounds: Floats, centres: Floats) -> Floats:
    """Return bounds as west and east edges: of the two arcs between them, that of the centre."""
    one, other = bounds.T
    choices = []
    for west, east in ((one, other), (other, one)):
        width = np.mod(east - west, 360.0)
        width = np.where(width == 0.0, 360.0, width) * (one != other)
        off = centres - west - width / 2
        choices.append((np.abs(off - 360.0 * np.rint(off / 360.0)), west, width))
    (far, west, width), (near, west_2, width_2) = choices
    turn = near < far
    start, size = np.where(turn, west_2, west), np.where(turn, width_2, width)
    return np.stack([start, start + size], axis=1)


def _no_size(name: str, centre: float) -> Problem:
    return Problem(
        kind="missing-bounds",
        where=name,
        message=(
            f"one point, {centre:g}, has no size: the edges of its cell are needed for a mean over "
            "it, and are not known"
        ),
        remedy=(
            f'ds = ds.assign_coords({name}_bnds=(("{name}", "bnds"), [[LOW, HIGH]])); '
            f'ds["{name}"].attrs["bounds"] = "{name}_bnds"  # LOW, HIGH: such as {centre - 1:g}, '
            f"{centre + 1:g}"
        ),
    )


def _elsewhere(name: str, count: int, first: float) -> Problem:
    return Problem(
        kind="wrong-bounds",
        where=name,
        message=f"{count} of its points, {first:g} first, lie outside their own bounds",
        remedy=f'del ds["{name}"].attrs["bounds"]  # then cells reach midway between points',
    )


def overlap(cells: Cells, grid: Grid) -> Overlap | list[Problem]:
    """Return how cells are made up of a model's.

    Parameters
    ----------
    cells : Cells
    grid : Grid
        The model's: global or regional, with rows on the poles or not.

    Returns
    -------
    Overlap or list of Problem
        Problems of cells that are smaller than the model's or reach out of its grid.
    """
    fine = model_cells(grid)
    problems = _smaller(cells, fine)
    heights = np.sin(np.deg2rad(cells.rows))
    rows = _common(np.sin(np.deg2rad(fine.rows)), heights)
    turns = 360.0 * np.arange(-3, 4)
    columns = np.sum([_common(fine.columns + turn, cells.columns) for turn in turns], axis=0)
    whole = (np.diff(heights, axis=1)[:, 0], np.diff(cells.columns, axis=1)[:, 0])
    inside = [m.sum(1) >= (1 - _SLACK) * w for m, w in zip((rows, columns), whole, strict=True)]
    if not all(part.all() for part in inside):
        problems.append(_outside(cells, fine, inside))
    return problems or Overlap(rows, columns)


def model_cells(grid: Grid) -> Cells:
    """Return the cells of a model's grid; the outermost of a global one reach to the poles."""
    plain = Horizontal("", "", grid.rows, grid.columns)
    rows = plain.row_edges.copy()
    half = float(np.diff(rows, axis=1).max()) / 2
    if grid.periodic:  # Gaussian rows stop short of the poles
        rows[0, 1] = 90.0 if 90.0 - rows[0, 1] < half else rows[0, 1]
        rows[-1, 0] = -90.0 if rows[-1, 0] + 90.0 < half else rows[-1, 0]
    return Cells(rows, plain.column_edges)


def _common(fine: Floats, cells: Floats) -> Floats:
    """Return lengths of overlap (cells, fine) of intervals (n, 2)."""
    low = np.maximum(cells[:, None, 0], fine[None, :, 0])
    high = np.minimum(cells[:, None, 1], fine[None, :, 1])
    return np.asarray(np.clip(high - low, 0.0, None))


def _smaller(cells: Cells, fine: Cells) -> list[Problem]:
    (height, width), (least_height, least_width) = cells.size, fine.size
    if height >= (1 - _SLACK) * least_height and width >= (1 - _SLACK) * least_width:
        return []
    return [
        Problem(
            kind="finer-grid",
            where=", ".join(cells.dims),
            message=(
                f"its cells of {height:g} x {width:g} degrees are smaller than the model's, "
                f"{least_height:g} x {least_width:g}: the model knows nothing within its cells"
            ),
            remedy="ds = ds.wx.regrid(model)  # means over the cells of the model; then Observe",
        )
    ]


def _outside(cells: Cells, fine: Cells, inside: list[NDArray[np.bool_]]) -> Problem:
    kept = []
    for dim, turn, part in zip(cells.dims, cells.turns, inside, strict=True):
        own = np.empty_like(part)
        for to, source in turn.pieces(part.size):
            own[source] = part[to]
        if not own.all():
            kept.append(f"{dim}={_ranges(np.flatnonzero(own))}")
    total, good = inside[0].size * inside[1].size, int(inside[0].sum()) * int(inside[1].sum())
    south, north = fine.rows.min(), fine.rows.max()
    west, east = fine.columns.min(), fine.columns.max()
    return Problem(
        kind="outside-grid",
        where=", ".join(cells.dims),
        message=(
            f"{total - good} of {total} cells reach out of the model's grid, whose own cells "
            f"cover {south:g} to {north:g} degrees north and {west:g} to {east:g} degrees east"
        ),
        remedy=(
            f"ds = ds.isel({', '.join(kept)})  # the cells inside"
            if good
            else "give data of the model's region, or take another model: xwx.list_models()"
        ),
    )


def _ranges(positions: NDArray[np.intp]) -> str:
    """Spell positions as code: one slice, or ``np.r_`` of several."""
    pieces = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    if len(pieces) == 1:
        return f"slice({positions[0]}, {positions[-1] + 1})" if positions.size else "[]"
    return f"np.r_[{', '.join(f'{p[0]}:{p[-1] + 1}' for p in pieces)}]"
