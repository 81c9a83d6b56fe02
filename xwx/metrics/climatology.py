"""Climatologies: what is usual at each day of the year and hour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.units import affine, held_unit, quantity, strip, unit_text
from xwx.metrics.archive import by_points, placed, totals
from xwx.metrics.arrays.by_slot import slot_quantiles
from xwx.metrics.seeps import DRY, precipitation_in, seeps_of
from xwx.metrics.slots import WHAT, Period, Slots, slots_of

__all__ = ["climatology"]

Statistic = Literal["mean", "std", "quantile", "seeps"]


def climatology(
    ds: xr.Dataset,
    *,
    period: Period | None = None,
    statistics: Sequence[Statistic] = ("mean",),
    window: int = 1,
    hours: Sequence[int] | None = None,
    quantiles: Sequence[float] | None = None,
    skipna: bool = False,
    dry: str | float = DRY,
) -> xr.Dataset:
    r"""Return the climatology of each day of the year and hour.

    Parameters
    ----------
    ds : Dataset
        States along one dimension of time, such as a reanalysis of several years; in memory, in
        files, or dask, which stays lazy.
    period : slice or (first, last), optional
        The years or times to use, both included: ``("1993", "2016")``. Default: all.
    statistics : sequence of {"mean", "std", "quantile", "seeps"}
        The mean bears the name of its variable; the others are ``{name}_std``, the sample standard
        deviation of all samples in the window around their mean,
        :math:`\sqrt{\sum (x - \bar x)^2 / (n - 1)}`; ``{name}_quantile``, along a dimension
        ``quantile``, interpolated linearly; and of precipitation ``{name}_seeps_dry_fraction`` and
        ``{name}_seeps_threshold``, see :func:`seeps_climatology`. The latter two need all the
        samples of a point at once: chunks along points serve them best.
    window : int
        Days that count for each day, centred on it; odd. The days of the year are a circle of 366
        days (365 without leap years, 360 in a ``360_day`` calendar), in which 29 February is day 60
        of leap years and 1 March of others; all samples in the window weigh alike.
    hours : sequence of int, optional
        Hours of the day to use. Default: those that occur.
    quantiles : sequence of float, optional
        Within [0, 1], for ``statistics=("quantile",)``.
    skipna : bool
        Leave out NaN; by default a NaN makes NaN of the days it counts for.
    dry : str or float
        Amount of precipitation from which it is not dry, for "seeps".

    Returns
    -------
    Dataset
        Names, units, attributes, order of latitudes and of dimensions, and floating types of `ds`,
        with ``dayofyear`` and ``hour`` in the place of time. Variables without time are kept as
        they are. A day without samples is NaN, but day 366 is day 365 where no leap year was used.
        The attributes ``xwx_climatology_period``, ``_window`` and ``_years`` say what was used.

    Raises
    ------
    MismatchError
        If the times do not serve (none, missing, duplicated, not on the hour, none in the period
        or at an hour), a variable is not numeric, or "seeps" finds no precipitation.
    ValueError
        If a statistic, the window, the period or a quantile is not understood.
    """
    levels = _checked(statistics, quantiles)
    slots = slots_of(ds, period=period, hours=hours, window=window)
    along = [name for name, var in ds.data_vars.items() if slots.time in var.dims]
    _check_numeric(ds, along)
    rain = precipitation_in(ds[along], dry) if "seeps" in statistics else {}
    out: dict[Any, xr.Variable] = {}
    for name, array in ds.data_vars.items():
        variable = array.variable
        if name not in along:
            out[name] = variable
            continue
        if {"mean", "std"} & set(statistics):
            out |= _moments(str(name), variable, slots, statistics, skipna)
        if "quantile" in statistics:
            out[f"{name}_quantile"] = _quantile(variable, slots, levels, skipna)
        if name in rain:
            out |= seeps_of(str(name), variable, slots, rain[name], skipna)
    coords: dict[Any, Any] = {k: v for k, v in ds.coords.items() if slots.time not in v.dims}
    coords |= {dim: (dim, values) for dim, values in slots.labels.items()}
    if "quantile" in statistics:
        coords["quantile"] = ("quantile", list(levels))
    return xr.Dataset(out, coords, {**ds.attrs, **slots.attrs})


def _checked(
    statistics: Sequence[Statistic], quantiles: Sequence[float] | None
) -> tuple[float, ...]:
    """Return the quantiles; both arguments must be understood."""
    known = get_args(Statistic)
    if isinstance(statistics, str) or not statistics or set(statistics) - set(known):
        raise ValueError(f"statistics={statistics!r}: give a tuple of some of {known}")
    if ("quantile" in statistics) != (quantiles is not None):
        raise ValueError(
            f"statistics={statistics!r} with quantiles={quantiles!r}: the one needs the other, "
            'like statistics=("mean", "quantile"), quantiles=(0.05, 0.95)'
        )
    levels = tuple(float(level) for level in quantiles or ())
    if any(not 0 <= level <= 1 for level in levels) or (quantiles is not None and not levels):
        raise ValueError(f"quantiles={quantiles!r}: give fractions within [0, 1]")
    return levels


def _check_numeric(ds: xr.Dataset, names: Sequence[Any]) -> None:
    wrong = [name for name in names if ds[name].dtype.kind not in "fiub"]
    if wrong:
        raise MismatchError(
            [
                Problem(
                    kind="not-numeric",
                    where=str(name),
                    message=f"values of type {ds[name].dtype} have no mean",
                    remedy=f"ds = ds.drop_vars({name!r})",
                )
                for name in wrong
            ],
            what=WHAT,
        )


def _moments(
    name: str, variable: xr.Variable, slots: Slots, statistics: Sequence[str], skipna: bool
) -> dict[str, xr.Variable]:
    """Return the mean and the standard deviation, as asked for."""
    spread = "std" in statistics
    sums, count = totals(variable, slots, spread=spread, skipna=skipna)
    some = np.where(count > 0, count, np.nan)
    out = {}
    if "mean" in statistics:
        out[name] = placed(variable, slots, sums[0] / some)
    if spread:
        # The differences are from a value of the archive itself, so that nothing cancels.
        squares = np.maximum(sums[2] - sums[1] ** 2 / some, 0.0)
        deviation = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
        out[f"{name}_std"] = _deviation(variable, slots, deviation)
    return out


def _deviation(variable: xr.Variable, slots: Slots, values: Any) -> xr.Variable:
    """Label a standard deviation: one of temperatures in degC is in K, since 1 degC is 274.15 K."""
    method = {"cell_methods": f"{slots.time}: standard_deviation"}
    text = unit_text(variable)
    kelvin = affine(text, "K") if text is not None else None
    if kelvin is None or kelvin.offset == 0:
        return placed(variable, slots, values, **method)
    out = placed(variable.copy(data=strip(variable.data)), slots, values * kelvin.scale, **method)
    unit = held_unit(variable)
    if unit is None:
        out.attrs["units"] = "K"
    else:
        out.data = quantity(out.data, unit._REGISTRY.Unit("K"))
    return out


def _quantile(
    variable: xr.Variable, slots: Slots, levels: Sequence[float], skipna: bool
) -> xr.Variable:
    """Return quantiles, along a first dimension of that name."""
    function = partial(slot_quantiles, members=slots.members(), levels=levels, skipna=skipna)
    found = by_points(variable, function, len(levels), slots)
    return placed(variable, slots, found, before=("quantile",))
