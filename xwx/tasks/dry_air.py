"""The mass of dry air of each state of a Dataset."""

from __future__ import annotations

import xarray as xr

from xwx.fields.dry_air import dry_air_mass as _dry_air_mass

__all__ = ["dry_air_mass"]


def dry_air_mass(ds: xr.Dataset) -> xr.Dataset:
    """Return the mass of dry air in the atmosphere, and the pressure it exerts at the surface.

    See :func:`xwx.fields.dry_air.dry_air_mass` for the formula.

    Parameters
    ----------
    ds : Dataset
        Global, with specific humidity on pressure levels; surface pressure, or what it can be had
        from: surface geopotential, with geopotential on levels or with mean sea level pressure and
        2 m temperature.

    Returns
    -------
    Dataset
        ``dry_air_pressure`` [Pa] and ``dry_air_mass`` [kg] along time and all further dimensions.

    Raises
    ------
    MismatchError
        When a variable is missing or its units cannot be read, or the grid is not global.
    """
    return _dry_air_mass(ds)
