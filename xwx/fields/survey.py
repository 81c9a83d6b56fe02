"""Look over a Dataset for a model: everything that fits, and everything that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from xwx.errors import Problem
from xwx.fields.axes import axes_problems
from xwx.fields.clock import nat_problems, no_time
from xwx.fields.coordinates import Coordinates, bare_time, find_coordinates
from xwx.fields.degrees import degrees_problem
from xwx.fields.faults import extra_dimension, missing_dimension, type_problems
from xwx.fields.frame import Field
from xwx.fields.locate import Place, locate
from xwx.fields.orient import Turn, turn_columns, turn_rows
from xwx.fields.profile import profiles
from xwx.fields.units import Affine, affine, magnitudes
from xwx.fields.variables import table
from xwx.spec import Spec

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found in a Dataset.

    Attributes
    ----------
    names : Coordinates
    time_dim : str or None
        None where time is a scalar coordinate, or missing.
    rows, columns : Turn or None
        None where the axis does not match the grid.
    fields : tuple of Field
        The variables without a fault, in the order of the Dataset; none without rows and columns.
    problems : tuple of Problem
        Of the structure: values are not read, and steps of time not looked at.
    """

    names: Coordinates
    time_dim: str | None
    rows: Turn | None
    columns: Turn | None
    fields: tuple[Field, ...]
    problems: tuple[Problem, ...]

    def times_size(self, ds: xr.Dataset) -> int:
        """Return the number of times."""
        if self.time_dim is not None:
            return int(ds.sizes[self.time_dim])
        return 0 if self.names.time is None else 1


def survey(ds: xr.Dataset, spec: Spec) -> Survey:
    """Look over the structure of a Dataset; never raises on a bad one.

    Raises
    ------
    TypeError
        If `ds` is no Dataset.
    """
    if not isinstance(ds, xr.Dataset):
        raise TypeError(
            f"an xarray.Dataset is needed, got {type(ds).__name__}"
            + ("; use .to_dataset()" if isinstance(ds, xr.DataArray) else "")
        )
    names = find_coordinates(ds)
    if not ds.data_vars:
        return Survey(names, None, None, None, (), (_empty(ds),))
    problems = _zero_length(ds)
    rows, columns, grid_problems = _grid(ds, names, spec)
    time_dim, time_problems = _time(ds, names)
    if any(p.kind == "missing-time" for p in time_problems):
        names = replace(names, time=None)  # a scalar, beside a time dimension without dates
    places, place_problems = locate(spec.channels, profiles(ds))
    fields, field_problems = _fields(ds, names, time_dim or _undecoded(ds, time_problems), places)
    if problems:  # nothing more can be said of an axis that has no values
        gone = {p.where for p in problems}
        grid_problems = [p for p in grid_problems if p.where not in gone]
        time_problems = [p for p in time_problems if p.where not in gone]
    problems += [*place_problems, *field_problems, *grid_problems, *time_problems]
    readable = fields if _has_rows_and_columns(ds, names) else ()
    return Survey(names, time_dim, rows, columns, readable, tuple(problems))


def _has_rows_and_columns(ds: xr.Dataset, names: Coordinates) -> bool:
    if names.latitude is None or names.longitude is None:
        return False
    lat, lon = ds[names.latitude], ds[names.longitude]
    return lat.dims != lon.dims and lat.size > 0 and lon.size > 0


def _empty(ds: xr.Dataset) -> Problem:
    aside = [str(k) for k in ds.coords if ds[k].ndim >= 2]
    hint = f"ds = ds.reset_coords({aside!r})" if aside else "ds = xr.open_dataset(path)"
    return Problem("empty-dataset", "Dataset", "it holds no data variables", hint)


def _zero_length(ds: xr.Dataset) -> list[Problem]:
    return [
        Problem(
            kind="zero-length",
            where=str(dim),
            message=f"dimension {dim!r} has length 0: the selection before kept nothing",
            remedy=f'look at the range before selecting: ds["{dim}"].values[[0, -1]]',
        )
        for dim, size in ds.sizes.items()
        if size == 0 and any(dim in v.dims for v in ds.data_vars.values())
    ]


def _grid(
    ds: xr.Dataset, names: Coordinates, spec: Spec
) -> tuple[Turn | None, Turn | None, list[Problem]]:
    lat, lon = names.latitude, names.longitude
    wrong = axes_problems(ds, names)
    if lat is None or lon is None or wrong:
        return None, None, wrong
    rows: Turn | Problem | None = degrees_problem(ds, lat, "latitude")
    columns: Turn | Problem | None = degrees_problem(ds, lon, "longitude")
    if ds[lat].size and rows is None:
        rows = turn_rows(magnitudes(ds.variables[lat]).astype(np.float64), lat, spec.grid)
    if ds[lon].size and columns is None:
        columns = turn_columns(magnitudes(ds.variables[lon]).astype(np.float64), lon, spec.grid)
    return (
        rows if isinstance(rows, Turn) else None,
        columns if isinstance(columns, Turn) else None,
        [found for found in (rows, columns) if isinstance(found, Problem)],
    )


def _time(ds: xr.Dataset, names: Coordinates) -> tuple[str | None, list[Problem]]:
    if names.time is None or (ds[names.time].ndim == 0 and bare_time(ds)):
        return None, [no_time(ds)]
    coordinate = ds[names.time]
    if coordinate.ndim == 0:
        return None, nat_problems(np.atleast_1d(coordinate.values), names.time, names.time)
    dim = str(coordinate.dims[0])
    return dim, nat_problems(coordinate.values, names.time, dim)


def _undecoded(ds: xr.Dataset, problems: Sequence[Problem]) -> str | None:
    """Return the dimension of a time that lacks only its dates: it is no further dimension."""
    dims = [d for p in problems if p.kind == "undecoded-time" for d in ds.variables[p.where].dims]
    dims += [p.where for p in problems if p.kind == "missing-time" and p.where in ds.dims]
    return str(dims[0]) if dims else None


def _fields(
    ds: xr.Dataset, names: Coordinates, time_dim: str | None, places: Mapping[int, Place]
) -> tuple[tuple[Field, ...], list[Problem]]:
    by_name: dict[str, list[tuple[int, int]]] = {}
    kept: dict[str, Place] = {}
    for channel, place in places.items():
        by_name.setdefault(place.profile.name, []).append((place.level or 0, channel))
        kept[place.profile.name] = place
    fields, problems = [], []
    extra: dict[str, list[str]] = {}
    for name in map(str, ds.data_vars):
        if name not in by_name:
            continue
        field = _field(ds, kept[name], sorted(by_name[name]))
        faults, more = _field_problems(ds, field, names, time_dim)
        problems += faults
        for dim in more:
            extra.setdefault(dim, []).append(name)
        if not faults and not more:
            fields.append(field)
    problems += [extra_dimension(dim, int(ds.sizes[dim]), having) for dim, having in extra.items()]
    return tuple(fields), problems


def _field(ds: xr.Dataset, place: Place, found: list[tuple[int, int]]) -> Field:
    profile, variable = place.profile, ds.variables[place.profile.name]
    step = affine(str(profile.units), place.units)
    assert step is not None  # locate() made sure
    conversion = Affine(step.scale * place.factor, step.offset * place.factor)
    vertical = None if profile.vertical is None else ds[profile.vertical]
    return Field(
        name=profile.name,
        key=place.key,
        dims=tuple(map(str, variable.dims)),
        sizes=tuple(variable.shape),
        vertical=profile.vertical,
        level_dim=str(vertical.dims[0]) if vertical is not None and vertical.ndim else None,
        levels=tuple(level for level, _ in found),
        channels=tuple(channel for _, channel in found),
        conversion=None if conversion == Affine(1.0, 0.0) else conversion,
        dtype=variable.dtype,
        attrs=dict(variable.attrs),
        encoding=dict(variable.encoding),
        unit=profile.held,
        note=place.note,
    )


def _field_problems(
    ds: xr.Dataset, field: Field, names: Coordinates, time_dim: str | None
) -> tuple[list[Problem], list[str]]:
    """Return the problems of one variable, and the dimensions it has too many."""
    problems = type_problems(field.name, field.dtype)
    if names.latitude is None or names.longitude is None:
        return problems, []  # said elsewhere; without them no dimension can be called extra
    needed = {str(ds[name].dims[0]) for name in (names.latitude, names.longitude)}
    known = needed | {field.level_dim, time_dim}
    if time_dim is not None and not table()[field.key].static:
        needed.add(time_dim)
    problems += [missing_dimension(field.name, dim) for dim in sorted(needed - set(field.dims))]
    sizes = zip(field.dims, field.sizes, strict=True)
    return problems, [dim for dim, size in sizes if dim not in known and size > 1]
