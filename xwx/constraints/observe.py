"""Values on the model's grid with gaps, and reports of stations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from xwx.constraints.noise import Noise, deviations_of, refuse_noise
from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import Timed, clock_of, given_alone, held, refuse, require_values
from xwx.constraints.stations import bind_stations
from xwx.diffusion import operators
from xwx.diffusion.protocols import Observation
from xwx.errors import Problem
from xwx.fields.embed import on_whole_grid
from xwx.fields.foreign import foreign
from xwx.fields.quantities import span
from xwx.fields.reports import along_stations

__all__ = ["Observe"]


@dataclass(frozen=True, eq=False)
class Observe:
    """What was observed of states: entries of the model's grid, or reports of stations.

    Parameters
    ----------
    values : Dataset
        In any presentation, of some of the model's variables and levels. Either on the model's
        grid or on some of its points, NaN where nothing was observed; or along one dimension of
        stations with their ``lat`` and ``lon``, in any order and with a time each (as in a list of
        METARs), a dimension of times, or one time for all; NaN reports are left out.
    noise : str, quantity or mapping, optional
        Standard deviation of the errors, with a unit: ``"0.5 hPa"``, or one for each variable,
        ``{"t2m": "1 K", "msl": "0.5 hPa"}``. By default a hundredth of the channel's standard
        deviation.
    tolerance : str, optional
        Such as ``"30 min"``: values within it count as those of the nearest state, those between
        are left out. By default a time between the model's states is an error.

    Examples
    --------
    >>> from xwx.constraints import Observe
    >>> buoys = Observe(obs, noise={"msl": "0.5 hPa"}, tolerance="30 min")  # doctest: +SKIP
    >>> ds.wx.forecast(wind, members=10, constraints=[buoys])  # doctest: +SKIP
    """

    values: xr.Dataset
    noise: Noise = None
    tolerance: str | Any | None = None

    def __post_init__(self) -> None:
        refuse_noise(self.noise)
        if self.tolerance is not None:
            span(self.tolerance, "tolerance")

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states.

        Named "observed" on the model's grid and "stations" along a dimension of stations.

        Raises
        ------
        MismatchError
            With every problem of `values`: names, units, levels, the grid, times that are no
            state's, stations outside the grid, nothing but NaN.
        ValueError
            For a noise or tolerance that cannot be read, or does not fit a variable.
        """
        tolerance = None if self.tolerance is None else span(self.tolerance, "tolerance")
        if isinstance(self.values, xr.Dataset) and along_stations(self.values):
            return bind_stations(self.values, scene, self.noise, tolerance)
        seen, problems = foreign(self.values, scene.spec, on="model")
        if any(p.kind in ("regional-grid", "wrong-grid") for p in problems):
            seen, problems = foreign(
                on_whole_grid(self.values, scene.spec.grid), scene.spec, on="model"
            )
        refuse([_reworded(p) for p in problems], "Observe")
        assert seen is not None  # refuse() raised otherwise
        found = clock_of(scene).find(seen.when, seen.time_name, seen.time_dim, tolerance)
        refuse([_reworded(p) for p in found.problems], "Observe")
        sigma = deviations_of(self.noise, scene, seen.channels, seen.names)
        positions = np.flatnonzero(found.near)
        require_values(seen, positions, "Observe", "values", scene)
        refuse(given_alone(found.states[positions], scene), "Observe")
        timed = Timed(seen, found.states[positions], positions)
        return Bound("observed", partial(_entries, timed, sigma, scene))


def _entries(timed: Timed, sigma: Tensor, scene: Scene, window: range) -> Observation | None:
    """Return the entries that were observed of a window."""
    states, values = timed.of(held(window, scene))
    here = torch.isfinite(values)
    if not bool(here.any()):
        return None
    shape = (len(window), len(scene.spec.channels), *scene.spec.grid.shape)
    frames = torch.tensor(states) - window.start
    fields = frames[:, None] * shape[1] + torch.tensor(timed.seen.channels)
    cells = torch.arange(values[0, 0].numel()).view(values.shape[2:])
    index = fields[..., None, None] * cells.numel() + cells
    variance = (sigma**2)[:, None, None].expand(values.shape)
    return Observation(operators.Observe(index[here], shape), values[here], variance[here])


def _reworded(problem: Problem) -> Problem:
    """Name what else can be done with values that are not at the model's points or times."""
    remedies = {
        "wrong-grid": (
            "AreaMean(ds)  # means over larger cells; cells as large or smaller: "
            "ds = ds.wx.regrid(model)"
        ),
        "regional-grid": (
            "AreaMean(ds)  # means over larger cells; some of the model's own points alone need "
            "no change, whatever the convention of their longitudes"
        ),
        "time-between": f'{problem.remedy}; or Observe(ds, tolerance="30 min")',
    }
    for kind in ("latitude", "longitude"):
        remedies[f"missing-{kind}"] = (
            f'{problem.remedy}; if it is a variable: ds = ds.set_coords(["lat", "lon"]); one '
            "station: ds = ds.isel(station=[0]), which keeps the dimension"
        )
    return replace(problem, remedy=remedies.get(problem.kind, problem.remedy))
