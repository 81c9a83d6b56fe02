"""The mass of dry air as a differentiable function of a state on pressure levels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xwx.diffusion.cells import Movable, chosen, take
from xwx.diffusion.measurements import Measurement, Standard, frames_of
from xwx.spec import Channel

__all__ = [
    "DryAirMass",
    "FromChannel",
    "FromGeopotential",
    "FromSeaLevel",
    "SurfacePressure",
    "mass_of",
]

GRAVITY = 9.80665  #: [m s-2]
GAS_CONSTANT = 287.05  #: of dry air [J kg-1 K-1]
EARTH_RADIUS = 6.371e6  #: [m]
LAPSE_RATE = 0.0065  #: of the standard atmosphere [K m-1]
VAPOUR = 0.6077  #: gas constant of water vapour over that of dry air, less one
#: No layer is colder [K]: a bad guess of a state must not divide by a thickness of zero.
COLDEST = 100.0
#: Standardised, the pressure is seen from here, in this unit [Pa].
REFERENCE, UNIT = 1e5, 1e2

#: Gives the physical fields (B, frames, n, H, W) of n channels.
Fields = Callable[[Sequence[int]], Tensor]


def mass_of(pressure: Tensor) -> Tensor:
    r"""Return the mass [kg] whose mean pressure at the surface [Pa] this is: 4 pi a^2 p / g."""
    return pressure * (4.0 * math.pi * EARTH_RADIUS**2 / GRAVITY)


@dataclass(frozen=True, eq=False)
class FromChannel(Movable):
    """The surface pressure is a channel."""

    channel: int

    def __call__(self, fields: Fields) -> Tensor:
        """Return the surface pressure [Pa], (B, frames, H, W)."""
        return fields([self.channel])[:, :, 0]


@dataclass(frozen=True, eq=False)
class FromGeopotential(Movable):
    r"""The surface pressure is where the geopotential is that of the surface.

    .. math:: \ln p_s = \ln p_k + \ln\frac{p_{k+1}}{p_k} \,
        \frac{\Phi_k - \Phi_s}{\Phi_k - \Phi_{k+1}}

    between the two levels about the surface, and beyond the outermost two.

    Parameters
    ----------
    channels : tuple of int
        Geopotential [m2 s-2], from the top down.
    levels : tuple of float
        Their pressures [Pa], increasing.
    orography : Tensor, shape (H, W)
        Geopotential of the surface [m2 s-2].
    """

    channels: tuple[int, ...]
    levels: tuple[float, ...]
    orography: Tensor

    def __post_init__(self) -> None:
        _check_levels("geopotential", self.channels, self.levels, least=2)

    def __call__(self, fields: Fields) -> Tensor:
        """Return the surface pressure [Pa], (B, frames, H, W)."""
        heights = fields(self.channels)
        surface = self.orography.to(heights.dtype)[None, None, None]
        count = len(self.levels) - 1
        place = torch.arange(count, device=heights.device).view(-1, 1, 1)
        # the lowest pair of levels whose upper one is not under ground
        pair = torch.where(surface <= heights[:, :, :-1], place, 0).amax(2, keepdim=True)
        upper, lower = heights.gather(2, pair), heights.gather(2, pair + 1)
        pressure = heights.new_tensor(self.levels)[pair]
        # logarithms of single precision would shift all columns alike
        ratios = [math.log(low / high) for high, low in itertools.pairwise(self.levels)]
        ratio = heights.new_tensor(ratios)[pair]
        thickness = (upper - lower).clamp(min=GAS_CONSTANT * COLDEST * ratio)
        return (pressure * torch.exp(ratio * (upper - surface) / thickness))[:, :, 0]


@dataclass(frozen=True, eq=False)
class FromSeaLevel(Movable):
    r"""The surface pressure is that at mean sea level, brought up to the surface.

    .. math:: p_s = p_{msl} \exp\left(-\frac{\Phi_s}{R_d T_v}\right), \quad
        T_v = T_{2m} (1 + 0.6077 q) + \frac12 \cdot 0.0065 \, \frac{\Phi_s}{g}

    Parameters
    ----------
    msl, t2m, humidity : int
        Channels: pressure at mean sea level [Pa], temperature at 2 m [K], specific humidity of the
        lowest level [kg kg-1].
    orography : Tensor, shape (H, W)
        Geopotential of the surface [m2 s-2].
    """

    msl: int
    t2m: int
    humidity: int
    orography: Tensor

    def __call__(self, fields: Fields) -> Tensor:
        """Return the surface pressure [Pa], (B, frames, H, W)."""
        msl, t2m, humidity = fields([self.msl, self.t2m, self.humidity]).unbind(2)
        surface = self.orography.to(msl.dtype)
        virtual = t2m * (1.0 + VAPOUR * humidity) + 0.5 * LAPSE_RATE * surface / GRAVITY
        return msl * torch.exp(-surface / (GAS_CONSTANT * virtual))


SurfacePressure = FromChannel | FromGeopotential | FromSeaLevel


@dataclass(frozen=True, eq=False)
class DryAirMass(Measurement):
    r"""The mean pressure of dry air at the surface [Pa], of each chosen frame.

    .. math:: \overline{p}_d = \overline{\sum_k (1 - q_k) \, \Delta p_k}, \qquad
        \Delta p_k = \min(p_{k+1/2}, p_s) - \min(p_{k-1/2}, p_s)

    with half levels midway between levels, the first at 0 and the last below everything, so that
    the thicknesses sum to the surface pressure; the bar is the mean over the sphere.
    :func:`mass_of` makes kilograms of it.

    Parameters
    ----------
    humidity : tuple of int
        Channels of specific humidity [kg kg-1], from the top down.
    levels : tuple of float
        Their pressures [Pa], increasing.
    surface : FromChannel, FromGeopotential or FromSeaLevel
    area : Tensor, shape (H,)
        Area of a cell of each row, in any unit.
    frames : sequence of int
    mean, std : Tensor, shape (C, 1, 1), optional
        The states are normalised with these.
    offset, unit : float
        The result is (pressure - offset) / unit.

    Raises
    ------
    ValueError
        For levels that do not increase or fit the channels, and areas that are not positive.
    """

    humidity: tuple[int, ...]
    levels: tuple[float, ...]
    surface: SurfacePressure
    area: Tensor
    frames: Sequence[int]
    mean: Tensor | None = None
    std: Tensor | None = None
    offset: float = 0.0
    unit: float = 1.0

    def __post_init__(self) -> None:
        _check_levels("humidity", self.humidity, self.levels, least=1)
        object.__setattr__(self, "frames", chosen("frames", self.frames))
        if self.area.ndim != 1 or not bool((self.area > 0).all()):
            raise ValueError(
                f"area has the shape {tuple(self.area.shape)}: give the positive area of a cell of "
                "each row, (rows,)"
            )

    @classmethod
    def of(
        cls,
        channels: Sequence[Channel],
        area: Tensor,
        frames: Sequence[int],
        orography: Tensor | None = None,
    ) -> DryAirMass:
        """Build from the channels of a state.

        The surface pressure is the channel ``sp``; else it follows from ``z`` on two levels or
        more and `orography`; else from ``msl``, ``t2m`` and `orography`.

        Raises
        ------
        ValueError
            If there is no humidity on levels, or none of the three ways is open.
        """
        names = {channel.name: n for n, channel in enumerate(channels) if channel.level is None}
        humidity, levels = _column(channels, "q")
        heights, geopotential_levels = _column(channels, "z")
        surface: SurfacePressure
        if not humidity:
            raise ValueError("channels hold no specific humidity 'q' on pressure levels: add it")
        if "sp" in names:
            surface = FromChannel(names["sp"])
        elif orography is not None and len(heights) > 1:
            surface = FromGeopotential(heights, geopotential_levels, orography)
        elif orography is not None and {"msl", "t2m"} <= names.keys():
            surface = FromSeaLevel(names["msl"], names["t2m"], humidity[-1], orography)
        else:
            raise ValueError(
                "no surface pressure: channels hold no 'sp', and "
                + (
                    "orography=None; give the geopotential of the surface (rows, columns)"
                    if orography is None
                    else f"'z' is on {len(heights)} levels, two are needed, and 'msl' and 't2m' "
                    "are not both there"
                )
            )
        return cls(humidity, levels, surface, area, frames)

    @property
    def size(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def linear(self) -> bool:
        """False: the thicknesses depend on the state, and humidity multiplies them."""
        return False

    def columns(self, x: Tensor) -> Tensor:
        """Return the pressure of dry air of each column [Pa], less the offset: (B, frames, H, W).

        Parameters
        ----------
        x : Tensor, shape (B, T, C, H, W)
            Physical states, or normalised ones where `mean` and `std` are given.
        """

        def fields(channels: Sequence[int]) -> Tensor:
            part = frames_of(x, self.frames, channels)
            if self.mean is None or self.std is None:
                return part
            mean, std = (take(p.to(x.dtype), 0, channels, "channel") for p in (self.mean, self.std))
            return mean + std * part

        return self._dry(fields(self.humidity), self.surface(fields))

    def _dry(self, humidity: Tensor, surface: Tensor) -> Tensor:
        """Sum by parts: p_s (1 - q_n) + sum of min(p_half, p_s) (q_below - q_above)."""
        half = [(a + b) / 2 for a, b in itertools.pairwise(self.levels)]
        total = (surface - self.offset) - surface * humidity[:, :, -1]
        if half:
            edges = surface.new_tensor(half).view(-1, 1, 1)
            bottoms = torch.minimum(edges, surface[:, :, None])
            total = total + (bottoms * (humidity[:, :, 1:] - humidity[:, :, :-1])).sum(2)
        return total

    def __call__(self, x: Tensor) -> Tensor:
        """Return the mean pressure of dry air [Pa] of the frames (B, M)."""
        columns = self.columns(x)
        if columns.shape[2] != self.area.shape[0]:
            raise ValueError(
                f"the state {tuple(x.shape)} has {columns.shape[2]} rows: area has "
                f"{self.area.shape[0]}"
            )
        weights = (self.area / self.area.sum()).to(x.dtype)
        return (columns.mean(-1) @ weights) / self.unit

    def standard(self, mean: Tensor, std: Tensor) -> Standard:
        """Return the operator on normalised states, in hPa from 1000 hPa."""
        operator = replace(self, mean=mean, std=std, offset=REFERENCE, unit=UNIT)
        ones = mean.new_ones(self.size)
        return Standard(operator, REFERENCE * ones, UNIT * ones)


def _check_levels(name: str, channels: Sequence[int], levels: Sequence[float], least: int) -> None:
    chosen(f"{name} channels", channels)
    rising = all(a < b for a, b in itertools.pairwise(levels))
    if len(channels) != len(levels) or len(levels) < least or not rising or levels[0] <= 0:
        raise ValueError(
            f"{name}: {len(channels)} channels at the levels {tuple(levels)} Pa; give {least} or "
            "more, one channel for each level, with increasing pressure"
        )


def _column(channels: Sequence[Channel], name: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the indices and levels of a variable, from the top down."""
    held = sorted((c.level, n) for n, c in enumerate(channels) if c.name == name and c.level)
    return tuple(n for _, n in held), tuple(level for level, _ in held)
