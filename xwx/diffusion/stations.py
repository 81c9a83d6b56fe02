"""Stations between the cells of a grid: bilinear weights, round the globe and over the poles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xwx.diffusion.points import AtPoints
from xwx.spec import Grid

__all__ = ["stations"]

#: Degrees by which a station may lie outside, for rounding of coordinates.
_SLACK = 1e-6


def stations(
    grid: Grid,
    latitude: Tensor,
    longitude: Tensor,
    *,
    channels: Sequence[int],
    frames: Sequence[int],
    shape: tuple[int, int],
    vector: Sequence[bool] | None = None,
) -> AtPoints:
    """Return the operator that sees a state at stations, bilinear in degrees.

    Longitude is periodic if the grid closes. Between the last row of such a grid and the pole the
    neighbours are that row and its continuation over the pole, where the components of a
    horizontal vector have the other sign.

    Parameters
    ----------
    grid : Grid
        Of the state.
    latitude, longitude : Tensor, shape (M,)
        Of each station [degrees], in any convention of longitude.
    channels, frames : sequence of int, length M
        Which channel each station measures, in which frame.
    shape : (int, int)
        Frames and channels of the state.
    vector : sequence of bool, length M, optional
        Whether it measures a component of a horizontal vector, such as wind; none does by default.

    Raises
    ------
    ValueError
        If the lengths differ, an index lies outside the state, or a station outside the grid.
    """
    count = latitude.shape[0]
    turning = [False] * count if vector is None else list(vector)
    lengths = [len(part) for part in (longitude, channels, frames, turning)]
    if lengths != [count] * 4:
        raise ValueError(
            f"{count} latitudes, but longitude, channels, frames and vector are {lengths}: give "
            "one of each for each station"
        )
    for name, index, limit in (("frames", frames, shape[0]), ("channels", channels, shape[1])):
        if wrong := [i for i in index if not 0 <= i < limit]:
            raise ValueError(f"{name} holds {wrong[0]}: the state has 0 to {limit - 1}")
    lat, lon = latitude.to("cpu", torch.float64), longitude.to("cpu", torch.float64)
    rows, row_weight, over = _rows(grid, lat)
    cells, weights = [], []
    for side in (0, 1):
        columns, column_weight = _columns(grid, lon + 180.0 * over[:, side])
        sign = torch.where(over[:, side] & torch.tensor(turning), -1.0, 1.0).double()
        cells.append(rows[:, side, None] * grid.shape[1] + columns)
        weights.append((sign * row_weight[:, side])[:, None] * column_weight)
    entries, weight = torch.cat(cells, 1), torch.cat(weights, 1)
    # an entry without weight must not be read: it may hold no number
    heaviest = entries.gather(1, weight.abs().argmax(1, keepdim=True))
    entries = torch.where(weight == 0, heaviest, entries)
    field = torch.tensor([f * shape[1] + c for f, c in zip(frames, channels, strict=True)])
    entries = field[:, None] * (grid.shape[0] * grid.shape[1]) + entries
    return AtPoints(entries, weight, (*shape, *grid.shape))


def _refuse(name: str, value: Tensor, outside: Tensor, limits: str) -> None:
    if bool(outside.any()):
        n = int(torch.nonzero(outside)[0])
        raise ValueError(
            f"{name} of station {n} is {float(value[n])}: the grid covers {limits}; leave out "
            "stations that lie outside"
        )


def _rows(grid: Grid, latitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return two rows for each station (M, 2), their weights, and whether they lie over a pole."""
    rows = torch.from_numpy(grid.rows)
    first, last = float(rows[0]), float(rows[-1])
    count = rows.numel()
    index = torch.arange(count)
    spacing = float((rows[:-1] - rows[1:]).max()) if count > 1 else 0.0
    for pole, edge in ((90.0, first), (-90.0, last)):
        # a region that ends near a pole does not go on beyond it
        if grid.periodic and 0.0 < abs(pole - edge) < spacing + _SLACK:
            beyond, row = torch.tensor([2 * pole - edge]).double(), torch.tensor([0])
            if pole > 0:
                rows, index = torch.cat([beyond, rows]), torch.cat([row, index])
            else:
                rows, index = torch.cat([rows, beyond]), torch.cat([index, row + count - 1])
    low, high = max(float(rows[-1]), -90.0), min(float(rows[0]), 90.0)
    inside = (latitude >= low - _SLACK) & (latitude <= high + _SLACK)
    _refuse("latitude", latitude, ~inside, f"{low:g} to {high:g}")
    if rows.numel() == 1:
        both = torch.zeros(latitude.numel(), 2, dtype=torch.long)
        return both, torch.tensor([1.0, 0.0]).double().expand(both.shape), both.bool()
    upper = torch.searchsorted(-rows, -latitude, right=True).clamp(1, rows.numel() - 1) - 1
    pair = torch.stack([upper, upper + 1], 1)
    part = ((rows[upper] - latitude) / (rows[upper] - rows[upper + 1])).clamp(0.0, 1.0)
    return index[pair], torch.stack([1.0 - part, part], 1), rows[pair].abs() > 90.0


def _columns(grid: Grid, longitude: Tensor) -> tuple[Tensor, Tensor]:
    """Return two columns for each station (M, 2) and their weights."""
    columns = torch.from_numpy(grid.columns)
    east = columns - columns[0]
    if grid.periodic:
        east = torch.cat([east, torch.tensor([360.0]).double()])
    at = torch.remainder(longitude - columns[0] + _SLACK, 360.0) - _SLACK
    limits = f"{float(columns[0]):g} to {float(columns[-1]):g}"
    _refuse("longitude", longitude, ~(at <= east[-1] + _SLACK), limits)
    if east.numel() == 1:
        both = torch.zeros(longitude.numel(), 2, dtype=torch.long)
        return both, torch.tensor([1.0, 0.0]).double().expand(both.shape)
    west = torch.searchsorted(east, at, right=True).clamp(1, east.numel() - 1) - 1
    part = ((at - east[west]) / (east[west + 1] - east[west])).clamp(0.0, 1.0)
    pair = torch.stack([west, (west + 1) % columns.numel()], 1)
    return pair, torch.stack([1.0 - part, part], 1)
