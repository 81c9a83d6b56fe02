"""What a Dataset holds of a model's states, and nothing besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from xwx.errors import Problem
from xwx.fields.locate import Place, locate
from xwx.fields.profile import profiles
from xwx.spec import Spec

__all__ = ["held_alone", "held_channels"]

#: Faults of a channel that the Dataset need not hold.
_ABSENT = ("missing-variable", "missing-level")


def held_channels(ds: xr.Dataset, spec: Spec) -> tuple[Mapping[int, Place], list[Problem]]:
    """Find the channels of a model that a Dataset holds; it may hold other variables too.

    Returns
    -------
    places : mapping of int to Place
        By the number of the channel.
    problems : list of Problem
        Of variables that cannot be read; and, where there is no channel at all, why not.
    """
    places, problems = locate(spec.channels, profiles(ds))
    wrong = [problem for problem in problems if problem.kind not in _ABSENT]
    return places, wrong if places else problems


def held_alone(ds: xr.Dataset, places: Mapping[int, Place]) -> xr.Dataset:
    """Return the variables and levels of a Dataset that a model has, with the bounds of its axes.

    Where two variables share an axis and the model has other levels of one than of the other,
    each gets an axis of its own.
    """
    levels: dict[str, set[int]] = {}
    for place in places.values():
        at = levels.setdefault(place.profile.name, set())
        if place.profile.layered and place.level is not None:
            at.add(place.level)
    bounds = {str(v.attrs.get("bounds", v.encoding.get("bounds"))) for v in ds.variables.values()}
    out = ds.drop_vars([name for name in ds.data_vars if name not in {*levels, *bounds}])
    axes: dict[str, list[tuple[str, list[int]]]] = {}
    for place in places.values():
        name, vertical = place.profile.name, place.profile.vertical
        if place.profile.layered and vertical is not None:
            axes.setdefault(vertical, []).append((name, sorted(levels[name])))
    for vertical, fields in axes.items():
        out = _cut(out, vertical, dict(fields))
    return out


def _cut(ds: xr.Dataset, vertical: str, fields: Mapping[str, list[int]]) -> xr.Dataset:
    """Keep levels along one axis: the same for all variables, or one axis for each."""
    dim = str(ds[vertical].dims[0])
    choices = list(fields.values())
    if all(choice == choices[0] for choice in choices):
        return ds.isel({dim: choices[0]})
    new: dict[Any, xr.DataArray] = {}
    for name, choice in fields.items():
        names = {old: f"{old} of {name}" for old in {dim, vertical}}
        new[name] = ds[name].isel({dim: choice}).rename(names)
    return ds.drop_vars(list(fields)).assign(new)
