"""The cells of a Dataset's grid, in its own order: what they weigh, and what of them lies where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError
from xwx.fields.axes import axes_problems
from xwx.fields.coordinates import find_coordinates
from xwx.fields.degrees import degrees_problems
from xwx.fields.grid import bounds_of, latitude_edges
from xwx.fields.units import magnitudes

__all__ = ["Horizontal", "horizontal_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Horizontal:
    """A latitude-longitude grid as a Dataset has it.

    Attributes
    ----------
    latitude_dim, longitude_dim : str
    latitude, longitude : array
        Degrees north and east, in the Dataset's order and convention.
    bounds : array, shape (rows, 2), or None
        CF bounds of the latitudes.
    column_bounds : array, shape (columns, 2), or None
        Those of the longitudes, where nothing else tells how wide they are: of a single one.
    """

    latitude_dim: str
    longitude_dim: str
    latitude: Floats
    longitude: Floats
    bounds: Floats | None = None
    column_bounds: Floats | None = None

    @cached_property
    def row_edges(self) -> Floats:
        """South and north edge of each row [degrees north], shape (rows, 2)."""
        if self.latitude.size == 1 and self.bounds is None:
            return np.stack([self.latitude, self.latitude], axis=1)
        return latitude_edges(self.latitude, self.bounds)

    @cached_property
    def column_edges(self) -> Floats:
        """West and east edge of each column [degrees east], shape (columns, 2).

        Midway between two columns; the outermost ones of a grid that does not close reach as far
        out as in.
        """
        east = np.mod(self.longitude, 360.0)
        if east.size == 1:
            return self._single_column(float(east[0]))
        order = np.argsort(east)
        gaps = np.diff(np.append(east[order], east[order[0]] + 360.0))
        centres = east[order]
        if gaps.max() > 1.5 * float(np.median(np.sort(gaps)[:-1])):
            start = (int(gaps.argmax()) + 1) % east.size  # a region: begin after the widest gap
            order, gaps = np.roll(order, -start), np.roll(gaps, -start)
            gaps[-1] = gaps[-2]
            before = np.append(gaps[0], gaps[:-1])
            centres = east[order] + 360.0 * (east[order] < east[order[0]])  # without a seam
        else:
            before = np.roll(gaps, 1)
        edges = np.empty((east.size, 2))
        edges[order] = np.stack([centres - before / 2, centres + gaps / 2], axis=1)
        return edges

    def _single_column(self, centre: float) -> Floats:
        if self.column_bounds is None:
            return np.array([[centre, centre]])
        # of the two arcs between the bounds, that which the centre is in; they may be a whole turn
        west, east = self.column_bounds[0]
        if np.mod(centre - west, 360.0) > np.mod(east - west, 360.0):
            west, east = east, west
        return np.array([[west, west + (np.mod(east - west, 360.0) or 360.0 * (west != east))]])

    @property
    def column_widths(self) -> Floats:
        """Width of each column, as a part of the globe; alike for a single one."""
        widths = np.diff(self.column_edges, axis=1)[:, 0] / 360.0
        return widths if widths.any() else np.ones_like(widths)

    def row_weights(self, kind: Literal["area", "cos"]) -> Floats:
        """Return the weight of each row: its part of the area of the globe, or its cosine.

        Raises
        ------
        ValueError
            For another `kind`.
        """
        if not isinstance(kind, str) or kind not in ("area", "cos"):
            raise ValueError(f'weights={kind!r}: give "area" or "cos"')
        if self.latitude.size == 1 and self.bounds is None:
            return np.ones(1)
        if kind == "cos":
            return np.asarray(np.cos(np.deg2rad(self.latitude)))
        south, north = np.deg2rad(self.row_edges).T
        # (sin N - sin S) / 2 without cancellation
        return np.asarray(np.cos((north + south) / 2) * np.sin((north - south) / 2))

    def row_parts(self, south: float, north: float) -> Floats:
        """Return the part of each row's area between two parallels [degrees north]."""
        low, high = (float(np.sin(np.deg2rad(v))) for v in (south, north))
        edges = np.sin(np.deg2rad(self.row_edges))
        return _parts(edges, low, high, self.latitude, (south, north))

    def column_parts(self, west: float, east: float) -> Floats:
        """Return the part of each column from one meridian eastwards to another [degrees east]."""
        if abs(east - west) >= 360.0:
            return np.ones(self.longitude.size)
        start = west % 360.0
        stop = start + (east - west) % 360.0
        # the box ends before 720: a cell can meet both of its ends
        turns = [360.0 * turn for turn in (-2, -1, 0, 1, 2)]
        edges, centres = self.column_edges, np.mod(self.longitude, 360.0)
        parts = (_parts(edges + t, start, stop, centres + t, (start, stop)) for t in turns)
        return np.asarray(sum(parts))

    def __str__(self) -> str:
        lat, lon = self.latitude, self.longitude
        return (
            f"{lat.size} x {lon.size} (latitude {lat[0]:g} to {lat[-1]:g}, "
            f"longitude {lon[0]:g} to {lon[-1]:g})"
        )


def _parts(
    edges: Floats, low: float, high: float, centres: Floats, limits: tuple[float, float]
) -> Floats:
    """Return the part of each interval between two limits; a point lies inside or outside."""
    size = edges[:, 1] - edges[:, 0]
    inside = np.clip(np.minimum(edges[:, 1], high) - np.maximum(edges[:, 0], low), 0.0, None)
    point = (limits[0] <= centres) & (centres <= limits[1])
    whole = np.where(size > 0, size, 1.0)
    return np.where(size > 0, np.minimum(inside / whole, 1.0), point)


def horizontal_of(ds: xr.Dataset, what: str) -> Horizontal:
    """Return the grid of a Dataset in its own order.

    Parameters
    ----------
    ds : Dataset
    what : str
        What the Dataset was meant for, for the error.

    Raises
    ------
    MismatchError
        If there are no one-dimensional latitude and longitude, in degrees.
    """
    names = find_coordinates(ds)
    lat, lon = names.latitude, names.longitude
    wrong = axes_problems(ds, names)
    if lat is None or lon is None or wrong:
        raise MismatchError(wrong, what=what)
    if wrong := degrees_problems(ds, lat, lon):
        raise MismatchError(wrong, what=what)
    return Horizontal(
        str(ds[lat].dims[0]),
        str(ds[lon].dims[0]),
        magnitudes(ds.variables[lat]).astype(np.float64),
        magnitudes(ds.variables[lon]).astype(np.float64),
        bounds_of(ds, lat),
        bounds_of(ds, lon) if ds[lon].size == 1 else None,
    )
