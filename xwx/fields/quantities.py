"""Amounts that a user gives with a unit: a standard deviation, a warming, a span of time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from xwx.fields.units import Affine, affine, parse
from xwx.fields.variables import table
from xwx.spec import Channel

__all__ = ["amount", "deviations", "difference", "refuse_amount", "span"]

_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>.*?)\s*"
)


def amount(given: Any, units: str, argument: str, example: str | None = None) -> float:
    """Return a quantity in `units`.

    Parameters
    ----------
    given : str or quantity
        Such as ``"983 hPa"``, or a pint Quantity of any registry.
    units : str
    argument : str
        What it was given for, for errors.
    example : str, optional
        What one may write instead, for errors.

    Raises
    ------
    ValueError
        If it cannot be read, has no unit, or one that does not convert; or is not finite.
    """
    number, step = _converted(given, units, argument, example)
    return number * step.scale + step.offset


def difference(given: Any, units: str, argument: str, example: str | None = None) -> float:
    """Return the difference of two values in `units`: 2 degC are 2 K, and not 275.15 K.

    Parameters and errors are those of :func:`amount`.

    Examples
    --------
    >>> difference("0.5 hPa", "Pa", "noise")
    50.0
    >>> difference("2 degC", "K", "delta")
    2.0
    """
    number, step = _converted(given, units, argument, example)
    return number * step.scale


def _converted(given: Any, units: str, argument: str, example: str | None) -> tuple[float, Affine]:
    """Return the number of a quantity, and the step from its unit to another."""
    example = example or f'"1 {units}"'
    number, unit = _read(given, argument, example)
    step = affine(unit, units)
    if step is None:
        raise ValueError(_other(argument, given, unit, units, example))
    return _finite(number, given, argument, example), step


def _finite(number: float, given: Any, argument: str, example: str) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{argument}={_shown(given)} is not finite: give one such as {example}")
    return number


def refuse_amount(given: Any, argument: str, example: str, *, positive: bool = False) -> None:
    """Refuse what is no number with a unit, whatever the unit; or is not positive.

    Raises
    ------
    ValueError
    """
    number, _ = _read(given, argument, example)
    if positive and not 0 < number < math.inf:
        raise ValueError(_not_positive(argument, given))


def span(given: Any, argument: str, example: str = '"30 min"') -> timedelta:
    """Return a span of time, such as "30 min", "6h" or "1D".

    Hours and days may be written as in pandas, also as its older versions did: "6H", "1D".

    Raises
    ------
    ValueError
        If it cannot be read, or is not positive.
    """
    text = given
    if isinstance(given, np.timedelta64) and not np.isnat(given):
        text = f"{given / np.timedelta64(1, 'us') / 1e6} s"
    elif isinstance(given, timedelta):
        text = f"{given.total_seconds()} s"
    elif isinstance(given, str) and given.strip()[-1:] in ("D", "H"):
        # pandas' days and hours; those of UDUNITS are "d" and "h", and its "H" is the henry
        text = f"{given.strip()[:-1]} {given.strip()[-1].lower()}"
    number, unit = _read(text, argument, example, bare="1")
    step = affine(unit, "s")
    if step is None or step.offset:
        raise ValueError(_other(argument, given, unit, "min", example))
    if not 0 < number * step.scale < math.inf:
        raise ValueError(f"{argument}={_shown(given)}: give a positive time, such as {example}")
    return timedelta(microseconds=round(number * step.scale * 1e6))


def deviations(
    noise: Any, channels: Sequence[Channel], names: Sequence[str], argument: str = "noise"
) -> list[float | None]:
    """Return a standard deviation for each channel, in its canonical unit.

    Parameters
    ----------
    noise : str, quantity, mapping or None
        One for all; or for each variable, by its name in the Dataset or in the table.
    channels : sequence of Channel
    names : sequence of str
        Of the variable of each channel in the Dataset.
    argument : str
        For errors.

    Returns
    -------
    list of float or None
        None for a variable that `noise` does not name.

    Raises
    ------
    ValueError
        If one cannot be read, is not positive, does not convert, or is for a variable that is
        not there.
    """
    if noise is None:
        return [None] * len(channels)
    if not isinstance(noise, Mapping):
        many = len({c.name for c in channels}) > 1
        return [_deviation(noise, c, argument, many) for c in channels]
    known = {*names, *(c.name for c in channels)}
    if unknown := [key for key in noise if key not in known]:
        raise ValueError(
            f"{argument} names {', '.join(map(repr, unknown))}, but the variables are "
            f"{', '.join(map(repr, dict.fromkeys(names)))}: give those"
        )
    chosen = [noise.get(name, noise.get(c.name)) for c, name in zip(channels, names, strict=True)]
    return [
        None if one is None else _deviation(one, c, f"{argument}[{name!r}]", many=False)
        for one, c, name in zip(chosen, channels, names, strict=True)
    ]


def _deviation(given: Any, channel: Channel, argument: str, many: bool) -> float:
    entry = table()[channel.name]
    number, unit = _read(given, argument, f'"1 {entry.units}"')
    steps = [(affine(unit, units), factor) for units, factor, _ in entry.measures(None)]
    found = [step.scale * factor for step, factor in steps if step is not None]
    if not found:
        hint = f"; for several variables give one each: {{{channel.name!r}: ...}}" if many else ""
        whose = f", the unit of {channel.name!r}"
        example = f'"1 {entry.units}"'
        raise ValueError(_other(argument, given, unit, entry.units, example, whose) + hint)
    value = number * found[0]
    if not 0 < value < math.inf:
        raise ValueError(_not_positive(argument, given))
    return value


def _not_positive(argument: str, given: Any) -> str:
    return (
        f"{argument}={_shown(given)}: a standard deviation is positive and finite; give a small "
        'one for what is exact, such as "0.01 hPa"'
    )


def _read(given: Any, argument: str, example: str, bare: str | None = None) -> tuple[float, str]:
    """Return the number and the unit of a quantity; without one it is a pure number."""
    if hasattr(given, "magnitude") and hasattr(given, "units"):
        return float(given.magnitude), str(given.units)
    if not isinstance(given, str):
        raise ValueError(
            f"{argument}={_shown(given)} has no unit, and none is guessed: give a number with its "
            f"unit, such as {argument}={example}"
        )
    text = bare + given if bare is not None and given.strip()[:1].isalpha() else given
    match = _QUANTITY.fullmatch(text)
    if match is None or parse(match["unit"] or "1") is None:
        raise ValueError(f"{argument}={given!r} is no number with a unit, such as {example}")
    return float(match["number"]), match["unit"] or "1"


def _other(argument: str, given: Any, unit: str, units: str, example: str, whose: str = "") -> str:
    """Say that a unit is another one, or that there is none."""
    if isinstance(given, str) and unit == "1":
        return (
            f"{argument}={given!r} has no unit, and none is guessed: give one that converts to "
            f'"{units}"{whose}, such as {argument}={example}'
        )
    said = f'{argument}={_shown(given)} does not convert to "{units}"{whose}'
    return f"{said}: give one such as {example}"


def _shown(given: Any) -> str:
    """Write what was given; what is long, such as a Dataset, by its type."""
    text = repr(given)
    return text if len(text) <= 60 and "\n" not in text else f"<{type(given).__name__}>"
