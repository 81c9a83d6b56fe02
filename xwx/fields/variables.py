"""The table of variables (``variables.toml``) and the look-ups in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from xwx.errors import MismatchError, Problem

__all__ = ["Measure", "Variable", "glued_level", "owners", "stated_name", "table", "variable"]

#: What GRIB decoders write where no standard_name is known.
_PLACEHOLDERS = frozenset({"", "unknown", "undefined", "none", "n/a", "-", "~"})
#: A level glued on to a short name is always in hPa: ``z500``, ``geopotential_500``.
_GLUED = re.compile(r"(?P<name>.+?)_?(?P<level>[1-9][0-9]{1,3})(?:hPa|mb)?")


@dataclass(frozen=True)
class Measure:
    """Another measure of the same quantity, e.g. geopotential height for geopotential.

    Attributes
    ----------
    standard_names : tuple of str
        CF names of this measure.
    units : str
        Its units.
    factor : float
        Canonical value = factor x value in `units`.
    note : str
        The conversion in words, for the ``history`` attribute.
    """

    standard_names: tuple[str, ...]
    units: str
    factor: float
    note: str


@dataclass(frozen=True)
class Variable:
    """One entry of ``variables.toml``; the meaning of each attribute is at the top of that file."""

    key: str
    standard_names: tuple[str, ...]
    units: str
    levels: bool
    names: tuple[str, ...]
    height: float | None = None
    named: bool = False
    alone: tuple[str, ...] = ()
    static: bool = False
    also: Measure | None = None

    @property
    def all_standard_names(self) -> tuple[str, ...]:
        """Standard names of the quantity in any measure."""
        return self.standard_names + (self.also.standard_names if self.also else ())

    def measures(self, standard_name: str | None) -> tuple[tuple[str, float, str], ...]:
        """Return (units, factor, note) of each measure that `standard_name` allows."""
        own = (self.units, 1.0, "")
        if self.also is None:
            return (own,)
        other = (self.also.units, self.also.factor, self.also.note)
        if standard_name is None:
            return own, other
        return (other,) if standard_name in self.also.standard_names else (own,)


def _entry(key: str, row: Mapping[str, Any]) -> Variable:
    also = row.get("also")
    return Variable(
        key=key,
        standard_names=tuple(row["standard_name"]),
        units=row["units"],
        levels=row["levels"],
        names=tuple(row["names"]),
        height=row.get("height"),
        named=row.get("named", False),
        alone=tuple(row.get("alone", ())),
        static=row.get("static", False),
        also=None
        if also is None
        else Measure(tuple(also["standard_name"]), also["units"], also["factor"], also["note"]),
    )


@cache
def table() -> Mapping[str, Variable]:
    """Return the table: channel name -> :class:`Variable`."""
    text = files("xwx.fields").joinpath("variables.toml").read_text(encoding="utf-8")
    return MappingProxyType({key: _entry(key, row) for key, row in tomllib.loads(text).items()})


def variable(key: str) -> Variable:
    """Look up one channel name.

    Raises
    ------
    MismatchError
        If the table has no such entry.
    """
    try:
        return table()[key]
    except KeyError:
        known = ", ".join(table())
        problem = Problem(
            kind="unknown-channel",
            where=key,
            message=f"the model asks for a channel {key!r}, which xwx does not know",
            remedy=f"use one of the names of xwx/fields/variables.toml: {known}",
        )
        raise MismatchError([problem]) from None


@cache
def owners(name: str) -> frozenset[str]:
    """Return the entries that list `name` among their short names."""
    return frozenset(entry.key for entry in table().values() if name in entry.names)


@cache
def glued_level(name: str) -> tuple[frozenset[str], float] | None:
    """Read a level off a short name: ``"z500"`` -> ``({"z"}, 50000.0)`` [Pa].

    Names that the table lists as they are (``u10``, ``u100``) never carry a level.
    """
    match = None if owners(name) else _GLUED.fullmatch(name)
    if match is None:
        return None
    keys = frozenset(key for key in owners(match["name"]) if table()[key].levels)
    return (keys, 100.0 * float(match["level"])) if keys else None


def stated_name(attrs: Mapping[Any, Any]) -> str | None:
    """Return the standard_name of `attrs`; None where it is absent or a placeholder."""
    name = str(attrs.get("standard_name", "")).strip()
    return None if name.lower() in _PLACEHOLDERS else name.split()[0]
