"""Regions of the globe: which part of every grid cell lies in each, and what it weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields import Horizontal
from xwx.fields.align import Axes, axes_of, match

__all__ = ["BOXES", "Box", "region_weights"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A region between parallels and meridians.

    Parameters
    ----------
    south, north : float
        Degrees north.
    west, east : float
        Degrees east, in any convention; from west eastwards to east, over the date line too.
    """

    south: float = -90.0
    north: float = 90.0
    west: float = 0.0
    east: float = 360.0

    def __post_init__(self) -> None:
        if not -90 <= self.south < self.north <= 90:
            raise ValueError(
                f"a box from {self.south:g} to {self.north:g} degrees north: give south < north, "
                "within -90 and 90"
            )
        if self.west == self.east:
            raise ValueError(f"a box from {self.west:g} to {self.east:g} degrees east is empty")


#: Those of WeatherBench 2, by name; several boxes together make one region.
BOXES: Mapping[str, tuple[Box, ...]] = {
    "global": (Box(),),
    "tropics": (Box(-20, 20),),
    "extratropics": (Box(20, 90), Box(-90, -20)),
    "northern_extratropics": (Box(20, 90),),
    "southern_extratropics": (Box(-90, -20),),
    "northern_hemisphere": (Box(0, 90),),
    "southern_hemisphere": (Box(-90, 0),),
    "arctic": (Box(60, 90),),
    "antarctic": (Box(-90, -60),),
    "europe": (Box(35, 75, -12.5, 42.5),),
    "north_america": (Box(25, 60, -120, -75),),
    "north_atlantic": (Box(25, 65, -70, -10),),
    "north_pacific": (Box(25, 60, 145, -130),),
    "east_asia": (Box(25, 60, 102.5, 150),),
    "australia_new_zealand": (Box(-45, -12.5, 120, 175),),
}


def region_weights(
    regions: Any, horizontal: Horizontal, kind: Literal["area", "cos"] = "area"
) -> xr.DataArray:
    """Return what every cell weighs in every region.

    Parameters
    ----------
    regions : None, str, Box, sequence or mapping
        Names (see :data:`BOXES`), or a mapping of names to names, boxes, numbers ``(south,
        north)`` or ``(south, north, west, east)``, or masks: DataArrays on the forecast's grid,
        true (or 1) inside, false (or 0) outside, or the part of the cell that is inside.
    horizontal : Horizontal
        The grid.
    kind : {"area", "cos"}
        Exact areas as parts of the globe, or the cosine of latitude times the width.

    Returns
    -------
    DataArray, (region, latitude, longitude)
        A cell that lies in part inside a box weighs that part: regions that share a border share
        no area.

    Raises
    ------
    ValueError, TypeError
        For a region that is not understood, or holds no cell.
    MismatchError
        For a mask on another grid.
    """
    chosen = _named(regions)
    rows, widths = horizontal.row_weights(kind), horizontal.column_widths
    arrays = []
    for name, region in chosen.items():
        part = _part(name, region, horizontal)
        weights = rows[:, None] * widths * part
        if not weights.sum() > 0:
            raise ValueError(f"region {name!r} holds no part of the grid, {horizontal}")
        arrays.append(weights)
    dims = ("region", horizontal.latitude_dim, horizontal.longitude_dim)
    return xr.DataArray(np.stack(arrays), dims=dims, coords={"region": list(chosen)})


def _named(regions: Any) -> dict[str, Any]:
    if regions is None:
        return {"global": (Box(-90, 90),)}
    if isinstance(regions, str):
        regions = [regions]
    if isinstance(regions, Mapping):
        found = {str(name): region for name, region in regions.items()}
    elif isinstance(regions, Sequence) and all(isinstance(r, str) for r in regions):
        found = {str(name): name for name in regions}
    else:
        raise TypeError(
            f"regions={regions!r}: give names, such as ['tropics', 'europe'], or a mapping, such "
            "as {'alps': (44, 48, 5, 16)}"
        )
    if not found:
        raise ValueError(f"regions={regions!r}: give at least one, or None for all of the grid")
    return {name: _boxes(name, region) for name, region in found.items()}


def _boxes(name: str, region: Any) -> Any:
    if isinstance(region, xr.DataArray):
        return region
    if isinstance(region, str):
        if region not in BOXES:
            near = get_close_matches(region.lower(), BOXES, 1)
            hint = f": did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"unknown region {region!r}{hint} The names are {', '.join(BOXES)}")
        return BOXES[region]
    if isinstance(region, Box):
        return (region,)
    numbers = isinstance(region, Sequence) and all(isinstance(v, int | float) for v in region)
    if numbers and len(region) in (2, 4):
        try:
            return (Box(*map(float, region)),)
        except ValueError as error:
            raise ValueError(f"region {name!r}: {error}") from error
    raise TypeError(
        f"region {name!r} is {region!r}: give (south, north) or (south, north, west, east) in "
        f"degrees, a DataArray mask, or one of the names {', '.join(BOXES)}"
    )


def _part(name: str, region: Any, horizontal: Horizontal) -> Floats:
    """Return the part of each cell that lies inside, (rows, columns)."""
    if isinstance(region, xr.DataArray):
        return _mask(name, region, horizontal)
    parts = (
        horizontal.row_parts(box.south, box.north)[:, None]
        * horizontal.column_parts(box.west, box.east)
        for box in region
    )
    return np.asarray(sum(parts))


def _mask(name: str, mask: xr.DataArray, horizontal: Horizontal) -> Floats:
    """Return a mask in the order of the grid; it may be turned, rolled, or of a larger area."""
    dims = (horizontal.latitude_dim, horizontal.longitude_dim)
    if set(mask.dims) == set(dims) and not set(dims) & set(mask.coords):
        mask = mask.transpose(*dims)  # bare values: they can only be in the order of the grid
        if mask.shape != (horizontal.latitude.size, horizontal.longitude.size):
            raise MismatchError([_wrong_mask(name, mask, horizontal)], what="the forecast")
        return _parts_of(name, mask.values)
    held = axes_of(mask.to_dataset(name="mask"))
    mine = Axes(
        dims,
        dims,
        horizontal.latitude,
        horizontal.longitude,
    )
    if not isinstance(held, Axes):
        raise MismatchError(held, what=f"the forecast, as the region {name!r}")
    found = match(held, mine, "the forecast")
    if isinstance(found, Problem) or set(mask.dims) != set(held.dims):
        raise MismatchError([_wrong_mask(name, mask, horizontal)], what="the forecast")
    return _parts_of(name, mask.transpose(*held.dims).values[np.ix_(*found)])


def _parts_of(name: str, mask: NDArray[Any]) -> Floats:
    values = np.asarray(mask, dtype=np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"region {name!r}: a mask holds true and false, or parts from 0 to 1")
    return values


def _wrong_mask(name: str, mask: xr.DataArray, horizontal: Horizontal) -> Problem:
    further = [d for d in mask.dims if mask.sizes[d] > 1][:-2]
    return Problem(
        kind="wrong-grid",
        where=f"regions[{name!r}]",
        message=(
            f"the mask has {dict(mask.sizes)}; it must lie on the forecast's own grid, "
            f"{horizontal}, along latitude and longitude alone"
        ),
        remedy=(
            f"mask = mask.isel({further[0]}=0)"
            if further
            else "mask = mask.astype(float).interp_like(forecast) >= 0.5  # then look at it"
        ),
    )
