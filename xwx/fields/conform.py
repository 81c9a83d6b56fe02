"""One Dataset in the presentation of another: its names, units, levels, rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xwx.errors import MismatchError, Problem
from xwx.fields.align import Axes, axes_of, match
from xwx.fields.faults import type_problems
from xwx.fields.locate import Place
from xwx.fields.plan import Plan, Positions
from xwx.fields.profile import Profile, profiles
from xwx.fields.recognise import Match, find, other_side
from xwx.fields.units import dequantify, held_unit, magnitudes, unit_text

__all__ = ["conform"]


def conform(
    ds: xr.Dataset,
    like: xr.Dataset,
    *,
    what: str = "the forecast",
    only: Sequence[str] | None = None,
) -> xr.Dataset:
    """Present the fields of a Dataset the way another Dataset presents the same quantities.

    Parameters
    ----------
    ds : Dataset
        Truth, a climatology, another forecast: in any presentation, with any further dimensions
        (time, member, dayofyear, ...), which are kept as they are.
    like : Dataset
        Its variables along latitude and longitude are looked for in `ds`: by the table of
        variables, or, those that the table does not know, by standard_name, else by name. It may
        cover a part of `ds`.
    what : str
        What `like` is, for the messages; its last word names it in the remedies.
    only : sequence of str, optional
        The variables of `like` that are wanted; all of them by default.

    Returns
    -------
    Dataset
        The names, attributes and units of `like`; its levels, latitudes and longitudes, exactly;
        plain arrays, never quantified. Dask stays dask, and what is still in a file stays there.
        Numbers whose unit does not change are those of `ds` bit for bit; otherwise the arithmetic
        is in float64 and rounded once, to the type that they have in `ds`.

    Raises
    ------
    MismatchError
        With all problems of both: a variable or level that is missing, there twice, without units
        or in others; a grid whose points are not those of `like` (nothing is interpolated).
    TypeError
        If either is no Dataset.
    """
    for argument, value in (("ds", ds), ("like", like)):
        if not isinstance(value, xr.Dataset):
            raise TypeError(f"{argument}: a Dataset is needed, got {type(value).__name__}")
    if any(held_unit(variable) is not None for variable in ds.variables.values()):
        ds = dequantify(ds)
    source, target = axes_of(ds), axes_of(like)
    problems = [] if isinstance(source, Axes) else [*source]
    if not isinstance(target, Axes):
        raise MismatchError([*problems, *(other_side(p, what) for p in target)], what)
    matches, faults = _matches(ds, _wanted(like, target, only, what), what)
    problems += faults
    if not isinstance(source, Axes):
        raise MismatchError(problems, what)
    points = match(source, target, what)
    problems += [p for m in matches for p in _shape_problems(ds, like, m, source, target)]
    if isinstance(points, Problem):
        raise MismatchError([*problems, points], what)
    if problems:
        raise MismatchError(list(dict.fromkeys(problems)), what)
    turn = dict(zip(source.dims, zip(target.dims, points, strict=True), strict=True))
    fields = {m.profile.name: _field(ds, like, m, turn) for m in matches}
    return _assembled(ds, like, matches, fields, (source, target))


def _wanted(like: xr.Dataset, axes: Axes, only: Sequence[str] | None, what: str) -> list[Profile]:
    names = None if only is None else [only] if isinstance(only, str) else list(only)
    wanted = [
        profile
        for profile in profiles(like)
        if set(axes.dims) <= set(like.variables[profile.name].dims)
        and (names is None or profile.name in names)
    ]
    unknown = [name for name in names or () if name not in like.data_vars]
    if unknown or not wanted:
        held = ", ".join(map(repr, like.data_vars)) or "no variable"
        message = (
            f"{unknown} are not variables of {what}, which holds {held}"
            if unknown
            else f"{what} holds {held}, and nothing that is wanted along {axes.dims[0]!r} "
            f"and {axes.dims[1]!r}"
        )
        remedy = "name variables of it that run along latitude and longitude"
        raise MismatchError([Problem("unknown-variable", "variables", message, remedy)], what)
    return wanted


def _matches(
    ds: xr.Dataset, wanted: Sequence[Profile], what: str
) -> tuple[list[Match], list[Problem]]:
    found = profiles(ds)
    matches: list[Match] = []
    problems: dict[Problem, None] = {}  # an ordered set
    for profile in wanted:
        result = find(profile, found, what)
        if isinstance(result, Match):
            matches.append(result)
        else:
            problems.update(dict.fromkeys(result))
    return matches, list(problems)


def _shape_problems(
    ds: xr.Dataset, like: xr.Dataset, found: Match, source: Axes, target: Axes
) -> list[Problem]:
    """Return what is wrong with the dimensions and the types of a variable that was found."""
    problems = []
    taken = {*target.dims, *_level_dims(like, found.vertical)}
    shapes = set()
    for profile in {place.profile.name: place.profile for place in found.places}.values():
        variable = ds.variables[profile.name]
        own = {*source.dims, *_level_dims(ds, profile.vertical if profile.layered else None)}
        shapes.add(frozenset(variable.dims) - own)
        problems += [
            Problem(
                kind="missing-dimension",
                where=profile.name,
                message=f"it does not run along {dim!r}, as {found.profile.name!r} does",
                remedy=f'ds = ds.drop_vars("{profile.name}")  # and give it on the whole grid',
            )
            for dim in source.dims
            if dim not in variable.dims
        ]
        problems += [
            Problem(
                kind="extra-dimension",
                where=profile.name,
                message=f"its dimension {dim!r} is another than that of {found.profile.name!r}",
                remedy=f'ds = ds.rename({{"{dim}": "another_{dim}"}})',
            )
            for dim in variable.dims
            if dim in taken - own
        ]
        problems += type_problems(profile.name, variable.dtype)
    if len(shapes) > 1:
        names = ", ".join(repr(place.profile.name) for place in found.places)
        message = f"{names}, the levels of {found.profile.name!r}, run along other dimensions"
        remedy = "give each level of it the same dimensions, with .broadcast_like(...)"
        problems.append(Problem("missing-dimension", found.profile.name, message, remedy))
    return problems


def _level_dims(ds: xr.Dataset, vertical: str | None) -> tuple[str, ...]:
    return () if vertical is None else tuple(map(str, ds.variables[vertical].dims))


def _field(
    ds: xr.Dataset, like: xr.Dataset, found: Match, turn: dict[str, tuple[str, Positions]]
) -> xr.Variable:
    """Plan one variable, its dimensions already under the names that `like` has."""
    level = next(iter(_level_dims(like, found.vertical)), None)
    first = found.places[0].profile
    held = next(iter(_level_dims(ds, first.vertical if first.layered else None)), None)
    names, positions = {old: new for old, (new, _) in turn.items()}, dict(turn.values())
    if level is not None and held is not None and len({p.profile.name for p in found.places}) == 1:
        names[held], positions[level] = level, np.array([p.level for p in found.places])
        part = _renamed(ds.variables[first.name], names), found.conversions[0]
        plan = Plan((part,), positions, None, tuple(map(str, part[0].dims)))
    else:
        chosen = [_renamed(_at_level(ds, place), names) for place in found.places]
        dims = tuple(map(str, chosen[0].dims))
        if level is not None:
            at = min(map(dims.index, positions))
            dims = (*dims[:at], level, *dims[at:])
        plan = Plan(tuple(zip(chosen, found.conversions, strict=True)), positions, level, dims)
    attrs = {**like.variables[found.profile.name].attrs, "units": found.profile.units}
    out = plan.field().copy(deep=False)
    out.attrs, out.encoding = attrs, {}
    return out


def _at_level(ds: xr.Dataset, place: Place) -> xr.Variable:
    variable = ds.variables[place.profile.name]
    if place.level is None or not place.profile.layered:
        return variable
    return variable.isel({ds.variables[place.profile.vertical].dims[0]: place.level})


def _renamed(variable: xr.Variable, names: dict[str, str]) -> xr.Variable:
    out = variable.copy(deep=False)
    out.dims = tuple(names.get(str(dim), dim) for dim in variable.dims)
    return out


def _assembled(
    ds: xr.Dataset,
    like: xr.Dataset,
    matches: Sequence[Match],
    fields: dict[str, xr.Variable],
    axes: tuple[Axes, Axes],
) -> xr.Dataset:
    """Put together the fields, the coordinates of `like`, and the further ones of `ds`."""
    source, target = axes
    places = [place for m in matches for place in m.places]
    gone = {*source.names, *(p.profile.vertical for p in places if p.level is not None)}
    dims = {dim for field in fields.values() for dim in field.dims}
    kept = [
        key
        for key, c in ds.coords.items()
        if key not in gone and not set(c.dims) & set(source.dims) and set(c.dims) <= dims
    ]
    levels = {m.vertical for m in matches if m.vertical is not None}
    along = {*target.dims, *(dim for name in levels for dim in _level_dims(like, name))}
    given: dict[Any, xr.Variable] = {
        key: _plain(like.variables[key])
        for key, c in like.coords.items()
        if key in levels or (c.ndim == 1 and c.dims[0] in along)
    }
    rest = ds.drop_vars([key for key in ds.variables if key not in kept])
    return (
        rest.drop_vars([key for key in given if key in rest.coords])
        .assign_coords(given)
        .assign(fields)
    )


def _plain(variable: xr.Variable) -> xr.Variable:
    """Return a coordinate without its Quantity."""
    if held_unit(variable) is None:
        return variable
    attrs = {**variable.attrs, "units": unit_text(variable)}
    return xr.Variable(variable.dims, magnitudes(variable), attrs)
