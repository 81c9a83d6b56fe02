"""How a latitude or longitude axis of a Dataset becomes an axis of the array, and back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import Problem
from xwx.spec import Grid

__all__ = ["Turn", "turn_columns", "turn_rows"]

Floats = NDArray[np.float64]
#: Coordinates agree when they differ by less than this fraction of the grid spacing.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Turn:
    """Reverse an axis, then roll it: ``packed[i] = source[::-1 if reverse][(i + shift) % n]``."""

    reverse: bool = False
    shift: int = 0

    def pieces(self, size: int) -> tuple[tuple[slice, slice], ...]:
        """Return (target, source) slices that together make the turn: one, or two if rolled."""
        spans = [(0, size)] if self.shift == 0 else [(self.shift, size), (0, self.shift)]
        out, at = [], 0
        for start, stop in spans:
            out.append((slice(at, at + stop - start), self._source(start, stop, size)))
            at += stop - start
        return tuple(out)

    def _source(self, start: int, stop: int, size: int) -> slice:
        if not self.reverse:
            return slice(start, stop)
        end = size - 1 - stop
        return slice(size - 1 - start, None if end < 0 else end, -1)

    def undo(self, variable: xr.Variable, dim: Hashable) -> xr.Variable:
        """Turn an axis of a packed variable back to the Dataset's own order; lazy stays lazy."""
        if self.shift:
            variable = variable.roll({dim: self.shift})  # type: ignore[no-untyped-call]
        return variable.isel({dim: slice(None, None, -1)}) if self.reverse else variable


def _order_problem(values: Floats, name: str, kind: str) -> Problem | None:
    """Return the problem of a coordinate that is not finite, or holds a value twice."""
    if not np.all(np.isfinite(values)):
        count = int(np.sum(~np.isfinite(values)))
        return Problem(
            kind=f"nan-{kind}",
            where=name,
            message=f"{count} of {values.size} {kind}s are not finite",
            remedy=f'ds = ds.isel({{"{name}": np.isfinite(ds["{name}"].values)}})',
        )
    unique, counts = np.unique(values, return_counts=True)
    if np.any(counts > 1):
        twice = ", ".join(f"{v:g}" for v in unique[counts > 1][:3])
        return Problem(
            kind=f"duplicated-{kind}",
            where=name,
            message=f"{kind} {twice} occurs more than once; every {kind} is needed once",
            remedy=f'ds = ds.drop_duplicates("{name}")',
        )
    return None


def _describe(values: Floats) -> str:
    return f"{values.size} values from {values[0]:g} to {values[-1]:g}"


def _wrong_grid(name: str, kind: str, found: Floats, need: Floats) -> Problem:
    detail = ""
    if found.size == need.size:
        detail = f", differing by up to {np.abs(np.sort(found) - np.sort(need)).max():.3g} degrees"
    return Problem(
        kind="wrong-grid",
        where=name,
        message=f"it has {_describe(found)}, the model needs {_describe(need)}{detail}",
        remedy="ds = ds.wx.regrid(model)",
    )


def _regional(name: str, kind: str, found: Floats, need: Floats) -> Problem:
    return Problem(
        kind="regional-grid",
        where=name,
        message=(
            f"{found.min():g} to {found.max():g} is a region of what the model needs, "
            f"{need.min():g} to {need.max():g}; regridding cannot make the rest"
        ),
        remedy="use data of the whole domain, or a model for this region: xwx.list_models()",
    )


def _spacing(values: Floats) -> float:
    return float(np.abs(np.diff(values)).min()) if values.size > 1 else 1.0


def turn_rows(values: Floats, name: str, grid: Grid) -> Turn | Problem:
    """Match latitudes to the rows of a grid.

    Parameters
    ----------
    values : array, shape (H,)
        Latitudes of the Dataset [degrees north].
    name : str
        Name of the coordinate, for the problem.
    grid : Grid

    Returns
    -------
    Turn or Problem
    """
    if problem := _order_problem(values, name, "latitude"):
        return problem
    steps = np.diff(values)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return Problem(
            kind="non-monotonic-latitude",
            where=name,
            message="latitude goes up and down: it must only rise or only fall",
            remedy=f'ds = ds.sortby("{name}")',
        )
    need = grid.rows
    reverse = bool(values[0] < values[-1])
    turned = values[::-1] if reverse else values
    if turned.size == need.size and np.all(np.abs(turned - need) <= TOLERANCE * _spacing(need)):
        return Turn(reverse)
    margin = 1.01 * float(np.abs(steps).max(initial=0.0)) + TOLERANCE
    if need.max() > values.max() + margin or need.min() < values.min() - margin:
        return _regional(name, "latitude", values, need)
    return _wrong_grid(name, "latitude", values, need)


def turn_columns(values: Floats, name: str, grid: Grid) -> Turn | Problem:
    """Match longitudes, in any convention and starting anywhere, to the columns of a grid.

    Parameters
    ----------
    values : array, shape (W,)
        Longitudes of the Dataset [degrees east].
    name : str
        Name of the coordinate, for the problem.
    grid : Grid

    Returns
    -------
    Turn or Problem
    """
    need = grid.columns
    slack = TOLERANCE * _spacing(need)
    if problem := _order_problem(values, name, "longitude"):
        return problem
    east = np.mod(values - need[0] + slack, 360.0) - slack
    order = np.sort(east)
    if order.size > 1 and np.diff(order).min() < slack:
        return _seam(values, name)
    wraps = int(np.sum(np.diff(east) < 0))
    reverse = wraps > max(1, values.size // 2)
    turned = east[::-1] if reverse else east
    falls = np.flatnonzero(np.diff(turned) < 0)
    if falls.size > 1 or (falls.size == 1 and turned[-1] > turned[0]):
        return Problem(
            kind="non-monotonic-longitude",
            where=name,
            message="longitude goes to and fro: it must run one way round the globe",
            remedy=f'ds = ds.sortby("{name}")',
        )
    shift = int(falls[0]) + 1 if falls.size else 0
    if order.size == need.size and np.all(np.abs(order - (need - need[0])) <= slack):
        return Turn(reverse, shift)
    return _longitude_mismatch(values, name, grid)


def _longitude_mismatch(values: Floats, name: str, grid: Grid) -> Problem:
    order = np.sort(np.mod(values, 360.0))
    gaps = np.diff(np.append(order, order[0] + 360.0))
    widest = int(gaps.argmax())
    if gaps[widest] <= 1.5 * float(np.median(gaps)) and values.size > 1:
        return _wrong_grid(name, "longitude", values, grid.columns)  # round the whole globe
    start, span = order[(widest + 1) % order.size], 360.0 - float(gaps[widest])
    margin = float(np.median(gaps)) + TOLERANCE if values.size > 1 else TOLERANCE
    if grid.periodic or np.any(np.mod(grid.columns - start + margin, 360.0) > span + 2 * margin):
        return _regional(name, "longitude", values, grid.columns)
    return _wrong_grid(name, "longitude", values, grid.columns)


def _seam(values: Floats, name: str) -> Problem:
    end = abs(abs(float(values[-1] - values[0])) - 360.0) < 1e-3
    if end:
        remedy = f"ds = ds.isel({name}=slice(None, -1))"
    else:
        remedy = (
            f'_, first = np.unique(np.round(ds["{name}"].values % 360, 4), return_index=True); '
            f"ds = ds.isel({name}=np.sort(first))"
        )
    return Problem(
        kind="duplicated-longitude",
        where=name,
        message=(
            f"{_describe(values)} hold the same meridian twice"
            + (f" ({values[0]:g} and {values[-1]:g})" if end else "")
        ),
        remedy=remedy,
    )
