"""Which quantity a variable of one Dataset is, and where another Dataset has the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xwx.errors import Problem
from xwx.fields.faults import missing_units, unconvertible_units
from xwx.fields.locate import Place, Search, level_problems, measure_of, places, search_for
from xwx.fields.profile import Profile
from xwx.fields.units import Affine, affine
from xwx.fields.variables import Variable, table
from xwx.spec import Channel

__all__ = ["Match", "find", "other_side", "recognise"]


@dataclass(frozen=True)
class Match:
    """A variable of one Dataset, and the same quantity in another.

    Attributes
    ----------
    profile : Profile
        Of the variable.
    places : tuple of Place
        Where the other Dataset has it: one for each level of `profile` if it runs along levels,
        else one.
    conversions : tuple of Affine
        From the units of the other Dataset to those of `profile`, for each place.
    vertical : str or None
        Its level coordinate; None where that is left over from a selection and says nothing of it.
    """

    profile: Profile
    places: tuple[Place, ...]
    conversions: tuple[Affine, ...]
    vertical: str | None


def recognise(profile: Profile) -> Variable | None:
    """Return the entry of the table that a variable is by its own account; None if by none.

    The same search as in :func:`~xwx.fields.locate.locate`, the other way round. Its levels are
    ``profile.levels`` if the entry is on levels.
    """
    searches = [search_for(entry, (profile,)) for entry in table().values()]
    fit = [s.entry for s in searches if s.stated] or [s.entry for s in searches if s.named]
    return fit[0] if len(fit) == 1 else None


def find(profile: Profile, found: Sequence[Profile], side: str) -> Match | list[Problem]:
    """Find the quantity of `profile` among the variables of another Dataset.

    Parameters
    ----------
    profile : Profile
        The variable that is wanted.
    found : sequence of Profile
        All variables of the other Dataset.
    side : str
        What the Dataset of `profile` is, for its own problems, e.g. "the forecast".

    Returns
    -------
    Match or list of Problem
        All problems, of both Datasets.
    """
    entry = recognise(profile)
    leveled = profile.layered if entry is None else entry.levels
    faults = level_problems(profile, 1.0) if leveled else ()
    own = entry is None
    if entry is None:
        entry, search = _own(profile, found)
        if profile.units is None:
            faults = (_no_units(profile), *faults)
    else:
        search = search_for(entry, found)
        if profile.units is None:
            faults = (missing_units(profile, entry), *faults)
        elif measure_of(profile, entry) is None:
            faults = (unconvertible_units(profile, entry), *faults)
    problems = [other_side(fault, side) for fault in faults]
    if leveled and not profile.levels:
        return problems
    channels = [Channel(entry.key, level) for level in (profile.levels if leveled else (None,))]
    if own and not search.named:
        return [*problems, _missing(profile, search)]
    there, more = places(search, enumerate(channels))
    if problems or more:
        return [*problems, *more]
    ordered = tuple(there[n] for n in range(len(channels)))
    conversions = tuple(_conversion(place, profile, entry) for place in ordered)
    return Match(profile, ordered, conversions, profile.vertical if leveled else None)


def _conversion(place: Place, profile: Profile, entry: Variable) -> Affine:
    """Return the step from the units of a place to those of a variable of the same entry."""
    source, target = str(place.profile.units), str(profile.units)
    if source == target:
        return Affine(1.0, 0.0)
    if direct := affine(source, target):
        return direct
    measure = measure_of(profile, entry)
    assert measure is not None  # find() made sure
    into, out = affine(source, place.units), affine(measure[0], target)
    assert into is not None
    assert out is not None
    # two measures of a quantity are in units whose zero is the same
    return Affine(out.scale * (place.factor / measure[1]) * into.scale, 0.0)


def _own(profile: Profile, found: Sequence[Profile]) -> tuple[Variable, Search]:
    """Search for a quantity that the table does not know: by standard_name, else by name."""
    stated = profile.standard_name
    fit: list[Profile] = []
    refused: list[tuple[str, str]] = []
    for other in found:
        same = stated is not None and other.standard_name == stated
        if not same and other.name != profile.name:
            continue
        if reason := _refusal(profile, other):
            refused.append((other.name, reason))
        else:
            fit.append(other)
    fit = [p for p in fit if stated is not None and p.standard_name == stated] or fit
    fit = [p for p in fit if p.name == profile.name] or fit
    units = profile.units or next((p.units for p in fit if p.units), "1")
    entry = Variable(
        profile.name, (stated,) if stated else (), units, profile.layered, (profile.name,)
    )
    return entry, Search(entry, named=fit, refused=refused)


def _refusal(profile: Profile, other: Profile) -> str | None:
    """Say why a variable of the same name or standard_name is another quantity."""
    stated = (profile.standard_name, other.standard_name)
    if None not in stated and stated[0] != stated[1]:
        return f"its standard_name is {stated[1]!r}"
    if (entry := recognise(other)) is not None:
        why = [reason for _, reason in search_for(entry, (profile,)).refused]
        because = why[0] if why else "its name, standard_name and units do not say so"
        return f"it is {entry.key!r} of the table, and the one wanted is not: {because}"
    if profile.layered != other.layered:
        return f"it is {'' if other.layered else 'not '}on pressure levels"
    return None


def _no_units(profile: Profile) -> Problem:
    return Problem(
        kind="missing-units",
        where=profile.name,
        message="it has no units attribute; a unit is needed to compare it, and is never guessed",
        remedy=f'ds["{profile.name}"].attrs["units"] = "1"  # or what its unit is',
    )


def _missing(profile: Profile, search: Search) -> Problem:
    near = "".join(f"; {name!r} is not it: {reason}" for name, reason in search.refused)
    stated = f"with the standard_name {profile.standard_name} or " if profile.standard_name else ""
    return Problem(
        kind="missing-variable",
        where=profile.name,
        message=(
            f"no variable gives {profile.name!r}, which is not in the table of xwx: wanted is one "
            f"{stated}of that name{near}"
        ),
        remedy=f'ds = ds.rename({{"NAME": "{profile.name}"}})  # NAME: what it is called there',
    )


def other_side(problem: Problem, side: str) -> Problem:
    """Reword a problem of the Dataset that gives the layout, e.g. "the forecast"."""
    name = side.split()[-1]
    return replace(
        problem,
        message=f"in {side}: {problem.message}",
        remedy=re.sub(r"\bds\b", name, problem.remedy),
    )
