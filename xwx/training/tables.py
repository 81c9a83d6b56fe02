"""Checks of tables read from TOML: known keys, and values of the declared types."""

from __future__ import annotations

import datetime
import re
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

__all__ = ["check_period", "check_types", "check_value", "refuse_unknown", "table"]

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?")


def table(where: str, value: Any) -> dict[str, Any]:
    """Return a copy of a table."""
    if not isinstance(value, dict):
        raise ValueError(f"{where.strip('[]')}={value!r}: must be a table, {where}")
    return dict(value)


def check_types(where: str, raw: Mapping[str, Any], kind: type) -> None:
    """Compare values with the types that a dataclass declares; other keys are left alone."""
    hints = get_type_hints(kind)
    for key, value in raw.items():
        if key in hints:
            check_value(f"{where} {key}", value, hints[key])


def check_value(where: str, value: object, hint: Any) -> None:
    """Compare a value with a type, as ``tuple[int, ...]`` or ``float | None``."""
    if not _fits(value, hint):
        raise ValueError(f"{where}={value!r}: must be {_in_words(hint)}")


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_in_words(one) for one in arguments if one is not types.NoneType)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each item {_in_words(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_in_words, arguments))}]"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, "a table")


def refuse_unknown(where: str, raw: Mapping[str, Any], known: set[str]) -> None:
    """Refuse keys that nobody reads."""
    if unknown := sorted(set(raw) - known):
        raise ValueError(
            f"{where} has unknown keys {', '.join(unknown)}: choose from {', '.join(sorted(known))}"
        )


def check_period(name: str, dates: object) -> tuple[str, str]:
    """Return first and last time as text, which a Dataset of any calendar takes."""
    if not isinstance(dates, list) or len(dates) != 2:
        raise ValueError(f"[data] {name}={dates!r}: must be [first time, last time]")
    first, last = (_date(name, date) for date in dates)
    known = min(len(first), len(last))  # "2018" is the whole year
    if first[:known] > last[:known]:
        raise ValueError(f"[data] {name}: it ends with {last}, before it begins with {first}")
    return first, last


def _date(name: str, date: object) -> str:
    if isinstance(date, datetime.datetime) and date.tzinfo is not None:
        date = date.astimezone(datetime.UTC).replace(tzinfo=None)
    text = str(date).replace(" ", "T")
    if not isinstance(date, str | datetime.date) or not _DATE.fullmatch(text):
        raise ValueError(
            f"[data] {name}: {date!r} is no time; write it as '2018', '2018-06', '2018-06-30' or "
            "'2018-06-30T18:00'"
        )
    return text
