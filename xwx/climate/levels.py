r"""From sigma levels to pressure levels and to mean sea level, above and below the ground.

Above the ground everything is linear in :math:`\ln p` but the geopotential, which is integrated
hydrostatically from that temperature. Below the ground, and down to sea level, temperature and
geopotential follow a constant lapse rate as at ECMWF: IFS Documentation, Part VI, "FULL-POS"
(post-processing), and Trenberth, Berry and Buja (1993), NCAR/TN-396+STR. Arrays end in (Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xwx.climate.states import Floats, SigmaStates

__all__ = [
    "GAS",
    "GRAVITY",
    "LAPSE",
    "Ground",
    "sea_level_pressure",
    "to_pressure",
    "to_ten_metres",
]

#: Acceleration of gravity [m s-2] and gas constant of dry air [J kg-1 K-1], as the model has them.
GRAVITY, GAS = 9.81, 287.0
#: Lapse rate below the ground [K m-1].
LAPSE = 0.0065
#: Temperatures [K] between which the ground is warmed, or held, before it is continued downwards.
COLD, WARM = 255.0, 290.5
#: Roughness lengths of sea and land [m].
ROUGHNESS_SEA, ROUGHNESS_LAND = 2e-4, 0.2


@dataclass(frozen=True, eq=False)
class Ground:
    r"""Temperature at the surface, and how it goes on below.

    Below the ground :math:`T(p) = T_*\,(p/p_s)^\alpha` with :math:`\alpha = \Gamma R/g`, less
    where the air is warm.

    Attributes
    ----------
    temperature : array, shape (T, Y, X)
        :math:`T_*` [K].
    alpha : array, shape (T, Y, X)
        :math:`\alpha` [1].
    """

    temperature: Floats
    alpha: Floats

    @classmethod
    def below(cls, t: ArrayLike, sigma: float, phis: ArrayLike) -> Ground:
        r"""Continue the temperature of the lowest level to the surface.

        .. math:: T_* = T_L \left[1 + \frac{\Gamma R}{g}\left(\frac{1}{\sigma_L} - 1\right)\right]

        Below 255 K it is moved half-way there. With :math:`T_0 = T_* + \Gamma\phi_s/g` at sea
        level above 290.5 K, :math:`\alpha = R\,(290.5 - T_*)/\phi_s` if the surface is colder
        than that, and otherwise 0 with :math:`T_*` moved half-way to 290.5 K.

        Parameters
        ----------
        t : array, shape (T, Y, X)
            Temperature of the lowest level [K].
        sigma : float
            Pressure of the lowest level over that of the surface.
        phis : array, shape (Y, X)
            Geopotential of the surface [m2 s-2].
        """
        low, height = np.asarray(t, np.float64), np.asarray(phis, np.float64)
        surface = low * (1 + LAPSE * GAS / GRAVITY * (1 / sigma - 1))
        surface = np.where(surface < COLD, (surface + COLD) / 2, surface)
        hot_sea = surface + LAPSE * height / GRAVITY > WARM
        hot = hot_sea & (surface > WARM)
        safe = np.where(np.abs(height) < 1, 1.0, height)  # so flat that alpha plays no part
        alpha = np.where(hot_sea, GAS * (WARM - surface) / safe, LAPSE * GAS / GRAVITY)
        return cls(np.where(hot, (WARM + surface) / 2, surface), np.where(hot, 0.0, alpha))

    def air(self, depth: Floats) -> Floats:
        r"""Return the temperature [K] at :math:`y = \ln(p/p_s)`.

        :math:`T_* e^{\alpha y}` to third order.
        """
        a = self.alpha * depth
        return np.asarray(self.temperature * (1 + a + a**2 / 2 + a**3 / 6))

    def geopotential(self, depth: Floats, phis: Floats) -> Floats:
        r"""Return the geopotential [m2 s-2] at :math:`y = \ln(p/p_s)`.

        :math:`\phi_s - R T_* (e^{\alpha y} - 1)/\alpha` to third order.
        """
        a = self.alpha * depth
        return np.asarray(phis - GAS * self.temperature * depth * (1 + a / 2 + a**2 / 6))


def sea_level_pressure(ps: ArrayLike, phis: ArrayLike, ground: Ground) -> Floats:
    r"""Reduce surface pressure to mean sea level.

    .. math::
        p_0 = p_s \exp\left[x \left(1 - \frac{\alpha x}{2} + \frac{(\alpha x)^2}{3}\right)\right],
        \qquad x = \frac{\phi_s}{R T_*}

    Parameters
    ----------
    ps : array, shape (T, Y, X)
        Surface pressure [Pa].
    phis : array, shape (Y, X)
        Geopotential of the surface [m2 s-2].
    ground : Ground

    Returns
    -------
    array, shape (T, Y, X)
        Pressure at mean sea level [Pa]; that of the surface where it lies at sea level.
    """
    pressure, height = np.asarray(ps, np.float64), np.asarray(phis, np.float64)
    x = height / (GAS * ground.temperature)
    a = ground.alpha * x
    reduced = pressure * np.exp(x * (1 - a / 2 + a**2 / 3))
    return np.where(np.abs(height) < 0.1, pressure, reduced)


def to_pressure(
    states: SigmaStates, sigma: ArrayLike, phis: ArrayLike, levels: Sequence[float]
) -> dict[str, Floats]:
    r"""Interpolate to pressure levels.

    Between two levels, at the fraction w of their distance :math:`\Delta` in :math:`x = \ln p`,

    .. math:: \phi = (1-w)\,\phi_0 + w\,\phi_1 + \tfrac12 R\,(T_1 - T_0)\,\Delta\,w\,(1-w),

    which solves :math:`d\phi/dx = -RT` where T is linear in x. The surface is a level too. Below
    it wind and humidity stay as they are there; temperature and geopotential follow `Ground`.

    Parameters
    ----------
    states : SigmaStates
    sigma : array, shape (K,)
        Pressure of the levels over that of the surface, increasing.
    phis : array, shape (Y, X)
        Geopotential of the surface [m2 s-2].
    levels : sequence of float, length P
        Pressures [Pa].

    Returns
    -------
    dict of str -> array, shape (T, P, Y, X)
        ``t``, ``q``, ``u``, ``v`` and ``z``, in the units of `states`.
    """
    ps, height = states.ps.astype(np.float64), np.asarray(phis, np.float64)
    sigma = np.asarray(sigma, np.float64)
    ground = Ground.below(states.t[:, -1], float(sigma[-1]), height)
    at_surface: dict[str, NDArray[Any]] = {
        "t": ground.temperature,
        "q": states.q[:, -1],
        "u": states.u[:, -1],
        "v": states.v[:, -1],
        "z": np.broadcast_to(height, ps.shape),
    }
    columns = {
        name: np.concatenate([getattr(states, name), surface[:, None]], axis=1, dtype=np.float64)
        for name, surface in at_surface.items()
    }
    x = np.append(np.log(sigma), 0.0)
    planes = [_plane(columns, ground, height, x, np.log(p / ps)) for p in levels]
    return {name: np.stack([plane[name] for plane in planes], axis=1) for name in columns}


def _plane(
    columns: dict[str, Floats], ground: Ground, phis: Floats, x: Floats, wanted: Floats
) -> dict[str, Floats]:
    """Interpolate to the surface `wanted` (T, Y, X) of ln(p / ps); `x` (K,) are the levels'."""
    above = np.clip(np.searchsorted(x, wanted) - 1, 0, x.size - 2)
    step = (x[1:] - x[:-1])[above]
    w = (wanted - x[above]) / step
    upper = {name: _taken(column, above) for name, column in columns.items()}
    lower = {name: _taken(column, above + 1) for name, column in columns.items()}
    out = {name: upper[name] + w * (lower[name] - upper[name]) for name in ("q", "u", "v")}
    below, depth = wanted > 0, np.maximum(wanted, 0.0)
    rise = lower["t"] - upper["t"]
    out["t"] = np.where(below, ground.air(depth), upper["t"] + w * rise)
    straight = upper["z"] + w * (lower["z"] - upper["z"])
    free = straight + 0.5 * GAS * rise * step * w * (1 - w)
    out["z"] = np.where(below, ground.geopotential(depth, phis), free)
    return out


def _taken(column: Floats, level: NDArray[np.intp]) -> Floats:
    """Return the values (T, Y, X) of a column (T, K, Y, X) at a level for each point."""
    return np.asarray(np.take_along_axis(column, level[:, None], axis=1)[:, 0])


def to_ten_metres(z: ArrayLike, phis: ArrayLike, land: ArrayLike) -> Floats:
    r"""Return the factor that brings wind from the lowest level to 10 m.

    The neutral logarithmic profile :math:`\ln(10\,\mathrm{m}/z_0)/\ln(h/z_0)` with roughness
    0.2 mm over sea and 0.2 m over land, weighted with the fraction of land.

    Parameters
    ----------
    z : array, shape (T, Y, X)
        Geopotential of the lowest level [m2 s-2].
    phis, land : array, shape (Y, X)
        Geopotential of the surface [m2 s-2]; fraction of land.

    Returns
    -------
    array, shape (T, Y, X)
    """
    height = np.maximum((np.asarray(z, np.float64) - np.asarray(phis)) / GRAVITY, 50.0)
    share = np.asarray(land, np.float64)
    sea, ground = (
        np.log(10 / rough) / np.log(height / rough) for rough in (ROUGHNESS_SEA, ROUGHNESS_LAND)
    )
    return np.asarray((1 - share) * sea + share * ground)
