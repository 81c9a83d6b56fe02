"""One horizontal field as numbers, south to north and eastwards, whatever its Dataset's layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.grid import latitude_edges

__all__ = ["Slab", "cells", "closed", "slab_of", "within"]

Floats = NDArray[np.float64]
#: Meridians of the map's edges lie this far inside [degrees]: a projection may put the edge
#: itself on either side of the map.
_INSIDE = 1e-6


@dataclass(frozen=True, eq=False)
class Slab:
    """Fields on rows and columns.

    Attributes
    ----------
    values : array, shape (..., H, W)
    latitude : array, shape (H,)
        Ascending.
    longitude : array, shape (W,)
        Ascending, without a jump at the date line: a region that crosses it goes beyond 180.
    periodic : bool
        Whether the columns go round the globe.
    """

    values: NDArray[Any]
    latitude: Floats
    longitude: Floats
    periodic: bool

    @property
    def row_edges(self) -> Floats:
        """Edges of the rows, shape (H + 1,)."""
        if self.latitude.size == 1:
            return np.asarray(self.latitude[0] + np.array([-0.5, 0.5]))
        pairs = latitude_edges(self.latitude)
        return np.append(pairs[:, 0], pairs[-1, 1])

    @property
    def column_edges(self) -> Floats:
        """Edges of the columns, shape (W + 1,): midway between two."""
        lon = self.longitude
        if self.periodic:
            lon = np.concatenate([[lon[-1] - 360.0], lon, [lon[0] + 360.0]])
            return np.asarray((lon[:-1] + lon[1:]) / 2)
        step = np.diff(lon) if lon.size > 1 else np.ones(1)
        lon = np.concatenate([[lon[0] - step[0]], lon, [lon[-1] + step[-1]]])
        return np.asarray((lon[:-1] + lon[1:]) / 2)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """West, east, south and north edge [degrees]."""
        x, y = self.column_edges, self.row_edges
        return float(x[0]), float(x[-1]), float(y[0]), float(y[-1])


def within(slab: Slab, box: tuple[float, float, float, float] | None) -> NDArray[Any]:
    """Return the values of the cells that lie in a box, in part at least; without one all.

    Parameters
    ----------
    slab : Slab
    box : (west, east, south, north) or None
        Degrees, east above west.

    Returns
    -------
    array, shape (..., rows, columns)
    """
    if box is None:
        return slab.values
    west, east, south, north = box
    x, y = slab.column_edges - west, slab.row_edges
    rows = (y[1:] > south + _INSIDE) & (y[:-1] < north - _INSIDE)
    # A cell begins in the box, or reaches over its western edge.
    begin = np.mod(x[:-1], 360.0)
    columns = (begin < east - west - _INSIDE) | (begin + np.diff(x) > 360.0 + _INSIDE)
    return np.asarray(slab.values[..., rows, :][..., columns])


def slab_of(array: xr.DataArray, latitude: str, longitude: str) -> Slab:
    """Read a variable along latitude and longitude, and perhaps dimensions before them.

    This is where values are computed.
    """
    lat, lon = array[latitude], array[longitude]
    rows = np.argsort(lat.values, kind="stable")
    columns, longitudes, periodic = _columns(lon.values.astype(np.float64))
    array = array.transpose(..., lat.dims[0], lon.dims[0])
    values = np.asarray(array.values)[..., rows, :][..., columns]
    return Slab(values, lat.values.astype(np.float64)[rows], longitudes, periodic)


def _columns(lon: Floats) -> tuple[NDArray[np.intp], Floats, bool]:
    """Return the columns eastwards from the widest gap, and whether there is no such gap."""
    east = np.round(np.mod(lon, 360.0), 6) % 360.0
    east, order = np.unique(east, return_index=True)  # the meridian that closes a globe goes
    gaps = np.diff(np.append(east, east[0] + 360.0))
    widest = int(gaps.argmax())
    if lon.size > 1 and gaps[widest] <= 1.5 * float(np.median(gaps)):
        return order, east, True
    start = (widest + 1) % east.size
    order, east = np.roll(order, -start), np.roll(east, -start)
    east = np.where(east < east[0], east + 360.0, east)
    middle = (east[0] + east[-1]) / 2
    return order, east - 360.0 * np.floor((middle + 180.0) / 360.0), False


def _from(slab: Slab, west: float) -> Slab:
    """Turn a periodic slab so that its first cell is the one that holds the meridian `west`."""
    edges = slab.column_edges
    first = int(np.searchsorted(edges, edges[0] + (west - edges[0]) % 360.0 + 1e-9)) - 1
    first %= slab.longitude.size
    lon = np.roll(slab.longitude, -first)
    lon = lon[0] + np.mod(lon - lon[0], 360.0)
    # The first cell begins at most a cell before `west`.
    lon = lon + 360.0 * np.round((west - lon[0]) / 360.0)
    return replace(slab, values=np.roll(slab.values, -first, axis=-1), longitude=lon)


def cells(slab: Slab, centre: float) -> tuple[Floats, Floats, NDArray[Any]]:
    """Return edges and values of cells to draw on a map around the meridian `centre`.

    A globe is cut at the far side of the map: a cell that lies across is drawn at both edges,
    each time as far as the edge, so that there is neither a gap nor an overlap.

    Returns
    -------
    x : array, shape (W + 1,) or (W + 2,)
    y : array, shape (H + 1,)
    values : array, shape (..., H, W) or (..., H, W + 1)
    """
    if not slab.periodic:
        return slab.column_edges, slab.row_edges, slab.values
    west = centre - 180.0
    slab = _from(slab, west)
    edges, values = slab.column_edges, slab.values
    if edges[0] < west - _INSIDE:
        edges = np.append(edges, edges[1] + 360.0)
        values = np.concatenate([values, values[..., :1]], axis=-1)
    edges = np.clip(edges, west + _INSIDE, west + 360.0 - _INSIDE)
    wide = np.diff(edges) > 0.0  # nothing is left of a cell that reaches over an edge by rounding
    return np.append(edges[:-1][wide], edges[-1]), slab.row_edges, values[..., wide]


def closed(slab: Slab, centre: float) -> Slab:
    """Return a globe with a column at each edge of a map around `centre`, for contour lines.

    The values there are linear between the neighbours, as contour lines are.
    """
    if not slab.periodic:
        return slab
    west = centre - 180.0
    east = np.mod(slab.longitude - west, 360.0)
    order = np.argsort(east)
    east, values = east[order], slab.values[..., order]
    before = east[-1] - 360.0
    share = -before / (east[0] - before)
    edge = (1 - share) * values[..., -1:] + share * values[..., :1]
    inner = slice(1, None) if east[0] < _INSIDE else slice(None)
    lon = np.concatenate([[_INSIDE], east[inner], [360.0 - _INSIDE]]) + west
    values = np.concatenate([edge, values[..., inner], edge], axis=-1)
    return replace(slab, values=values, longitude=lon)
