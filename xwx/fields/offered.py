"""Which of a model's channels a Dataset gives, when it need not give all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xwx.errors import Problem
from xwx.fields.locate import Place, locate
from xwx.fields.profile import Profile, profiles
from xwx.fields.recognise import recognise
from xwx.spec import Channel, Spec

__all__ = ["offered"]

#: Kinds of problems that say that something is not there, which is no fault here.
_ABSENT = frozenset({"missing-variable", "missing-level"})


def offered(ds: xr.Dataset, spec: Spec) -> tuple[dict[int, Place], list[Problem]]:
    """Find the channels of a model that a Dataset gives.

    Parameters
    ----------
    ds : Dataset
    spec : Spec

    Returns
    -------
    places : dict of int -> Place
        For the channels (by number, ascending) that were found.
    problems : list of Problem
        Of variables that were found with a fault, and of variables and levels of the Dataset that
        the model does not have: what is given is used, or refused.
    """
    found = profiles(ds)
    places, faults = locate(spec.channels, found)
    problems = [p for p in faults if p.kind not in _ABSENT]
    said = {p.where for p in problems}
    if any(p.kind == "ambiguous-variable" for p in problems):  # its names are in the message
        said |= {name for name in map(str, ds.data_vars) if f"{name!r}" in str(problems)}
    used = {place.profile.name for place in places.values()}
    besides = _besides(ds)
    bare = [p for p in found if not {p.name, p.vertical} & said and p.name not in besides]
    unknown = [p for p in bare if p.name not in used and not _has(spec, p)]
    if unknown:
        problems.append(_unknown(unknown, sorted(used), spec.channels))
    held = {(place.profile.name, place.level or 0) for place in places.values()}
    for profile in bare:
        if profile.name in used or profile not in unknown:
            count = len(profile.levels) if profile.layered else 1
            extra = [n for n in range(count) if (profile.name, n) not in held]
            problems += [_extra_levels(profile, extra, spec.channels)] if extra else []
    return {n: places[n] for n in sorted(places)}, problems


def _besides(ds: xr.Dataset) -> set[str]:
    """Return the variables that say something of others: bounds, grid mappings and the like."""
    kinds = ("bounds", "grid_mapping", "ancillary_variables", "climatology")
    sources = [s for v in ds.variables.values() for s in (v.attrs, v.encoding)]
    return {name for s in sources for kind in kinds for name in str(s.get(kind, "")).split()}


def _has(spec: Spec, profile: Profile) -> bool:
    """Whether the model has the variable, if perhaps not on its levels."""
    entry = recognise(profile)
    return entry is not None and any(c.name == entry.key for c in spec.channels)


def _unknown(unknown: Sequence[Profile], used: list[str], channels: Sequence[Channel]) -> Problem:
    names = [p.name for p in unknown]
    has = ", ".join(dict.fromkeys(c.name for c in channels))
    return Problem(
        kind="unknown-variable",
        where=", ".join(names),
        message=(
            f"the model has no such variable{'s' * (len(names) > 1)}, by standard_name or by name "
            f"and unit; it has {has}"
        ),
        remedy=(
            f"ds = ds[{used!r}]"
            if used
            else f'ds["{names[0]}"].attrs.update(standard_name=..., units=...)  # what it is'
        ),
    )


def _extra_levels(profile: Profile, extra: list[int], channels: Sequence[Channel]) -> Problem:
    entry = recognise(profile)
    has = sorted({c.level for c in channels if entry and c.name == entry.key and c.level})
    levels = np.asarray(profile.levels)
    if profile.layered:
        kept = [n for n in range(levels.size) if n not in extra]
        index = f'ds["{profile.vertical}"].values[{kept}]'
        remedy = f'ds = ds.sel({{"{profile.vertical}": {index}}})'
    else:
        remedy = f'ds = ds.drop_vars("{profile.name}")'
    wrong = levels[extra] if levels.size else levels
    return Problem(
        kind="unknown-level",
        where=profile.name,
        message=f"it is at {_hpa(wrong)}, where the model has none; it has {_hpa(has)}",
        remedy=remedy,
    )


def _hpa(levels: Sequence[float] | np.ndarray) -> str:
    return (", ".join(f"{v / 100:g}" for v in levels) + " hPa") if len(levels) else "no level"
