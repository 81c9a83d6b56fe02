"""The coastlines of the world, from the package: a map needs no internet."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import cartopy.crs as ccrs
import numpy as np
from cartopy.feature import ShapelyFeature
from shapely.geometry import MultiLineString

__all__ = ["coastlines", "draw_coastlines"]

#: The file holds whole hundredths of a degree.
_SCALE = 100.0


@cache
def coastlines() -> MultiLineString:
    """Return the coastlines of Natural Earth, 1:110 million: longitude, latitude [degrees]."""
    with files("xwx").joinpath("data", "coastlines.npz").open("rb") as file:
        data = np.load(file, allow_pickle=False)
        points, lengths = data["points"] / _SCALE, data["lengths"]
    ends = np.cumsum(lengths.astype(np.int64))[:-1]
    return MultiLineString(np.split(points, ends))


@cache
def _feature() -> ShapelyFeature:
    # One object for all maps: cartopy keeps what it projects by the identity of a feature.
    return ShapelyFeature([coastlines()], ccrs.PlateCarree(), facecolor="none")


def draw_coastlines(ax: Any) -> Any:
    """Draw the coastlines on a GeoAxes, dark with a light rim, and return the dark artist.

    One of the two shows on any colour.
    """
    ax.add_feature(_feature(), edgecolor="1.0", linewidth=1.8, alpha=0.85, zorder=2.5)
    return ax.add_feature(_feature(), edgecolor="0.1", linewidth=0.6, zorder=2.6)
