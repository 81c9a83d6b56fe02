"""What each data variable of a Dataset says about itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.coordinates import level_pascals, scalar_height, vertical_of
from xwx.fields.units import unit_text
from xwx.fields.variables import glued_level, stated_name

__all__ = ["Profile", "profiles"]


@dataclass(frozen=True)
class Profile:
    """What one data variable says about itself.

    Attributes
    ----------
    name : str
    standard_name : str or None
        As stated; placeholders count as None.
    units : str or None
        None where there is no ``units`` attribute.
    vertical : str or None
        Its pressure coordinate.
    pascals : array or None
        The values of that coordinate [Pa]; None if it has no units.
    level_units : str or None
        The units of that coordinate.
    height : float or None
        Height above ground [m] stated by a scalar coordinate.
    """

    name: str
    standard_name: str | None
    units: str | None
    vertical: str | None
    pascals: NDArray[np.float64] | None
    level_units: str | None
    height: float | None

    @property
    def glued(self) -> tuple[frozenset[str], float] | None:
        """Entries and level [Pa] that the name spells, unless a coordinate says the level."""
        return None if self.vertical else glued_level(self.name)

    @property
    def levels(self) -> tuple[float, ...]:
        """The pressure levels [Pa] the variable is on; empty if it is on none."""
        if self.glued is not None:
            return (self.glued[1],)
        return () if self.pascals is None else tuple(self.pascals.tolist())


def profiles(ds: xr.Dataset) -> tuple[Profile, ...]:
    """Read the profile of every data variable of `ds`."""
    out = []
    for name in map(str, ds.data_vars):
        vertical = vertical_of(ds, name)
        out.append(
            Profile(
                name=name,
                standard_name=stated_name(ds[name].attrs),
                units=unit_text(ds.variables[name]),
                vertical=vertical,
                pascals=None if vertical is None else level_pascals(ds.variables[vertical]),
                level_units=None if vertical is None else unit_text(ds.variables[vertical]),
                height=scalar_height(ds, name),
            )
        )
    return tuple(out)
