"""From a Gaussian grid to another one, areas conserved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.climate.states import Floats

__all__ = ["Remap", "overlap"]


def overlap(source: ArrayLike, target: ArrayLike, period: float | None = None) -> Floats:
    """Return which share of each target cell lies in each source cell.

    Parameters
    ----------
    source, target : array, shape (m + 1,), (n + 1,)
        Edges of the cells, increasing: degrees of longitude, or the sine of latitude, in which
        areas on the sphere are lengths.
    period : float, optional
        Length of a circle on which both lie; a target may then begin anywhere within one turn of
        the source.

    Returns
    -------
    array, shape (n, m)
        Rows sum to one.
    """
    s, t = np.asarray(source, np.float64), np.asarray(target, np.float64)
    shared = np.zeros((t.size - 1, s.size - 1))
    for shift in (0.0,) if period is None else (-period, 0.0, period):
        low = np.maximum(t[:-1, None], s[None, :-1] + shift)
        high = np.minimum(t[1:, None], s[None, 1:] + shift)
        shared += np.clip(high - low, 0.0, None)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Remap:
    """A linear map of fields (..., Y, X), south first, to (..., H, W), north first.

    Attributes
    ----------
    rows, columns : array, shape (H, Y), (W, X)
        Each sums to one along its last axis.
    latitude, longitude : array, shape (H,), (W,)
        Of the result: degrees north, decreasing, and degrees east.
    """

    rows: Floats
    columns: Floats
    latitude: Floats
    longitude: Floats

    @classmethod
    def native(cls, latitude: ArrayLike, longitude: ArrayLike) -> Remap:
        """Keep the grid, and turn it north first."""
        lat, lon = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
        return cls(np.eye(lat.size)[::-1], np.eye(lon.size), lat[::-1], lon)

    @classmethod
    def equiangular(cls, areas: ArrayLike, longitude: ArrayLike, shape: tuple[int, int]) -> Remap:
        """Average over the cells of an equiangular grid without poles, the first around 0 E.

        Every target cell gets the mean over its area, and the global mean stays.

        Parameters
        ----------
        areas : array, shape (Y,)
            Area of the source rows from the south, of any measure: Gaussian weights are exact.
        longitude : array, shape (X,)
            Centres of the source columns [degrees east], evenly spaced.
        shape : (int, int)
            Rows H and columns W.
        """
        lon, share = np.asarray(longitude, np.float64), np.asarray(areas, np.float64)
        height, width = shape
        south = np.linspace(-90.0, 90.0, height + 1)
        sines = np.concatenate([[0.0], np.cumsum(share / share.sum())]) * 2 - 1
        rows = overlap(sines, np.sin(np.deg2rad(south)))
        side, own = 360.0 / width, 360.0 / lon.size
        edges = lon[0] + own * (np.arange(lon.size + 1) - 0.5)
        columns = overlap(edges, side * (np.arange(width + 1) - 0.5), 360.0)
        centres = (south[1:] + south[:-1]) / 2
        return cls(rows[::-1], columns, centres[::-1], np.asarray(side * np.arange(width)))

    def __call__(self, field: ArrayLike) -> NDArray[np.float32]:
        """Map a field (..., Y, X) to (..., H, W), in float64 and rounded once."""
        wide = np.asarray(field, np.float64)
        return np.asarray(self.rows @ (wide @ self.columns.T), np.float32)
