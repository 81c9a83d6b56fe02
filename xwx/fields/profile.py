"""What each data variable of a Dataset says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.fields.coordinates import heights, level_pascals, pressures
from xwx.fields.units import held_unit, unit_text
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
    layered : bool
        Whether it runs along the dimension of that coordinate: a scalar one may be left over
        from a selection, and stands beside all variables of the Dataset.
    pascals : array or None
        The values of that coordinate [Pa]; None without units that can be read.
    level_units : str or None
        The units of that coordinate.
    height : float or None
        Height above ground [m] stated by a scalar coordinate.
    held : pint.Unit or None
        Where the variable is quantified.
    """

    name: str
    standard_name: str | None
    units: str | None
    vertical: str | None
    layered: bool
    pascals: NDArray[np.float64] | None
    level_units: str | None
    height: float | None
    held: Any

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
    vertical = pressures(ds)
    pascals = {key: level_pascals(variable) for key, variable in vertical.items()}
    above = heights(ds)
    return tuple(
        _profile(str(name), ds.variables[name], ds, vertical, pascals, above)
        for name in ds.data_vars
    )


def _profile(
    name: str,
    variable: xr.Variable,
    ds: xr.Dataset,
    vertical: Mapping[str, xr.Variable],
    pascals: Mapping[str, NDArray[np.float64] | None],
    above: Mapping[str, float],
) -> Profile:
    def applies(key: str) -> bool:
        return set(ds.variables[key].dims) <= set(variable.dims)

    held = held_unit(variable)
    units = variable.attrs.get("units") if held is None else held
    level = next(filter(applies, vertical), None)
    height = next(filter(applies, above), None)
    return Profile(
        name=name,
        standard_name=stated_name(variable.attrs),
        units=str(units) if units is not None else None,
        vertical=level,
        layered=level is not None and vertical[level].ndim > 0,
        pascals=None if level is None else pascals[level],
        level_units=None if level is None else unit_text(vertical[level]),
        height=None if height is None else above[height],
        held=held,
    )
