"""Reports of stations: variables of a Dataset along one dimension of places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xwx.errors import MismatchError, Problem
from xwx.fields.clock import nat_problems, no_time
from xwx.fields.coordinates import Coordinates, find_coordinates, is_time
from xwx.fields.degrees import degrees_problems
from xwx.fields.faults import extra_dimension, missing_dimension, type_problems
from xwx.fields.locate import Place
from xwx.fields.offered import offered
from xwx.fields.plausible import Sample
from xwx.fields.units import affine, magnitudes
from xwx.spec import Spec

__all__ = ["Reports", "along_stations", "reports"]

Floats = NDArray[np.float64]


#: Longitudes begin at -180 or at 0, and some go on for a turn; further out there is none.
_FARTHEST = 720.0


@dataclass(frozen=True, eq=False)
class Reports:
    """What stations measured, with gaps.

    Attributes
    ----------
    channels : tuple of int
        Of the model, ascending.
    names : tuple of str
        The variable of each in the Dataset.
    latitude, longitude : array, shape (stations,)
        Degrees north and east.
    when : array, shape (n,)
        Valid times, as they stand along `time_dim`.
    each : bool
        Whether each station has a time of its own: `when` is along the stations.
    values : array of float64, shape (times, channels, stations)
        In canonical units; NaN where there is no report. One time only if `each`.
    samples : tuple of Sample
        What the values of each channel are like.
    places : tuple of str
        The coordinates of latitude and longitude.
    station_dim, time_name : str
    time_dim : str or None
    """

    channels: tuple[int, ...]
    names: tuple[str, ...]
    latitude: Floats
    longitude: Floats
    when: NDArray[Any]
    each: bool
    values: Floats
    samples: tuple[Sample, ...]
    places: tuple[str, str]
    station_dim: str
    time_name: str
    time_dim: str | None


def along_stations(ds: xr.Dataset) -> bool:
    """Whether latitude and longitude of a Dataset run along the same single dimension."""
    names = find_coordinates(ds)
    if names.latitude is None or names.longitude is None:
        return False
    return ds[names.latitude].dims == ds[names.longitude].dims


def reports(ds: xr.Dataset, spec: Spec) -> tuple[Reports | None, list[Problem]]:
    """Read the reports of stations.

    Parameters
    ----------
    ds : Dataset
        See :func:`along_stations`.
    spec : Spec
        Of the model, some of whose channels were measured.

    Returns
    -------
    reports : Reports or None
        None if there are problems.
    problems : list of Problem
        All of them, but for those of which times and places they are.
    """
    names = find_coordinates(ds)
    lat, lon = str(names.latitude), str(names.longitude)
    station = str(ds[lat].dims[0])
    places, problems = offered(ds, spec)
    problems += degrees_problems(ds, lat, lon)
    problems += _place_problems(ds, (lat, lon), station)
    time_dim, more = _time(ds, names)
    problems += more
    for name in dict.fromkeys(place.profile.name for place in places.values()):
        problems += _shape_problems(ds, name, places, station, time_dim)
    if problems:
        return None, list(dict.fromkeys(problems))
    time = str(names.time)
    each = time_dim == station
    along = None if each else time_dim
    given = [_values(ds, place, (along, station)) for place in places.values()]
    values = np.stack([_canonical(v, p) for v, p in zip(given, places.values(), strict=True)], 1)
    if (wrong := np.isinf(values)).any():
        message = f"{int(wrong.sum())} values are infinite; NaN is where nothing is known"
        remedy = "ds = ds.where(np.isfinite(ds))"
        raise MismatchError([Problem("infinite", "values", message, remedy)], what="the stations")
    return Reports(
        tuple(places),
        tuple(place.profile.name for place in places.values()),
        magnitudes(ds.variables[lat]).astype(np.float64),
        magnitudes(ds.variables[lon]).astype(np.float64),
        np.atleast_1d(ds[time].values),
        each,
        values,
        tuple(
            Sample.of(n, place.profile.name, str(place.profile.units), raw)
            for raw, (n, place) in zip(given, places.items(), strict=True)
        ),
        (lat, lon),
        station,
        time,
        time_dim,
    ), []


def _place_problems(ds: xr.Dataset, names: tuple[str, str], station: str) -> list[Problem]:
    """Return the problem of stations that are nowhere."""
    pair = [magnitudes(ds.variables[name]).astype(np.float64) for name in names]
    far = np.abs(pair[1]) > _FARTHEST
    if far.any():
        return [
            Problem(
                kind="no-longitude",
                where=names[1],
                message=(
                    f"{far.sum()} of {far.size} values lie beyond two turns, "
                    f"{pair[1][far][0]:g} first: no place on the globe, a fill value perhaps"
                ),
                remedy=f'ds = ds.isel({station}=(abs(ds["{names[1]}"]) <= 720).values)',
            )
        ]
    lost = ~np.isfinite(pair[0]) | ~np.isfinite(pair[1])
    if lost.any():
        return [
            Problem(
                kind="nan-position",
                where=", ".join(names),
                message=f"{lost.sum()} of {lost.size} stations have no position",
                remedy=(
                    f'ds = ds.isel({station}=np.isfinite(ds["{names[0]}"] + ds["{names[1]}"])'
                    ".values)"
                ),
            )
        ]
    return []


def _time(ds: xr.Dataset, names: Coordinates) -> tuple[str | None, list[Problem]]:
    """Return the dimension of the times, None for a scalar, and what is wrong with them."""
    if names.time is None:
        dates = [str(k) for k, v in ds.data_vars.items() if is_time(v.variable)]
        if not dates:
            return None, [no_time(ds)]
        message = "it holds the times, but is a variable and not a coordinate"
        remedy = f"ds = ds.set_coords({dates[0]!r})"
        return None, [Problem("missing-time", dates[0], message, remedy)]
    coordinate = ds[names.time]
    dim = str(coordinate.dims[0]) if coordinate.ndim else None
    return dim, nat_problems(np.atleast_1d(coordinate.values), names.time, dim or names.time)


def _shape_problems(
    ds: xr.Dataset, name: str, places: dict[int, Place], station: str, time_dim: str | None
) -> list[Problem]:
    variable = ds.variables[name]
    level = next(
        (
            str(ds.variables[p.profile.vertical].dims[0])
            for p in places.values()
            if p.profile.name == name and p.profile.layered
        ),
        None,
    )
    needed = [dim for dim in dict.fromkeys((station, time_dim)) if dim is not None]
    problems = type_problems(name, variable.dtype)
    problems += [missing_dimension(name, dim) for dim in needed if dim not in variable.dims]
    return problems + [
        extra_dimension(str(dim), size, [name])
        for dim, size in zip(variable.dims, variable.shape, strict=True)
        if dim not in {*needed, level} and size > 1
    ]


def _values(ds: xr.Dataset, place: Place, order: tuple[str | None, str]) -> Floats:
    """Return one channel in the units that it has, (times, stations)."""
    profile, variable = place.profile, ds.variables[place.profile.name]
    if profile.layered and place.level is not None:
        variable = variable.isel({ds.variables[profile.vertical].dims[0]: place.level})
    kept = [dim for dim in order if dim is not None]
    variable = variable.isel(dict.fromkeys(set(variable.dims) - set(kept), 0))
    values = magnitudes(variable.transpose(*kept)).astype(np.float64)
    return values if order[0] is not None else values[None]


def _canonical(values: Floats, place: Place) -> Floats:
    step = affine(str(place.profile.units), place.units)
    assert step is not None  # locate() made sure
    return (values * step.scale + step.offset) * place.factor
