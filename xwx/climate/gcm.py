"""A general circulation model: SPEEDY physics on the dinosaur core, by jcm 3.0.0.

T31 with eight levels and no diurnal cycle; the climatologies of sea surface, sea ice, land and
orography come with jcm, so that nothing is downloaded. Three faults of jcm 3.0.0 are worked round:
the default state is 17 hPa too heavy and the core then drifts by about 1 hPa a year (`_with_mass`),
its surface geopotential is not that of the orography the core integrates over, and the number of
wavenumbers that the core clips from the orography is not where a caller can ask for it (`_build`).
"""

from __future__ import annotations

import warnings
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from dinosaur.primitive_equations import truncated_modal_orography
from jcm import constants
from jcm.checkpoint import load_checkpoint, save_checkpoint
from jcm.forcing import ForcingData
from jcm.model import Model
from jcm.physics.physics_term import PhysicsTerm
from jcm.physics.speedy.speedy_coords import get_speedy_coords
from jcm.physics.speedy.speedy_terms import speedy_physics
from jcm.physics_interface import PhysicsTendency
from jcm.terrain import TerrainData
from numpy.typing import NDArray

from xwx.climate.settings import STATES_A_DAY, Settings
from xwx.climate.states import Floats, SigmaStates

__all__ = ["Speedy"]

#: Global mean surface pressure that is held [Pa]; that of ERA5.
MEAN_PRESSURE = 98550.0
#: By which the core divides surface pressure [Pa].
REFERENCE = 1.0e5
#: Wavenumbers at the end that the core clips from the orography.
CLIPPED = 2
_TOTAL = "precipitation_total"


class PrecipitationTotal(PhysicsTerm):  # type: ignore[misc]
    """Convective and large-scale precipitation [kg m-2] summed over all steps."""

    name: ClassVar[str] = _TOTAL
    category: ClassVar[str] = "diagnostics"
    carry_slots: ClassVar[dict[str, Any]] = {}
    prognostic_carry_slots: ClassVar[tuple[str, ...]] = (_TOTAL,)

    def initial_carry_state(self, coords: Any) -> dict[str, Any]:
        """Begin at zero."""
        return {_TOTAL: jnp.zeros(coords.horizontal.nodal_shape)}

    def __call__(
        self, state: Any, diagnostics: dict[str, Any], forcing: Any, terrain: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Add the precipitation of one step; the state is left alone."""
        rate = diagnostics["surface_exchange"].precipitation  # kg m-2 s-1
        fallen = rate * diagnostics["_dt_seconds"]
        total = diagnostics.get(_TOTAL, jnp.zeros_like(rate)) + fallen
        return PhysicsTendency.zeros(state.temperature.shape), {**diagnostics, _TOTAL: total}


class Speedy:
    """The model at its first state; see :class:`xwx.tasks.simulate.Circulation`.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._model, self._forcing = _build(settings)
        state = self._model.initial_state(None, random_seed=settings.seed)
        self._model.bootstrap_state(_with_mass(self._model, state)[0])
        horizontal = self._model.coords.horizontal
        self.sigma: Floats = np.asarray(self._model.coords.vertical.centers, np.float64)
        self.longitude: Floats = np.rad2deg(np.asarray(horizontal.longitudes, np.float64))
        self.latitude: Floats = np.rad2deg(np.asarray(horizontal.latitudes, np.float64))
        self.areas: Floats = _gaussian_weights(self.latitude.size)
        self.phis = np.asarray(self._model.terrain.phis0, np.float64).T
        self.land = np.asarray(self._model.terrain.fmask, np.float64).T
        self.drift = 0.0

    @property
    def source(self) -> str:
        """The model and its versions."""
        packages = ("jcm", "dinosaur", "jax")
        versions = "; ".join(f"{name} {metadata.version(name)}" for name in packages)
        return f"SPEEDY T31L8 ({versions}), climatological sea surface, ice and land"

    @property
    def days(self) -> float:
        """Days since the first state."""
        passed = self._model.run_state.time - self._model.start_time
        passed = self._model.run_state.time - self._model.start_time
        return int(passed.days) + int(passed.seconds) / 86400.0

    def advance(self, days: float) -> SigmaStates:
        """Go on by `days`, and return the 6-hourly states on the way, the first after 6 hours."""
        found = self._model.resume(
            forcing=self._forcing, save_interval=1 / STATES_A_DAY, total_time=days
        )
        self._settle()
        state, physics = found.dynamics, found.physics
        surface, total = physics["_surface_flux"], _turned(physics[_TOTAL])
        return SigmaStates(
            times=np.asarray(found.time_labels()),
            t=_turned(state.temperature),
            q=_turned(state.specific_humidity),
            u=_turned(state.u_wind),
            v=_turned(state.v_wind),
            z=_turned(state.geopotential),
            ps=_turned(state.normalized_surface_pressure) * np.float32(REFERENCE),
            t2m=_turned(surface.t0),
            skt=_turned(surface.tsfc),
            tp=np.diff(total, axis=0, prepend=np.float32(0)),
            tisr=_turned(physics["_shortwave_rad"].fsol),
        )

    def _settle(self) -> None:
        """Put the mass back, and precipitation to zero: the sum over years would be coarse."""
        now = self._model.run_state
        state, mean = _with_mass(self._model, now.dynamics)
        self.drift = mean - MEAN_PRESSURE
        carry = {**now.physics, _TOTAL: jnp.zeros_like(now.physics[_TOTAL])}
        self._model.restore_state(state, carry, time=now.time, step=now.step)

    def save(self, path: Path) -> None:
        """Write everything that the next state follows from; an older file stays until then."""
        save_checkpoint(self._model, path)

    def load(self, path: Path) -> None:
        """Go back to what :meth:`save` wrote."""
        load_checkpoint(self._model, path)


def _build(settings: Settings) -> tuple[Any, Any]:
    """Return the model and its climatological boundary values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # jcm's use of xarray
        return _built(settings, resources.files("jcm") / "data/bc/t30/clim")


def _built(settings: Settings, folder: Any) -> tuple[Any, Any]:
    coords = get_speedy_coords(layers=8, spectral_truncation=31)
    terrain = TerrainData.from_file(str(folder / "terrain.nc"), coords=coords)
    # jcm's own geopotential belongs to another truncation: sea level pressure of 870 and 1150 hPa
    orography = truncated_modal_orography(terrain.orog, coords, CLIPPED)
    terrain = terrain.copy(phis0=constants.grav * coords.horizontal.to_nodal(orography))
    forcing = ForcingData.from_file(
        str(folder / "forcing.nc"), coords=coords, align_mode="wrap_year"
    )
    model = Model(
        coords=coords,
        terrain=terrain,
        time_step=settings.step_minutes,
        start_time=settings.start,
        physics=speedy_physics() + PrecipitationTotal(),
    )
    return model, forcing


def _with_mass(model: Any, state: Any) -> tuple[Any, float]:
    """Return the state with the mean surface pressure that is held, and the mean it had [Pa]."""
    horizontal = model.coords.horizontal
    logarithm = horizontal.to_nodal(state.log_surface_pressure)
    pressure = np.exp(np.asarray(logarithm[0], np.float64))
    mean = REFERENCE * float(pressure.mean(0) @ _gaussian_weights(pressure.shape[-1]))
    moved = logarithm + np.float32(np.log(MEAN_PRESSURE / mean))
    return state.replace(log_surface_pressure=horizontal.to_modal(moved)), mean


def _gaussian_weights(count: int) -> Floats:
    """Return the areas of the rows of a Gaussian grid; they sum to one."""
    return np.asarray(np.polynomial.legendre.leggauss(count)[1] / 2)


def _turned(field: Any) -> NDArray[np.float32]:
    """Bring (..., longitude, latitude) to (..., latitude, longitude)."""
    return np.ascontiguousarray(np.asarray(field, np.float32).swapaxes(-1, -2))
