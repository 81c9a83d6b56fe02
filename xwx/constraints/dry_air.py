"""The mass of dry air, which no weather changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xwx.constraints.scene import Bound, Scene
from xwx.constraints.series import clock_of, held, refuse
from xwx.diffusion import dry_air
from xwx.diffusion.protocols import Observation
from xwx.errors import Problem
from xwx.fields.cells import model_cells
from xwx.fields.foreign import static_field
from xwx.fields.grid import cell_areas
from xwx.fields.quantities import amount, difference
from xwx.fields.values import values_along_time
from xwx.spec import Spec

__all__ = ["DryAirMass"]


@dataclass(frozen=True, eq=False)
class DryAirMass:
    r"""The mass of dry air in the atmosphere, as the mean pressure that it exerts at the surface.

    .. math:: p_d = \overline{\sum_k (1 - q_k) \, \Delta p_k}, \qquad M_d = 4 \pi a^2 p_d / g

    as :meth:`ds.wx.dry_air_mass() <xwx.accessor.WeatherAccessor.dry_air_mass>` computes it. The
    model needs specific humidity on pressure levels and surface pressure; or, with the orography,
    geopotential on two levels or more, or mean sea level pressure and 2 m temperature.

    Parameters
    ----------
    target : str, quantity or DataArray, optional
        The mean pressure, such as ``"98305 Pa"``; or one for each time, with units. By default
        that of the state the series starts from.
    noise : str or quantity
        Standard deviation of the target.
    strict : bool
        Whether every state meets the target to rounding: the sampler corrects its last step.
    surface : DataArray or Dataset, optional
        The orography on the model's grid: surface geopotential, or altitude. By default that of
        the Dataset from which is forecast.

    Examples
    --------
    >>> from xwx.constraints import DryAirMass
    >>> ds.wx.forecast(wind, steps=56, constraints=[DryAirMass(strict=True)])  # doctest: +SKIP
    """

    target: str | xr.DataArray | Any | None = None
    noise: str | Any = "0.1 Pa"
    strict: bool = False
    surface: xr.DataArray | xr.Dataset | None = None

    def __post_init__(self) -> None:
        if difference(self.noise, "Pa", "noise", '"0.1 Pa"') <= 0:
            raise ValueError(f'noise={self.noise!r}: give a positive pressure, such as "0.1 Pa"')
        if self.target is not None and not isinstance(self.target, xr.DataArray):
            amount(self.target, "Pa", "target", '"98305 Pa"')

    def bind(self, scene: Scene) -> Bound:
        """Return the constraint on a series of states, named "dry_air_mass".

        A state that is given, and not sampled, is not constrained.

        Raises
        ------
        MismatchError
            When the model has no humidity or none of the ways to the surface pressure is open
            (each with what it lacks), its grid is not global, or the target is unknown.
        ValueError
            For a target or noise that cannot be read as a pressure.
        """
        sigma = difference(self.noise, "Pa", "noise")
        orography, problems = self._orography(scene)
        problems += _lacking(scene.spec, orography is not None or bool(problems))
        refuse(problems, "DryAirMass", "ds" if self.surface is None else "surface")
        area = torch.from_numpy(cell_areas(scene.spec.grid.rows))
        height = None if orography is None else torch.from_numpy(orography)
        targets = self._targets(scene, partial(_operator, scene.spec, area, height))
        return Bound(
            "dry_air_mass",
            partial(_seen, scene, (area, height), targets, (sigma, self.strict)),
        )

    def _orography(self, scene: Scene) -> tuple[NDArray[np.float64] | None, list[Problem]]:
        """Return the geopotential of the surface, if it is needed and there is any."""
        if any(c.name == "sp" and c.level is None for c in scene.spec.channels):
            return None, []
        surface = scene.given if self.surface is None else self.surface
        if isinstance(surface, xr.DataArray):  # what it is called does not matter here
            surface = surface.reset_coords(drop=True).to_dataset(name="z_sfc")
        return static_field(surface, "z_sfc", scene.spec.grid)

    def _targets(self, scene: Scene, operator: Callable[[int], dry_air.DryAirMass]) -> Tensor:
        """Return the target of each state (N,) [Pa], float64; NaN where there is none."""
        count = len(scene.times)
        if self.target is None:
            if scene.start is None:
                refuse([_no_target()], "DryAirMass")
            assert scene.start is not None
            start = scene.start.detach().double().cpu()
            return operator(0)(start[None, None])[0].expand(count)
        if not isinstance(self.target, xr.DataArray):
            target = amount(self.target, "Pa", "target")
            return torch.full((count,), target, dtype=torch.float64)
        values, when, name, problems = values_along_time(self.target, "Pa")
        refuse(problems, "DryAirMass", "target")
        found = clock_of(scene).find(when, name, name)
        refuse(found.problems, "DryAirMass", "target")
        targets = torch.full((count,), torch.nan, dtype=torch.float64)
        targets[torch.from_numpy(found.states)] = torch.from_numpy(values)
        return targets


def _operator(
    spec: Spec, area: Tensor, orography: Tensor | None, *frames: int
) -> dry_air.DryAirMass:
    return dry_air.DryAirMass.of(spec.channels, area, frames, orography)


def _seen(
    scene: Scene,
    world: tuple[Tensor, Tensor | None],
    targets: Tensor,
    how: tuple[float, bool],
    window: range,
) -> Observation | None:
    """Return the mass of the states of a window that are sampled."""
    states = [
        s for s in held(window, scene, int(scene.start is not None)) if not targets[s].isnan()
    ]
    if not states:
        return None
    sigma, strict = how
    operator = _operator(scene.spec, *world, *(s - window.start for s in states))
    return Observation(operator, targets[states], sigma**2, strict)


def _lacking(spec: Spec, orography: bool) -> list[Problem]:
    """Return what a model lacks for the mass of dry air."""
    problems = []
    grid = spec.grid
    edges = model_cells(grid).rows
    half = float(np.diff(edges, axis=1).max()) / 2
    if not grid.periodic or max(90.0 - edges.max(), 90.0 + edges.min()) > half:
        message = f"the model's grid, {grid}, is not the whole globe, of which a mean is meant"
        remedy = "take a global model: xwx.list_models()"
        problems.append(Problem("regional-grid", "model", message, remedy))
    if not _levels(spec, "q"):
        message = "it has no specific humidity 'q' on pressure levels"
        remedy = "take a model that has it: xwx.list_models()"
        problems.append(Problem("missing-channel", "model", message, remedy))
    return [*problems, *_no_surface_pressure(spec, orography)]


def _levels(spec: Spec, key: str) -> int:
    return sum(c.name == key and c.level is not None for c in spec.channels)


def _no_surface_pressure(spec: Spec, orography: bool) -> list[Problem]:
    """Return every way to the surface pressure with what it misses; nothing if one is open."""
    flat, count = {c.name for c in spec.channels if c.level is None}, _levels(spec, "z")
    surface = [] if orography else ["the orography 'z_sfc'"]
    heights = [] if count > 1 else [f"'z' on two levels (the model has {count})"]
    ways = {
        "as a channel": [] if "sp" in flat else ["'sp'"],
        "from geopotential": [*heights, *surface],
        "from sea level": [*(f"{k!r}" for k in ("msl", "t2m") if k not in flat), *surface],
    }
    if not all(ways.values()):
        return []
    lacks = "; ".join(f"{way} it lacks {', '.join(what)}" for way, what in ways.items())
    remedy = "take a model that has one of them: xwx.list_models()"
    if surface in (ways["from geopotential"], ways["from sea level"]):
        remedy = (
            "DryAirMass(surface=orography)  # on the model's grid, surface geopotential [m2 s-2] "
            "or altitude [m]"
        )
    message = f"none of the ways to it is open: {lacks}"
    return [Problem("no-surface-pressure", "surface pressure", message, remedy)]


def _no_target() -> Problem:
    return Problem(
        kind="missing-target",
        where="target",
        message="nothing is given that the series starts from, whose mass could be kept",
        remedy='DryAirMass(target="98305 Pa")  # the mean pressure of dry air at the surface',
    )
