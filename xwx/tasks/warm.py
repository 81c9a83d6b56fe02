"""Warm: the same weather in a warmer, and so moister, atmosphere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.faults import missing_units, type_problems, unconvertible_units
from xwx.fields.locate import level_problems, measure_of
from xwx.fields.profile import Profile, profiles
from xwx.fields.quantities import difference
from xwx.fields.recognise import recognise
from xwx.fields.units import Affine, affine, quantity, strip
from xwx.fields.variables import Variable
from xwx.tasks.arguments import refuse_other
from xwx.tasks.layout import drop_packing
from xwx.version import __version__

__all__ = ["warm"]

_TEMPERATURES = ("t", "t2m")
#: Specific humidities, and the temperature of the same place.
_HUMIDITIES = {"q": "t", "q2m": "t2m"}
#: Growth of humidity [K-1] at constant relative humidity, about that of Clausius and Clapeyron.
_RATE = 0.07
_CHOICES = ("compound", "linear", "relative")
_WHAT = "warming"


def warm(
    ds: xr.Dataset,
    delta: Any = "2 K",
    *,
    humidity: Literal["compound", "linear", "relative"] = "compound",
) -> xr.Dataset:
    r"""Warm an atmosphere, with the humidity that goes along, and leave the rest as it is.

    .. math:: T \to T + \Delta, \qquad q \to q \, (1 + r)^\Delta
        \quad\text{or}\quad q \, (1 + r \Delta)
        \quad\text{or}\quad q \, e_s(T + \Delta) / e_s(T)

    with r = 0.07 per kelvin and the saturation vapour pressure over water of Bolton (1980),

    .. math:: e_s(T) \propto \exp \frac{17.67 \, (T - 273.15)}{T - 29.65}

    Parameters
    ----------
    ds : Dataset
        States in any layout, of the whole globe or a part, with a temperature at least.
    delta : str or quantity
        A difference of temperature with its unit; a negative one cools.
    humidity : {"compound", "linear", "relative"}
        How specific humidity follows: 7 % a kelvin that compound, 7 % a kelvin of what it was, or
        as the saturation vapour pressure does, which keeps the relative humidity and needs the
        temperature of the same levels.

    Returns
    -------
    Dataset
        In the layout of `ds`: air temperature on all levels and at 2 m is warmer, specific humidity
        is scaled, everything else is untouched. What is NaN stays NaN, and dask stays dask.

    Raises
    ------
    MismatchError
        When there is no temperature, when one or a specific humidity lacks units or has others
        than it can have, or when its temperature is missing for ``humidity="relative"``.
    ValueError
        When `delta` is no difference of temperature with its unit, or for another `humidity`.

    References
    ----------
    Bolton (1980), The computation of equivalent potential temperature, Monthly Weather Review 108.

    Examples
    --------
    >>> import xwx
    >>> ds = xwx.tutorial.open_dataset("simulated-fortnight")
    >>> warmer = ds.wx.warm("2 K")
    >>> float((warmer["t2m"] - ds["t2m"]).mean().round(3))
    2.0
    """
    refuse_other(ds, "warm")
    kelvin = difference(delta, "K", "delta", '"2 K"')
    if not isinstance(humidity, str) or humidity not in _CHOICES:
        raise ValueError(f"humidity={humidity!r}: choose from {', '.join(_CHOICES)}")
    if humidity == "linear" and not 1 + _RATE * kelvin > 0:
        raise ValueError(
            f'delta={delta!r} with humidity="linear" leaves no humidity: take humidity="compound"'
        )
    found = _found(ds)
    if not any(field.key in _TEMPERATURES for field in found):
        raise MismatchError([_no_temperature()], _WHAT)
    changed: dict[str, xr.Variable] = {}
    problems = []
    for field in found:
        if field.key in _TEMPERATURES:
            changed[field.name] = _shifted(ds, field, kelvin)
        elif humidity == "relative":
            there = _temperature_of(field, found)
            if there is None:
                problems.append(_no_partner(field))
            else:
                changed[field.name] = _saturated(ds, field, there, kelvin)
        else:
            rate = 1 + _RATE
            factor = rate**kelvin if humidity == "compound" else 1 + _RATE * kelvin
            changed[field.name] = _changed(ds, field, lambda q, factor=factor: q * factor)
    if problems:
        raise MismatchError(problems, _WHAT)
    out = ds.assign(drop_packing(xr.Dataset(changed)).variables)
    return out.assign_attrs(history=_history(ds, delta, humidity))


@dataclass(frozen=True)
class _Field:
    """A variable that warming changes."""

    key: str
    profile: Profile
    kelvin: Affine | None

    @property
    def name(self) -> str:
        return self.profile.name


def _found(ds: xr.Dataset) -> list[_Field]:
    """Return the temperatures and humidities of a Dataset.

    Raises
    ------
    MismatchError
        For those that cannot be read.
    """
    found, problems = [], []
    for profile in profiles(ds):
        entry = recognise(profile)
        if entry is None or entry.key not in (*_TEMPERATURES, *_HUMIDITIES):
            continue
        problems += [*_faults(profile, entry), *type_problems(profile.name, ds[profile.name].dtype)]
        step = None if profile.units is None else affine(profile.units, "K")
        found.append(_Field(entry.key, profile, step))
    if problems:
        raise MismatchError(list(dict.fromkeys(problems)), _WHAT)
    return found


def _faults(profile: Profile, entry: Variable) -> Sequence[Problem]:
    if profile.units is None:
        return [missing_units(profile, entry)]
    if measure_of(profile, entry) is None:
        return [unconvertible_units(profile, entry)]
    return level_problems(profile, 1.0) if profile.layered else ()


def _shifted(ds: xr.Dataset, field: _Field, kelvin: float) -> xr.Variable:
    assert field.kelvin is not None  # its units convert
    own = kelvin / field.kelvin.scale
    return _changed(ds, field, lambda t: t + own)


def _changed(ds: xr.Dataset, field: _Field, change: Any) -> xr.Variable:
    """Change a variable in float64, rounded once; its unit and its dtype stay."""
    old = ds.variables[field.name]
    new = change(_numbers(old)).astype(old.dtype)
    data = new.data if field.profile.held is None else quantity(new.data, field.profile.held)
    return xr.Variable(new.dims, data, old.attrs, dict(old.encoding))


def _numbers(variable: xr.Variable) -> xr.Variable:
    """Return a variable in double precision, without its Quantity."""
    return xr.Variable(variable.dims, strip(variable.data)).astype(np.float64)


def _temperature_of(field: _Field, found: Sequence[_Field]) -> _Field | None:
    """Return the temperature where a specific humidity is."""
    mine = field.profile
    for other in found:
        theirs = other.profile
        if other.key != _HUMIDITIES[field.key] or theirs.layered != mine.layered:
            continue
        if theirs.vertical == mine.vertical and theirs.levels == mine.levels:
            return other
    return None


def _saturated(ds: xr.Dataset, field: _Field, there: _Field, kelvin: float) -> xr.Variable:
    assert there.kelvin is not None
    step = there.kelvin
    # With x = T - 29.65 K, the exponent of e_s is 17.67 (1 - 243.5 K / x).
    x = _numbers(ds.variables[there.name]) * step.scale + (step.offset - 29.65)
    factor = np.exp(17.67 * 243.5 * kelvin / (x * (x + kelvin)))
    return _changed(ds, field, lambda q: q * factor)


def _no_temperature() -> Problem:
    return Problem(
        kind="missing-variable",
        where="t, t2m",
        message="no variable is an air temperature, on pressure levels or at 2 m",
        remedy='ds["NAME"].attrs["standard_name"] = "air_temperature"  # NAME: what it is called',
    )


def _no_partner(field: _Field) -> Problem:
    return Problem(
        kind="missing-variable",
        where=field.name,
        message="the air temperature of the same levels is missing, which sets how humid it can be",
        remedy='humidity="compound"  # 7 % a kelvin, whatever the temperature',
    )


def _history(ds: xr.Dataset, delta: Any, humidity: str) -> str:
    line = (
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xwx {__version__}: warmed by {delta}, "
        f"specific humidity {humidity}"
    )
    before = ds.attrs.get("history")
    return f"{before}\n{line}" if before else line
