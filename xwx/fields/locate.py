"""Which variable, and which of its levels, gives each channel of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xwx.errors import Problem
from xwx.fields.faults import (
    ambiguous,
    duplicated_level,
    missing_level,
    missing_level_units,
    missing_units,
    missing_variable,
    unconvertible_units,
    unreadable_level_units,
)
from xwx.fields.profile import Profile
from xwx.fields.units import affine
from xwx.fields.variables import Variable, owners, table, variable
from xwx.spec import Channel

__all__ = ["Place", "Search", "level_problems", "locate", "measure_of", "places", "search_for"]

#: Levels agree when they differ by less than this fraction.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Place:
    """Where a channel was found: a variable, and an index along its pressure dimension."""

    key: str
    profile: Profile
    level: int | None
    factor: float
    units: str
    note: str


@dataclass
class Search:
    """The candidates for one table entry, and why others were turned down."""

    entry: Variable
    named: list[Profile] = field(default_factory=list)
    stated: list[Profile] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    wrong_units: list[Profile] = field(default_factory=list)


def _refusal(profile: Profile, entry: Variable) -> str | None:
    """Say why a variable that bears the name of `entry` is not it; None if it may be."""
    stated, by_name = profile.standard_name, _named(profile, entry)
    if stated is not None and stated not in entry.all_standard_names:
        return f"its standard_name is {stated!r}"
    rivals = {key for key in owners(profile.name) if table()[key].levels == entry.levels}
    if entry.levels and not profile.layered:  # its level may be left over from a selection
        rivals = set(owners(profile.name))
    if not by_name and rivals:
        return f"its name is that of {', '.join(sorted(rivals))}"
    if entry.levels:
        if profile.vertical is None and profile.glued is None:
            return "it has no pressure coordinate"
        return None
    if profile.layered:
        return "it is on pressure levels"
    if profile.vertical is not None and not by_name and _on_levels(stated):
        return f"it is on a pressure level, and its name does not say that it is {entry.key}"
    if entry.height is not None and profile.height is not None:
        near = abs(profile.height - entry.height) <= TOLERANCE * entry.height
        return None if near else f"it is at a height of {profile.height:g} m"
    if (entry.height is not None or entry.named) and not by_name and stated not in entry.alone:
        return f"nothing but its standard_name, shared with others, says that it is {entry.key}"
    return None


def _on_levels(standard_name: str | None) -> bool:
    """Whether a standard_name is one of variables on pressure levels too."""
    return any(e.levels and standard_name in e.all_standard_names for e in table().values())


def _named(profile: Profile, entry: Variable) -> bool:
    glued = profile.glued
    return profile.name in entry.names or (glued is not None and entry.key in glued[0])


def measure_of(profile: Profile, entry: Variable) -> tuple[str, float, str] | None:
    """Return the measure (units, factor, note) that the variable's units fit."""
    for measure in entry.measures(profile.standard_name):
        if profile.units is None:
            continue
        # equal texts fit even where they cannot be read: "dBZ"
        if profile.units == measure[0] or affine(profile.units, measure[0]) is not None:
            return measure
    return None


def search_for(entry: Variable, found: Iterable[Profile]) -> Search:
    search = Search(entry)
    for profile in found:
        stated = profile.standard_name in entry.all_standard_names
        if not stated and not _named(profile, entry):
            continue
        if reason := _refusal(profile, entry):
            search.refused.append((profile.name, reason))
        elif stated:
            search.stated.append(profile)
        elif profile.units is None or measure_of(profile, entry) is not None:
            search.named.append(profile)
        else:
            search.wrong_units.append(profile)
    return search


def _level_index(profile: Profile, level: float) -> int | None:
    if profile.glued is not None:
        return 0 if abs(profile.glued[1] - level) <= TOLERANCE * level else None
    if profile.pascals is None:
        return None
    near = np.flatnonzero(np.abs(profile.pascals - level) <= TOLERANCE * level)
    return int(near[0]) if near.size else None


def _holds(profile: Profile, level: float | None) -> bool:
    """Whether a candidate can give a level; one whose levels have no units is let through."""
    if level is None or (profile.pascals is None and profile.glued is None):
        return True
    return _level_index(profile, level) is not None


def locate(
    channels: Iterable[Channel], found: tuple[Profile, ...]
) -> tuple[Mapping[int, Place], list[Problem]]:
    """Find the variable and level of every channel.

    Parameters
    ----------
    channels : iterable of Channel
    found : tuple of Profile
        The data variables of a Dataset, see :func:`profiles`.

    Returns
    -------
    places : dict of int -> Place
        For the channels (by number) that were found.
    problems : list of Problem
        For the others, each fault once.
    """
    wanted: dict[tuple[str, bool], list[tuple[int, Channel]]] = {}
    for number, channel in enumerate(channels):
        wanted.setdefault((channel.name, channel.level is None), []).append((number, channel))
    out: dict[int, Place] = {}
    problems: dict[Problem, None] = {}  # an ordered set
    for (key, _), group in wanted.items():
        here, faults = places(search_for(variable(key), found), group)
        out.update(here)
        problems.update(dict.fromkeys(faults))
    return out, list(problems)


def places(
    search: Search, group: Iterable[tuple[int, Channel]]
) -> tuple[dict[int, Place], list[Problem]]:
    """Find the variable and level of (number, channel) pairs of one table entry; see `locate`."""
    out: dict[int, Place] = {}
    problems: dict[Problem, None] = {}
    missing: list[float | None] = []
    for number, channel in group:
        place = _place(search, channel, missing)
        if isinstance(place, Place):
            out[number] = place
        else:
            problems.update(dict.fromkeys(place))
    if missing:
        problems[_missing(search, missing)] = None
    return out, list(problems)


def _place(
    search: Search, channel: Channel, missing: list[float | None]
) -> Place | tuple[Problem, ...]:
    level = channel.level
    fit = [p for p in search.stated if _holds(p, level)]
    fit = fit or [p for p in search.named if _holds(p, level)]
    if not fit:
        missing.append(level)
        return ()
    if len(fit) > 1:
        return (ambiguous(fit, channel),)
    profile, entry = fit[0], search.entry
    if profile.units is None:
        return (missing_units(profile, entry), *level_problems(profile, level))
    measure = measure_of(profile, entry)
    if measure is None:
        return (unconvertible_units(profile, entry), *level_problems(profile, level))
    if faults := level_problems(profile, level):
        return faults
    index = None if level is None else _level_index(profile, level)
    return Place(entry.key, profile, index, measure[1], measure[0], measure[2])


def level_problems(profile: Profile, wanted: float | None) -> tuple[Problem, ...]:
    if profile.vertical is None or wanted is None:
        return ()
    if profile.pascals is None:
        unstated = profile.level_units is None
        return (missing_level_units(profile) if unstated else unreadable_level_units(profile),)
    if np.unique(profile.pascals).size < profile.pascals.size:
        return (duplicated_level(profile),)
    return ()


def _missing(search: Search, levels: list[float | None]) -> Problem:
    entry = search.entry
    held = [p for p in (*search.stated, *search.named) if p.levels]
    wanted = [v for v in levels if v is not None]
    if held and wanted:
        return missing_level(entry, held, wanted)
    if search.wrong_units:
        return unconvertible_units(search.wrong_units[0], entry)
    return missing_variable(entry, wanted, search.refused)
