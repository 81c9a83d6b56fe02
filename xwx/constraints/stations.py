"""Reports of stations, between the cells of the model's grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.noise import Noise, deviations_of
from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import clock_of, given_alone, held, learned, refuse
from xwx.diffusion.protocols import Observation
from xwx.diffusion.stations import stations
from xwx.errors import Problem
from xwx.fields.instants import Found
from xwx.fields.plausible import warn_if_implausible
from xwx.fields.reports import Reports, reports
from xwx.fields.variables import variable
from xwx.spec import Grid

__all__ = ["bind_stations"]

#: The components of a horizontal vector, whose sign turns over a pole.
_VECTORS = frozenset({"eastward_wind", "northward_wind"})
#: Degrees by which a station may lie outside, for rounding of coordinates.
_SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class _List:
    """One report after the other: place, channel, state, value and error."""

    latitude: Tensor
    longitude: Tensor
    channels: Tensor
    states: Tensor
    values: Tensor
    sigma: Tensor


def bind_stations(
    values: xr.Dataset, scene: Scene, noise: Noise, tolerance: timedelta | None
) -> Bound:
    """Return the constraint of reports on a series of states; see :class:`Observe`."""
    seen, problems = reports(values, scene.spec)
    refuse(problems, "Observe")
    assert seen is not None  # refuse() raised otherwise
    found = clock_of(scene).find(seen.when, seen.time_name, seen.time_dim, tolerance)
    problems = [_reworded(p, seen) for p in found.problems]
    problems += _outside(scene.spec.grid, seen)
    refuse(problems, "Observe")
    sigma = deviations_of(noise, scene, seen.channels, seen.names)
    listed = _listed(seen, found, sigma)
    refuse(_nothing(seen, tolerance) if listed.values.numel() == 0 else [], "Observe")
    refuse(given_alone(listed.states.numpy(), scene), "Observe")
    warn_if_implausible(seen.samples, scene.spec.channels, learned(scene))
    return Bound("stations", partial(_reports, listed, scene))


def _listed(seen: Reports, found: Found, sigma: Tensor) -> _List:
    """Return the reports that are there, in the order of time, channel and station."""
    near = found.near[None, None, :] if seen.each else found.near[:, None, None]
    time, channel, station = np.nonzero(np.isfinite(seen.values) & near)
    values = seen.values[time, channel, station]
    states = found.states[station if seen.each else time]
    return _List(
        torch.from_numpy(seen.latitude[station]),
        torch.from_numpy(seen.longitude[station]),
        torch.tensor(seen.channels)[torch.from_numpy(channel)],
        torch.from_numpy(states),
        torch.from_numpy(values),
        sigma[torch.from_numpy(channel)],
    )


def _reports(listed: _List, scene: Scene, window: range) -> Observation | None:
    """Return the reports of a window."""
    states = held(window, scene)
    here = (listed.states >= states.start) & (listed.states < states.stop)
    if not bool(here.any()):
        return None
    turning = [bool(_VECTORS & set(variable(c.name).standard_names)) for c in scene.spec.channels]
    channels = listed.channels[here].tolist()
    operator = stations(
        scene.spec.grid,
        listed.latitude[here],
        listed.longitude[here],
        channels=channels,
        frames=(listed.states[here] - window.start).tolist(),
        shape=(len(window), len(scene.spec.channels)),
        vector=[turning[c] for c in channels],
    )
    return Observation(operator, listed.values[here], listed.sigma[here] ** 2)


def _reworded(problem: Problem, seen: Reports) -> Problem:
    if problem.kind != "time-between":
        return problem
    remedy = (
        'Observe(ds, tolerance="30 min")  # takes those within it as of the nearest state; or '
        f'ds.assign_coords({{"{seen.time_name}": ...}})'
    )
    return replace(problem, remedy=remedy)


def _nothing(seen: Reports, tolerance: timedelta | None) -> list[Problem]:
    within = "" if tolerance is None else f" within {tolerance} of a state"
    return [
        Problem(
            kind="nothing-observed",
            where=", ".join(dict.fromkeys(seen.names)),
            message=f"there is no report{within}: all values are NaN",
            remedy="look at what was opened or selected: ds.notnull().sum()",
        )
    ]


def _outside(grid: Grid, seen: Reports) -> list[Problem]:
    """Return the problem of stations that lie outside the grid."""
    inside = _rows_hold(grid, seen.latitude) & _columns_hold(grid, seen.longitude)
    if inside.all():
        return []
    dim, keep = seen.station_dim, np.flatnonzero(inside)
    lat, lon = seen.latitude[~inside][0], seen.longitude[~inside][0]
    remedy = f"ds = ds.isel({dim}={keep.tolist()})  # those inside"
    if keep.size > 12:
        south, north = grid.latitude[-1], grid.latitude[0]
        west, width = grid.longitude[0], grid.longitude[-1] - grid.longitude[0]
        rows, columns = (f'ds["{name}"].values' for name in seen.places)
        remedy = f"ds = ds.isel({dim}=({rows} >= {south:g}) & ({rows} <= {north:g})"
        if not grid.periodic:
            remedy += f" & (({columns} - {west:g}) % 360 <= {width:g})"
        remedy += ")  # those inside"
    if not keep.size:
        remedy = "give stations of the model's region, or take another model: xwx.list_models()"
    return [
        Problem(
            kind="outside-grid",
            where=dim,
            message=(
                f"{inside.size - keep.size} of {inside.size} stations lie outside the model's "
                f"grid, {grid}: the first is at {lat:g} degrees north, {lon:g} degrees east"
            ),
            remedy=remedy,
        )
    ]


def _rows_hold(grid: Grid, latitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    rows = grid.rows
    low, high = float(rows[-1]), float(rows[0])
    if grid.periodic and rows.size > 1:
        spacing = float(-np.diff(rows).min()) + _SLACK
        low = -90.0 if low + 90.0 < spacing else low
        high = 90.0 if 90.0 - high < spacing else high
    return np.asarray((latitude >= low - _SLACK) & (latitude <= high + _SLACK))


def _columns_hold(grid: Grid, longitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    if grid.periodic:
        return np.ones(longitude.size, dtype=np.bool_)
    columns = grid.columns
    east = np.mod(longitude - columns[0] + _SLACK, 360.0) - _SLACK
    return np.asarray(east <= columns[-1] - columns[0] + _SLACK)
