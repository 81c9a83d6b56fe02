"""The mass of dry air: what a forecast must neither make nor lose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.coordinates import find_coordinates, heights
from xwx.fields.differences import requantify
from xwx.fields.grid import area_weights, bounds_of, grid_of, latitude_edges
from xwx.fields.locate import Place, locate
from xwx.fields.profile import Profile, profiles
from xwx.fields.units import affine, held_unit, magnitudes, strip
from xwx.spec import Channel

__all__ = ["dry_air_mass"]

GRAVITY = 9.80665  #: [m s-2]
GAS_CONSTANT = 287.05  #: of dry air [J kg-1 K-1]
EARTH_RADIUS = 6.371e6  #: [m]
LAPSE_RATE = 0.0065  #: of the standard atmosphere [K m-1]
VAPOUR = 0.6077  #: gas constant of water vapour over that of dry air, less one
_WHAT = "the mass of dry air"
#: Kinds of problems that say that something is not there, so that another way may be taken.
_ABSENT = frozenset({"missing-variable", "missing-level"})


class _Column(NamedTuple):
    """Where a variable is on each pressure level [Pa], from the top down."""

    pascals: tuple[float, ...]
    places: tuple[Place, ...]


def dry_air_mass(ds: xr.Dataset) -> xr.Dataset:
    r"""Return the mass of dry air in the atmosphere, and the pressure it exerts at the surface.

    .. math::

        p_d = \overline{\sum_k (1 - q_k) \, \Delta p_k}, \qquad M_d = 4 \pi a^2 p_d / g

    where the bar is the mean over the sphere with the exact areas of cells, and

    .. math::

        \Delta p_k = \min(p_{k+1/2}, p_s) - \min(p_{k-1/2}, p_s)

    with half levels midway between levels, the first at 0 and the last below everything: the
    thicknesses sum to the surface pressure, and levels under ground have none.

    The surface pressure is, in this order,

    1. a variable of the Dataset;
    2. :math:`\ln p` at the geopotential of the surface, linear in the geopotential between levels
       and beyond the outermost two;
    3. :math:`p_{msl} \exp(-\Phi_s / R_d T_v)` with :math:`T_v = T_{2m} (1 + 0.6077 q) +
       \frac12 \cdot 0.0065 \, \Phi_s / g` and q of the lowest level that has a value.

    Parameters
    ----------
    ds : Dataset
        Global, with specific humidity on pressure levels (in any order and units), and what one of
        the three ways needs. Dask arrays stay lazy.

    Returns
    -------
    Dataset
        ``dry_air_pressure`` [Pa] and ``dry_air_mass`` [kg], in float64, along time and all
        dimensions but latitude, longitude and pressure. Their attribute ``comment`` says where the
        surface pressure is from. NaN where a value above ground is missing; a layer whose level is
        missing under ground is as moist as the level above it.

    Raises
    ------
    MismatchError
        When a variable is missing or its units cannot be read, or the grid is not global.

    Notes
    -----
    g = 9.80665 m s-2, R_d = 287.05 J kg-1 K-1, a = 6371 km.
    """
    _check_global(ds)
    found = profiles(ds)
    humidity, problems = _column(found, "q")
    surface, comment, more = _surface_pressure(ds, found, humidity)
    if surface is None or not humidity.places or problems:
        raise MismatchError([*problems, *more], what=_WHAT)
    pressure = _area_mean(ds, _dry_pressure(ds, humidity, surface))
    template = ds[humidity.places[0].profile.name]
    pressure = pressure.transpose(*(dim for dim in template.dims if dim in pressure.dims), ...)
    mass = pressure * (4.0 * np.pi * EARTH_RADIUS**2 / GRAVITY)
    out = {
        "dry_air_pressure": (pressure, "Pa", "global mean surface pressure of dry air"),
        "dry_air_mass": (mass, "kg", "mass of dry air in the atmosphere"),
    }
    quantified = held_unit(template.variable) is not None
    variables = {}
    for name, (array, units, text) in out.items():
        array = array.assign_attrs(long_name=text, comment=comment)
        variables[name] = (
            requantify(array, units) if quantified else array.assign_attrs(units=units)
        )
    return xr.Dataset(variables, _coordinates(ds, pressure), ds.attrs)


def _coordinates(ds: xr.Dataset, result: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the coordinates that the result still has: no level or height of a selection."""
    gone = {find_coordinates(ds).vertical, *heights(ds)}
    return {
        str(key): coordinate
        for key, coordinate in ds.coords.items()
        if key not in gone and set(coordinate.dims) <= set(result.dims)
    }


def _check_global(ds: xr.Dataset) -> None:
    try:
        grid = grid_of(ds)
    except MismatchError as error:
        raise MismatchError(error.problems, what=_WHAT) from error
    except ValueError as error:
        remedy = "give every row and every meridian once, in order"
        problem = Problem("wrong-grid", "latitude, longitude", str(error), remedy)
        raise MismatchError([problem], what=_WHAT) from error
    name = str(find_coordinates(ds).latitude)
    rows = np.sort(magnitudes(ds.variables[name]).astype(np.float64))
    spacing = 180.0 if rows.size < 2 else float(np.diff(rows).max())
    # Gaussian rows, and those of a grid that lacks the row of a pole, stop short of the poles
    edges = np.array([-90.0, 90.0]) if rows.size < 2 else latitude_edges(rows, bounds_of(ds, name))
    gap = max(90.0 - edges.max(), 90.0 + edges.min())
    if rows.size < 2 or gap > 0.51 * spacing or not grid.periodic:
        message = f"{grid} is not the whole globe, of which a mean is meant"
        remedy = "open data of the whole globe"
        raise MismatchError(
            [Problem("regional-grid", "latitude, longitude", message, remedy)], _WHAT
        )


def _column(found: tuple[Profile, ...], key: str) -> tuple[_Column, list[Problem]]:
    """Find a variable on all the levels that there are; problems if it is on none, or unclear."""
    levels = sorted({level for profile in found for level in profile.levels})
    held: dict[float, Place] = {}
    problems: dict[str, Problem] = {}  # the first of each kind: the levels are faulty alike
    for level in levels or [85000.0]:
        places, faults = locate([Channel(key, level)], found)
        for place in places.values():
            held[level] = place
        for fault in faults:
            problems.setdefault(fault.kind, fault)
    kept = [p for p in problems.values() if p.kind not in _ABSENT]
    if not held and not kept:
        kept = list(problems.values())[:1]
    return _Column(tuple(held), tuple(held.values())), kept


def _values(ds: xr.Dataset, place: Place) -> xr.DataArray:
    """Return one level of a variable in canonical units, without coordinates."""
    profile, variable = place.profile, ds.variables[place.profile.name]
    if profile.layered and place.level is not None:
        variable = variable.isel({ds.variables[profile.vertical].dims[0]: place.level})
    conversion = affine(str(profile.units), place.units)
    assert conversion is not None  # locate() made sure
    values = xr.DataArray(strip(variable.data), dims=variable.dims).astype(np.float64)
    if conversion.scale != 1.0 or conversion.offset:
        values = values * conversion.scale + conversion.offset
    return values if place.factor == 1.0 else values * place.factor


def _surface_pressure(
    ds: xr.Dataset, found: tuple[Profile, ...], humidity: _Column
) -> tuple[xr.DataArray | None, str, list[Problem]]:
    """Return the surface pressure [Pa] and where it is from, or problems."""
    flat, problems = _flat(found, ("sp", "z_sfc", "msl", "t2m"))
    if "sp" in flat:
        return _values(ds, flat["sp"]), f"surface pressure: {_listed(flat, 'sp')}", []
    column, more = _column(found, "z")
    problems += [p for p in more if p.kind not in _ABSENT]
    if problems:
        return None, "", problems
    if "z_sfc" in flat and len(column.places) > 1:
        name = column.places[0].profile.name
        comment = f"surface pressure: from {name!r} at {_listed(flat, 'z_sfc')}"
        return _interpolated(ds, column, _values(ds, flat["z_sfc"])), comment, []
    if {"z_sfc", "msl", "t2m"} <= set(flat):
        comment = f"surface pressure: from {_listed(flat, 'msl', 't2m', 'z_sfc')}, hypsometric"
        return _hypsometric(ds, humidity, flat) if humidity.places else None, comment, []
    return None, "", [_no_surface_pressure(set(flat), len(column.places))]


def _flat(
    found: tuple[Profile, ...], keys: Sequence[str]
) -> tuple[dict[str, Place], list[Problem]]:
    flat: dict[str, Place] = {}
    problems: list[Problem] = []
    for key in keys:
        places, faults = locate([Channel(key)], found)
        for place in places.values():
            flat[key] = place
        problems += [fault for fault in faults if fault.kind not in _ABSENT]
    return flat, problems


def _listed(flat: dict[str, Place], *keys: str) -> str:
    return ", ".join(repr(flat[key].profile.name) for key in keys)


def _no_surface_pressure(flat: set[str], levels: int) -> Problem:
    missing = ", ".join(key for key in ("z_sfc", "msl", "t2m") if key not in flat)
    return Problem(
        kind="missing-variable",
        where="sp",
        message=(
            "the surface pressure is neither there ('sp'), nor can it be had from the "
            f"geopotential 'z' (found on {levels} levels, two are needed) and the surface "
            f"geopotential 'z_sfc', nor from 'msl', 't2m' and 'z_sfc'; missing: {missing}"
        ),
        remedy=(
            'ds["sp"] = pressure.assign_attrs(standard_name="surface_air_pressure", units="Pa")'
            '  # or the static ds["z_sfc"], standard_name="surface_geopotential", units="m2 s-2"'
        ),
    )


def _interpolated(ds: xr.Dataset, column: _Column, surface: xr.DataArray) -> xr.DataArray:
    """Return exp of ln p, linear in the geopotential, at the geopotential of the surface.

    Levels without a value have to be under ground: otherwise the result is NaN.
    """
    logarithm = None
    upper = _values(ds, column.places[0])
    for (low, high), place in zip(
        itertools.pairwise(np.log(column.pascals)), column.places[1:], strict=True
    ):
        lower = _values(ds, place)
        here = low + (high - low) * (surface - upper) / (lower - upper)
        if logarithm is None:
            logarithm = here
        else:
            logarithm = here.where((surface <= upper) & lower.notnull(), logarithm)
        upper = lower
    assert logarithm is not None  # there are two levels
    pressure: xr.DataArray = np.exp(logarithm)
    for pascals, place in zip(*column, strict=True):
        pressure = pressure.where(_values(ds, place).notnull() | (pressure < pascals))
    return pressure


def _hypsometric(ds: xr.Dataset, humidity: _Column, flat: dict[str, Place]) -> xr.DataArray:
    """Return the pressure at mean sea level brought up to the surface."""
    msl, t2m, surface = (_values(ds, flat[key]) for key in ("msl", "t2m", "z_sfc"))
    lowest = _values(ds, humidity.places[-1])
    for place in humidity.places[-2::-1]:
        lowest = lowest.fillna(_values(ds, place))
    virtual = t2m * (1.0 + VAPOUR * lowest) + 0.5 * LAPSE_RATE * surface / GRAVITY
    pressure: xr.DataArray = msl * np.exp(-surface / (GAS_CONSTANT * virtual))
    return pressure


def _dry_pressure(ds: xr.Dataset, humidity: _Column, surface: xr.DataArray) -> xr.DataArray:
    """Return the pressure of the dry air of each column; levels under ground may be missing.

    The layer of such a level may reach above ground, where it is as moist as the level above.
    """
    between = [(a + b) / 2 for a, b in itertools.pairwise(humidity.pascals)]
    above: xr.DataArray | float = 0.0
    total: xr.DataArray | float = 0.0
    moist = xr.full_like(surface, np.nan)
    for pascals, edge, place in zip(
        humidity.pascals, [*between, np.inf], humidity.places, strict=True
    ):
        below = surface.clip(max=edge)
        thickness = below - above
        moist = _values(ds, place).fillna(moist.where(surface < pascals))
        total = total + (1.0 - moist) * thickness
        above = below
    assert isinstance(total, xr.DataArray)
    return total


def _area_mean(ds: xr.Dataset, column: xr.DataArray) -> xr.DataArray:
    names = find_coordinates(ds)
    weights = area_weights(ds)
    bare = xr.DataArray(weights.values / weights.values.sum(), dims=weights.dims)
    rows = column.mean([ds[names.longitude].dims[0]], skipna=False)
    mean: xr.DataArray = xr.dot(rows, bare, dim=weights.dims)
    return mean
