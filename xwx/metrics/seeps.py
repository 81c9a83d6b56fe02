"""The climatology that SEEPS needs: how often it is dry, and what is heavy precipitation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields import table
from xwx.fields.units import affine, unit_text
from xwx.fields.variables import stated_name
from xwx.metrics.archive import by_points, placed
from xwx.metrics.arrays.seeps import seeps_error, seeps_thresholds
from xwx.metrics.slots import Group, Period, Slots, slots_of

__all__ = ["DRY", "dry_amount", "precipitation_in", "seeps_climatology", "seeps_error", "seeps_of"]

#: Precipitation below this amount is none.
DRY = "0.1 mm"
_ENTRIES = ("tp", "tp6h")


def seeps_climatology(
    precipitation: xr.DataArray | xr.Dataset,
    *,
    dry: str | float = DRY,
    group: Group | None = "dayofyear",
    window: int = 61,
    period: Period | None = None,
    hours: Sequence[int] | None = None,
    skipna: bool = False,
) -> xr.Dataset:
    """Return the probability of dry weather and the threshold of heavy precipitation.

    Parameters
    ----------
    precipitation : DataArray or Dataset
        Amounts along time, as a depth of water (m, mm) or a mass per area (kg m-2). Of a Dataset,
        every variable whose standard_name or name is that of precipitation.
    dry : str or float
        Amount from which it is not dry: with its unit, or in that of the variable.
    group : {"dayofyear", "month"} or None
        By day of the year and hour; by month, all hours together; or all samples together.
    window : int
        Days that count for each day of the year, odd. The default is that of WeatherBench 2, since
        the samples of a single day are too few.
    period, hours, skipna
        As for :func:`climatology`.

    Returns
    -------
    Dataset
        For each variable, in its dimensions with the group in the place of time:
        ``{name}_seeps_dry_fraction``, the fraction of samples below `dry`, and
        ``{name}_seeps_threshold``, the 2/3 quantile of the others, in the unit of the variable: NaN
        where it is always dry.

    Raises
    ------
    MismatchError
        If there is no precipitation, its unit is not that of an amount, or the times do not serve.
    ValueError
        If `group`, `dry` or `window` is not understood.
    """
    if group not in ("dayofyear", "month", None):
        raise ValueError(f'group={group!r}: give "dayofyear", "month" or None')
    if isinstance(precipitation, xr.DataArray):
        name = "precipitation" if precipitation.name is None else precipitation.name
        ds = precipitation.to_dataset(name=name)
        found = {str(name): dry_amount(ds[name], dry)}
    else:
        ds, found = precipitation, precipitation_in(precipitation, dry)
    slots = slots_of(
        ds, period=period, hours=hours, window=window if group == "dayofyear" else 1, group=group
    )
    out: dict[Any, xr.Variable] = {}
    for key, amount in found.items():
        out |= seeps_of(key, ds.variables[key], slots, amount, skipna)
    coords: dict[Any, Any] = {k: v for k, v in ds.coords.items() if slots.time not in v.dims}
    coords |= {dim: (dim, values) for dim, values in slots.labels.items()}
    return xr.Dataset(out, coords, {**ds.attrs, **slots.attrs})


def seeps_of(
    name: str, variable: xr.Variable, slots: Slots, dry: float, skipna: bool
) -> dict[str, xr.Variable]:
    """Return the two variables for one variable of precipitation; `dry` in its unit."""
    function = partial(seeps_thresholds, members=slots.members(), dry=dry, skipna=skipna)
    fraction, threshold = by_points(variable, function, 2, slots)
    plain = xr.Variable(
        variable.dims, np.broadcast_to(np.empty((), variable.dtype), variable.shape)
    )
    stated = {"xwx_seeps_dry": f"{dry:.12g} {unit_text(variable)}"}
    return {
        f"{name}_seeps_dry_fraction": placed(
            plain,
            slots,
            fraction,
            units="1",
            long_name=f"probability of dry weather, {name}",
            **stated,
        ),
        f"{name}_seeps_threshold": placed(variable, slots, threshold, **stated),
    }


def precipitation_in(ds: xr.Dataset, dry: str | float = DRY) -> dict[str, float]:
    """Return the variables of a Dataset that are precipitation, each with `dry` in its own unit.

    Raises
    ------
    MismatchError
        If there is none, or the unit of one is not that of an amount.
    ValueError
        If `dry` is not understood.
    """
    found = [name for name, array in ds.data_vars.items() if _is_precipitation(str(name), array)]
    if not found:
        problem = Problem(
            kind="no-precipitation",
            where="seeps",
            message=f"none of the variables {', '.join(map(str, ds.data_vars))} is precipitation",
            remedy='ds[name].attrs["standard_name"] = "lwe_thickness_of_precipitation_amount"'
            '  # or "precipitation_amount" for kg m-2',
        )
        raise MismatchError([problem], what="SEEPS")
    return {str(name): dry_amount(ds[name], dry) for name in found}


def dry_amount(precipitation: xr.DataArray, dry: str | float = DRY) -> float:
    """Return the amount from which it is not dry, in the unit of a variable.

    Parameters
    ----------
    precipitation : DataArray
        With units of depth or of mass per area (1 kg m-2 is 1 mm of water).
    dry : str or float
        An amount with its unit, such as ``"0.1 mm"``; a bare number is returned as it is.

    Raises
    ------
    MismatchError
        If the unit of the variable is missing or not that of an amount.
    ValueError
        If `dry` is not an amount or not positive.
    """
    amount, _, unit = dry.strip().partition(" ") if isinstance(dry, str) else (dry, "", None)
    try:
        value = float(amount)
    except ValueError:
        value = np.nan
    metres = 1.0 if unit is None else _metres(unit)
    if not 0 < value < np.inf or metres is None:
        raise ValueError(f'dry={dry!r}: give a positive amount with its unit, like "0.1 mm"')
    own = unit_text(precipitation.variable)
    scale = None if own is None else _metres(own)
    if scale is None:
        problem = Problem(
            kind="unconvertible-units" if own else "missing-units",
            where=str(precipitation.name),
            message=f"units={own!r}, but SEEPS needs amounts of precipitation (m, mm or kg m-2)",
            remedy=f'ds["{precipitation.name}"].attrs["units"] = "mm"  # the true one; multiply a '
            "rate by its period first",
        )
        raise MismatchError([problem], what="SEEPS")
    # Rounded, since 0.1 mm is to be 0.1 of a variable in mm to the last digit.
    return value if unit is None else float(f"{value * metres / scale:.14g}")


def _metres(unit: str) -> float | None:
    """Return what one of a unit is as a depth of water [m]."""
    for units, factor, _ in table()["tp"].measures(None):
        if (conversion := affine(unit, units)) is not None:
            return factor * conversion.scale
    return None


def _is_precipitation(name: str, array: xr.DataArray) -> bool:
    entries = [table()[key] for key in _ENTRIES]
    stated = stated_name(array.attrs)
    if stated is not None:
        return any(stated in entry.all_standard_names for entry in entries)
    return any(name in entry.names for entry in entries)
