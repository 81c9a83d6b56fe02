"""Which coordinate is latitude, longitude, time, pressure: by CF first, then by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xwx.fields.degrees import EAST, NORTH
from xwx.fields.units import affine, magnitudes, parse, unit_text
from xwx.fields.variables import stated_name

__all__ = [
    "Coordinates",
    "bare_time",
    "curvilinear",
    "find_coordinates",
    "heights",
    "is_reference",
    "is_time",
    "level_pascals",
    "pressures",
    "single_places",
]

_LATITUDES = ("latitude", "lat", "nav_lat", "Latitude", "LAT", "XLAT", "y")
_LONGITUDES = ("longitude", "lon", "nav_lon", "Longitude", "LON", "XLONG", "x")
_TIMES = ("time", "valid_time", "Time", "XTIME", "t", "date")
_LEVELS = frozenset(
    {"level", "levels", "lev", "plev", "pressure", "pressure_level", "pressure_levels", "plevel"}
    | {"isobaricInhPa", "isobaricInPa", "isobaric", "air_pressure", "p"}
)
_REFERENCES = frozenset({"init_time", "forecast_reference_time", "reference_time", "initial_time"})


@dataclass(frozen=True)
class Coordinates:
    """Names of a Dataset's coordinates; None for one that was not found.

    Attributes
    ----------
    latitude, longitude : str or None
        One-dimensional coordinates. A 2-D latitude is not one of these: see :func:`curvilinear`.
    time : str or None
        Valid time, decoded (datetime64 or cftime), one-dimensional or scalar.
    vertical : str or None
        A pressure coordinate, one-dimensional or scalar.
    """

    latitude: str | None
    longitude: str | None
    time: str | None
    vertical: str | None


def find_coordinates(ds: xr.Dataset) -> Coordinates:
    """Find latitude, longitude, valid time and pressure among the coordinates of `ds`.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    Coordinates
        Names; attributes (``standard_name``, ``units``) win over names in common use.
    """
    return Coordinates(
        latitude=_horizontal(ds, "latitude", NORTH, _LATITUDES, _LONGITUDES),
        longitude=_horizontal(ds, "longitude", EAST, _LONGITUDES, _LATITUDES),
        time=_time(ds),
        vertical=next(iter(pressures(ds)), None),
    )


def _variables(ds: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the variables of the coordinates."""
    return {str(key): ds.variables[key] for key in ds.coords}


def _is_horizontal(variable: xr.Variable, kind: str, units: frozenset[str]) -> bool:
    stated = stated_name(variable.attrs)
    return stated == kind or (stated is None and (unit_text(variable) or "") in units)


def _horizontal(
    ds: xr.Dataset,
    kind: str,
    units: frozenset[str],
    names: tuple[str, ...],
    others: tuple[str, ...],
) -> str | None:
    """Return the coordinate; one that is called by the name of the other axis needs to say it."""
    flat = {
        k: v
        for k, v in _variables(ds).items()
        if v.ndim == 1 and (k not in others[:-1] or stated_name(v.attrs) == kind)
    }
    bounds = {c.attrs.get("bounds") for c in flat.values()}
    found = [k for k, v in flat.items() if k not in bounds and _is_horizontal(v, kind, units)]
    if not found:
        found = [k for k in names if k in flat and _degrees(flat[k])]
    if not found:  # a name that can mean nothing else, whose units are wrong: to be said of it
        found = [k for k in names[:-1] if k in flat and _numeric(flat[k])]
    used = [
        k for k in found if any(flat[k].dims[0] in ds.variables[name].dims for name in ds.data_vars)
    ]
    return next(iter(used or found), None)


def _degrees(variable: xr.Variable) -> bool:
    """Whether a coordinate known by name only may be degrees: it is not metres of a projection."""
    text = unit_text(variable)
    numeric = np.issubdtype(variable.dtype, np.number)
    return numeric and (text is None or affine(text, "degree") is not None)


def curvilinear(ds: xr.Dataset) -> tuple[str, str] | None:
    """Return the names of two-dimensional latitude and longitude, if the Dataset has them."""
    wide = {str(k): v for k, v in ds.variables.items() if v.ndim >= 2 and _numeric(v)}
    lat = [k for k, v in wide.items() if k in _LATITUDES or _is_horizontal(v, "latitude", NORTH)]
    lon = [k for k, v in wide.items() if k in _LONGITUDES or _is_horizontal(v, "longitude", EAST)]
    bounds = {v.attrs.get("bounds") for v in ds.variables.values()}
    lat, lon = ([k for k in names if k not in bounds] for names in (lat, lon))
    return (lat[0], lon[0]) if lat and lon else None


def single_places(ds: xr.Dataset) -> tuple[str | None, str | None]:
    """Return the names of a latitude and a longitude of one value, without a dimension."""
    flat = {k: v for k, v in _variables(ds).items() if v.ndim == 0 and _numeric(v)}
    lat, lon = (
        next(
            (k for k, v in flat.items() if k in names[:-1] or _is_horizontal(v, kind, units)), None
        )
        for kind, units, names in (
            ("latitude", NORTH, _LATITUDES),
            ("longitude", EAST, _LONGITUDES),
        )
    )
    return lat, lon


def _numeric(variable: xr.Variable) -> bool:
    return bool(np.issubdtype(variable.dtype, np.number))


def is_time(variable: xr.Variable) -> bool:
    """Whether a variable holds decoded times: datetime64 or cftime objects."""
    if np.issubdtype(variable.dtype, np.datetime64):
        return True
    if variable.dtype != object or variable.size == 0:
        return False
    return hasattr(np.asarray(variable.data).flat[0], "calendar")


def is_reference(variable: xr.Variable) -> bool:
    """Whether a time coordinate says that it is when a forecast began, not when it is valid."""
    return stated_name(variable.attrs) == "forecast_reference_time"


def _equal(one: xr.Variable, other: xr.Variable) -> bool:
    return bool(np.array_equal(one.values, other.values))


def _time(ds: xr.Dataset) -> str | None:
    """Valid time: a dimension coordinate if there is one, but ``valid_time`` where they differ."""
    coords = _variables(ds)
    found = {k: v for k, v in coords.items() if v.ndim <= 1 and k not in _REFERENCES and is_time(v)}
    pool = {k: v for k, v in found.items() if v.ndim == 1} or found
    if not pool:
        return None

    def rank(name: str) -> tuple[Any, ...]:
        known = _TIMES.index(name) if name in _TIMES else len(_TIMES)
        return name not in ds.dims, known, is_reference(pool[name])

    best = min(pool, key=rank)
    others = [k for k, v in pool.items() if v.dims == pool[best].dims and not is_reference(v)]
    if is_reference(pool[best]):
        if others:
            equal = _equal(pool[others[0]], pool[best])
            return best if equal else others[0]
        leads = [v for v in coords.values() if np.issubdtype(v.dtype, np.timedelta64)]
        return None if any(np.any(v.values != np.timedelta64(0)) for v in leads) else best
    if "valid_time" in others and not _equal(pool["valid_time"], pool[best]):
        return "valid_time"
    return best


def _is_pressure(name: str, variable: xr.Variable) -> bool:
    if variable.ndim > 1 or not _numeric(variable):
        return False
    text = unit_text(variable)
    if text is None:
        return name in _LEVELS or stated_name(variable.attrs) == "air_pressure"
    return affine(text, "Pa") is not None or _misspelt(name, variable, text)


def _misspelt(name: str, variable: xr.Variable, text: str) -> bool:
    """Whether a coordinate called a pressure has units such as "hpa", which are no unit at all.

    Lower-case "pa" reads as a pico-year. Lengths and bare numbers are levels of another kind.
    """
    named = name in _LEVELS or stated_name(variable.attrs) == "air_pressure"
    return named and (parse(text) is None or affine(text, "s") is not None)


def pressures(ds: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the pressure coordinates of `ds`, those along a dimension before scalar ones.

    Those whose units cannot be read come last.
    """
    found = {k: v for k, v in _variables(ds).items() if _is_pressure(k, v)}

    def rank(item: tuple[str, xr.Variable]) -> tuple[bool, int]:
        text = unit_text(item[1])
        return text is not None and affine(text, "Pa") is None, -item[1].ndim

    return dict(sorted(found.items(), key=rank))


def bare_time(ds: xr.Dataset) -> str | None:
    """Return a dimension that is called a time, and has no coordinate."""
    used = {dim for variable in ds.data_vars.values() for dim in variable.dims}
    return next((name for name in _TIMES if name in used and name not in ds.variables), None)


def level_pascals(variable: xr.Variable) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the values of a pressure coordinate [Pa], 1-D; None without units that can be read."""
    text = unit_text(variable)
    conversion = None if text is None else affine(text, "Pa")
    if conversion is None:
        return None
    return np.atleast_1d(magnitudes(variable)).astype(np.float64) * conversion.scale


def heights(ds: xr.Dataset) -> dict[str, float]:
    """Return the heights above ground [m] that coordinates of a single value state."""
    found = {}
    for key, variable in _variables(ds).items():
        if variable.size != 1 or not _numeric(variable):
            continue
        known = stated_name(variable.attrs) == "height" or key in {"height", "heightAboveGround"}
        conversion = affine(unit_text(variable) or "", "m") if known else None
        if conversion is not None:
            found[key] = float(magnitudes(variable).item()) * conversion.scale
    return found
