"""The words every room shares: channels, a grid, and what a model needs of a Dataset.

Standard library and numpy only, frozen, comparable, and written to JSON without loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORCINGS", "Channel", "Grid", "Spec"]

#: Inputs that a model may ask for and that follow from coordinates and time alone.
FORCINGS = (
    "sin_latitude",
    "cos_latitude",
    "sin_longitude",
    "cos_longitude",
    "sin_local_time",
    "cos_local_time",
    "sin_2_local_time",
    "cos_2_local_time",
    "sin_year",
    "cos_year",
)


@dataclass(frozen=True)
class Channel:
    """One horizontal field of a state: a variable, on a pressure level or without one.

    Parameters
    ----------
    name : str
        A key of ``xwx/fields/variables.toml``, e.g. ``"z"``, ``"t2m"``. Its canonical unit is
        there.
    level : float, optional
        Pressure in Pa; None for a surface or single-level field.
    """

    name: str
    level: float | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not self.level > 0:
            raise ValueError(f"channel {self.name!r}: level {self.level!r} Pa must be positive")

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}[{self.level / 100:g} hPa]"


@dataclass(frozen=True)
class Grid:
    """A latitude-longitude grid, rows from north to south, columns eastwards.

    Parameters
    ----------
    latitude : tuple of float
        Degrees north, strictly decreasing, within [-90, 90].
    longitude : tuple of float
        Degrees east, strictly increasing, the first within [0, 360).
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "latitude", tuple(float(v) for v in self.latitude))
        object.__setattr__(self, "longitude", tuple(float(v) for v in self.longitude))
        lat, lon = self.rows, self.columns
        if lat.size < 1 or lon.size < 1:
            raise ValueError(f"a grid needs rows and columns, got {lat.size} x {lon.size}")
        if not np.all(np.diff(lat) < 0) or not np.abs(lat).max() <= 90:
            raise ValueError("grid latitude must decrease strictly within [-90, 90]")
        if not (np.all(np.diff(lon) > 0) and 0 <= lon[0] < 360 and lon[-1] - lon[0] < 360):
            raise ValueError("grid longitude must increase strictly over less than 360 degrees")

    @classmethod
    def regular(cls, nlat: int, nlon: int, *, poles: bool) -> Grid:
        """Build a global regular grid that starts at 0 degrees east.

        Parameters
        ----------
        nlat, nlon : int
            Number of rows and columns.
        poles : bool
            Whether the first and last rows lie on the poles (ERA5: 721 rows) or half a cell
            away from them (64 x 128 cell-centred grids).
        """
        if nlat < 1 + poles or nlon < 1:
            raise ValueError(f"a global grid of {nlat} x {nlon} with poles={poles} has no spacing")
        if poles:
            lat = 90.0 - 180.0 * np.arange(nlat) / (nlat - 1)
        else:
            lat = 90.0 - 180.0 * (np.arange(nlat) + 0.5) / nlat
        return cls(tuple(lat.tolist()), tuple((360.0 * np.arange(nlon) / nlon).tolist()))

    @property
    def rows(self) -> NDArray[np.float64]:
        """Latitudes [degrees north] as an array."""
        return np.asarray(self.latitude, dtype=np.float64)

    @property
    def columns(self) -> NDArray[np.float64]:
        """Longitudes [degrees east] as an array."""
        return np.asarray(self.longitude, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.latitude), len(self.longitude)

    @property
    def periodic(self) -> bool:
        """Whether the grid closes round the globe: ``|W dlon - 360| < dlon / 2``."""
        if len(self.longitude) < 2:
            return False
        lon = self.columns
        spacing = (lon[-1] - lon[0]) / (lon.size - 1)
        uniform = np.allclose(np.diff(lon), spacing, rtol=1e-3)
        return bool(uniform and abs(lon.size * spacing - 360.0) < spacing / 2)

    def __str__(self) -> str:
        lat, lon = self.rows, self.columns
        return (
            f"{lat.size} x {lon.size} (latitude {lat[0]:g} to {lat[-1]:g}, "
            f"longitude {lon[0]:g} to {lon[-1]:g})"
        )


@dataclass(frozen=True)
class Spec:
    """What a model takes and gives.

    Parameters
    ----------
    channels : tuple of Channel
        In the order of the network's channel axis. Declared, never assumed.
    grid : Grid
        The grid of the network's last two axes.
    step : timedelta
        Time between two states.
    history : int
        How many consecutive states the network needs to make the next one.
    forcings : tuple of str
        Extra inputs that follow from coordinates and time, from :data:`FORCINGS`.
    """

    channels: tuple[Channel, ...]
    grid: Grid
    step: timedelta = timedelta(hours=6)
    history: int = 1
    forcings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "forcings", tuple(self.forcings))
        if not self.channels:
            raise ValueError("a Spec needs at least one channel")
        if len(set(self.channels)) != len(self.channels):
            twice = sorted({str(c) for c in self.channels if self.channels.count(c) > 1})
            raise ValueError(f"channels declared twice: {', '.join(twice)}")
        if self.history < 1:
            raise ValueError(f"history={self.history!r}: at least one state is needed")
        if self.step <= timedelta(0):
            raise ValueError(f"step={self.step!r}: must be positive")
        if unknown := [f for f in self.forcings if f not in FORCINGS]:
            raise ValueError(f"unknown forcings {unknown}: choose from {', '.join(FORCINGS)}")

    @property
    def needs_calendar(self) -> bool:
        """Whether the model needs the date, so that a 360-day calendar will not do."""
        return any(name.endswith("_year") for name in self.forcings)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; :meth:`from_json` is its inverse."""
        return {
            "channels": [{"name": c.name, "level": c.level} for c in self.channels],
            "latitude": list(self.grid.latitude),
            "longitude": list(self.grid.longitude),
            "step_seconds": self.step.total_seconds(),
            "history": self.history,
            "forcings": list(self.forcings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """Build a Spec from the dictionary that :meth:`to_json` made."""
        return cls(
            channels=tuple(Channel(c["name"], c["level"]) for c in data["channels"]),
            grid=Grid(tuple(data["latitude"]), tuple(data["longitude"])),
            step=timedelta(seconds=data["step_seconds"]),
            history=int(data["history"]),
            forcings=tuple(data["forcings"]),
        )
