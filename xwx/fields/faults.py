"""The words for a channel that was not found, or found with a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xwx.errors import Problem
from xwx.fields.profile import Profile
from xwx.fields.units import parse
from xwx.fields.variables import Variable
from xwx.spec import Channel

__all__ = [
    "ambiguous",
    "duplicated_level",
    "extra_dimension",
    "missing_dimension",
    "missing_level",
    "missing_level_units",
    "missing_units",
    "missing_variable",
    "type_problems",
    "unconvertible_units",
    "unreadable_level_units",
]


def missing_level_units(profile: Profile) -> Problem:
    """A pressure coordinate without units."""
    return Problem(
        kind="missing-units",
        where=str(profile.vertical),
        message=(
            "the level coordinate has no units attribute; "
            "a unit of pressure is needed, and is never guessed"
        ),
        remedy=f'ds["{profile.vertical}"].attrs["units"] = "hPa"  # or "Pa"',
    )


def unreadable_level_units(profile: Profile) -> Problem:
    """A pressure coordinate whose units are no unit, such as "hpa"."""
    name = profile.vertical
    return Problem(
        kind="unconvertible-units",
        where=str(name),
        message=(
            f"{name!r} has units {profile.level_units!r}, which cannot be read as a pressure; "
            "case matters"
        ),
        remedy=f'ds["{name}"].attrs["units"] = "hPa"  # or "Pa"',
    )


def duplicated_level(profile: Profile) -> Problem:
    """A pressure level that a coordinate holds twice."""
    return Problem(
        kind="duplicated-level",
        where=str(profile.vertical),
        message=f"{profile.name!r} has a pressure level more than once: {_hpa(profile.levels)}",
        remedy=f'ds = ds.drop_duplicates("{profile.vertical}")',
    )


def ambiguous(fit: Sequence[Profile], channel: Channel) -> Problem:
    """Several variables for one channel."""
    names = [p.name for p in fit]
    return Problem(
        kind="ambiguous-variable",
        where=str(channel),
        message=f"{len(fit)} variables can give this channel: {', '.join(map(repr, names))}",
        remedy=f"ds = ds.drop_vars({names[1:]!r})  # keeps {names[0]!r}",
    )


def _needed_units(entry: Variable, standard_name: str | None) -> str:
    return " or ".join(f'"{units}"' for units, _, _ in entry.measures(standard_name))


def missing_units(profile: Profile, entry: Variable) -> Problem:
    """A variable without units."""
    units = entry.measures(profile.standard_name)[0][0]
    return Problem(
        kind="missing-units",
        where=profile.name,
        message=(
            f"found for {entry.key!r}, but it has no units attribute; a unit that converts to "
            f"{_needed_units(entry, profile.standard_name)} is needed, and is never guessed"
        ),
        remedy=f'ds["{profile.name}"].attrs["units"] = "{units}"  # if that is what it holds',
    )


def unconvertible_units(profile: Profile, entry: Variable) -> Problem:
    """A variable whose units are of another dimension, or none at all."""
    needed = entry.measures(profile.standard_name)[0][0]
    readable = profile.units is not None and parse(profile.units) is not None
    how = "do not convert to" if readable else "cannot be read; they must convert to"
    return Problem(
        kind="unconvertible-units",
        where=profile.name,
        message=(
            f"found for {entry.key!r}, but its units {profile.units!r} {how} "
            f"{_needed_units(entry, profile.standard_name)}"
        ),
        remedy=(
            f'ds["{profile.name}"].attrs["units"] = "{needed}"  '
            "# if only the label is wrong; otherwise it is another variable"
        ),
    )


def _hpa(levels: Sequence[float]) -> str:
    return ", ".join(f"{v / 100:g}" for v in levels) + " hPa"


def missing_variable(
    entry: Variable, levels: Sequence[float], refused: Sequence[tuple[str, str]]
) -> Problem:
    """No variable for a table entry; `refused` holds (name, reason) of those that came near."""
    where = f" at {_hpa(levels)}" if levels else ""
    near = "".join(f"; {name!r} is not it: {reason}" for name, reason in refused)
    return Problem(
        kind="missing-variable",
        where=entry.key,
        message=(
            f"no variable gives {entry.key!r}{where}: wanted is one with the standard_name "
            f"{' or '.join(entry.all_standard_names)}, or one called "
            f"{', '.join(entry.names)} with units that convert to {entry.units!r}{near}"
        ),
        remedy=_missing_remedy(entry, levels, refused),
    )


def _missing_remedy(
    entry: Variable, levels: Sequence[float], refused: Sequence[tuple[str, str]]
) -> str:
    for name, reason in refused:
        if "no pressure coordinate" in reason:
            level = f"{levels[0] / 100:g}" if levels else "LEVEL"
            return (
                f'ds["{name}"] = ds["{name}"].assign_coords('
                f'level=((), {level}, {{"units": "hPa"}}))  # if that is the level it is on'
            )
    height = "" if entry.height is None else f", at {entry.height:g} m"
    return (
        f'ds["{entry.names[0]}"] = ds["NAME"].assign_attrs('
        f'standard_name="{entry.standard_names[0]}")'
        f"  # NAME: what your Dataset calls it{height}"
    )


def missing_level(entry: Variable, held: Sequence[Profile], wanted: Sequence[float]) -> Problem:
    """A variable that is there, but not on all levels."""
    have = sorted({level for profile in held for level in profile.levels})
    return Problem(
        kind="missing-level",
        where=held[0].name,
        message=f"{entry.key!r} is needed at {_hpa(wanted)}; the Dataset has it at {_hpa(have)}",
        # Interpolated linearly in pressure, geopotential at 500 hPa is off by 1200 m2 s-2.
        remedy=f"open {held[0].name!r} at {_hpa(wanted)} too; other levels are no substitute",
    )


def missing_dimension(name: str, dim: str) -> Problem:
    """A variable that does not run along a dimension that it needs."""
    return Problem(
        kind="missing-dimension",
        where=name,
        message=f"it does not run along {dim!r}, as the model's input must",
        remedy=f'ds["{name}"] = ds["{name}"].broadcast_like(ds["{dim}"])  # if constant there',
    )


def extra_dimension(dim: str, size: int, names: Sequence[str]) -> Problem:
    """A dimension of variables that the model does not have."""
    return Problem(
        kind="extra-dimension",
        where=dim,
        message=(
            f"{', '.join(map(repr, names))} have {size} values along {dim!r}, "
            "a dimension that the model does not have"
        ),
        remedy=f'ds = ds.isel({dim}=0)  # or ds.mean("{dim}")',
    )


def type_problems(name: str, dtype: np.dtype[Any]) -> list[Problem]:
    """A variable that does not hold real numbers; integers may be packed ones."""
    if np.issubdtype(dtype, np.floating):
        return []
    if np.issubdtype(dtype, np.integer):
        return [
            Problem(
                kind="integer-field",
                where=name,
                message=(
                    f"it holds {dtype} numbers: most likely packed values whose "
                    "scale_factor and add_offset were not applied"
                ),
                remedy=(
                    "ds = xr.decode_cf(ds)  # or open with mask_and_scale=True; if they are "
                    f'true values: ds["{name}"] = ds["{name}"].astype("float32")'
                ),
            )
        ]
    return [
        Problem(
            kind="wrong-dtype",
            where=name,
            message=f"it is of type {dtype}; real numbers (float32 or float64) are needed",
            remedy=f'ds["{name}"] = ds["{name}"].astype("float32")',
        )
    ]
