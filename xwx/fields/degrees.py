"""Units of latitude and longitude: degrees north and degrees east, or refused."""

from __future__ import annotations

import xarray as xr

from xwx.errors import Problem
from xwx.fields.units import held_unit, unit_text

__all__ = ["EAST", "NORTH", "degrees_problem", "degrees_problems"]


def _spellings(word: str) -> frozenset[str]:
    letter = word[0].upper()
    ends = (f"_{word}", f"_{letter}", letter)
    return frozenset(start + end for start in ("degrees", "degree") for end in ends)


NORTH, EAST = _spellings("north"), _spellings("east")
_NEGATIVE = {"latitude": _spellings("south"), "longitude": _spellings("west")}
_POSITIVE = {"latitude": NORTH, "longitude": EAST}
_PLAIN = frozenset({"degrees", "degree", "deg", "°"})
_RADIANS = frozenset({"radians", "radian", "rad"})


def _is_one_of(text: str, units: frozenset[str]) -> bool:
    return text.lower().replace(" ", "_") in {unit.lower() for unit in units}


def degrees_problem(ds: xr.Dataset, name: str, kind: str) -> Problem | None:
    """Return the problem of a latitude or longitude whose units are not degrees north or east.

    Parameters
    ----------
    ds : Dataset
    name : str
        Of a one-dimensional coordinate.
    kind : {"latitude", "longitude"}

    Returns
    -------
    Problem or None
        None too where there are no units: the standard_name or the name has to do.
    """
    variable = ds.variables[name]
    text = (unit_text(variable) or "").strip()
    if not text or _is_one_of(text, _POSITIVE[kind] | _PLAIN):
        return None
    needed = "degrees_north" if kind == "latitude" else "degrees_east"
    return Problem(
        kind="unconvertible-units",
        where=name,
        message=f"the {kind} has units {text!r}; {needed!r} (or plain degrees) are needed",
        remedy=_remedy(variable, name, text, kind, needed),
    )


def degrees_problems(ds: xr.Dataset, latitude: str, longitude: str) -> list[Problem]:
    """Return the problems of the units of both; see :func:`degrees_problem`."""
    pairs = ((latitude, "latitude"), (longitude, "longitude"))
    found = (degrees_problem(ds, name, kind) for name, kind in pairs)
    return [problem for problem in found if problem is not None]


def _remedy(variable: xr.Variable, name: str, text: str, kind: str, needed: str) -> str:
    values, comment, plain = f'ds["{name}"].values', "", held_unit(variable) is None
    if not plain:
        values = f'ds["{name}"].variable.data.magnitude'
    if _is_one_of(text, _NEGATIVE[kind]):
        values = f"-{values}"
    elif _is_one_of(text, _RADIANS):
        values = f"np.rad2deg({values})"
    elif plain:
        return f'ds["{name}"].attrs["units"] = "{needed}"  # if only the label is wrong'
    else:
        comment = "  # if only the label is wrong"
    new = f'("{variable.dims[0]}", {values}, {{"units": "{needed}"}})'
    return f'ds = ds.assign_coords({{"{name}": {new}}}){comment}'
