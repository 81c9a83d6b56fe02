"""Numbers with a unit, such as "300 K", in the unit of a variable."""

from __future__ import annotations

import re

from xwx.fields.units import affine, parse

__all__ = ["conversion"]

_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>.*?)\s*"
)
#: A depth of water [m] as a mass on an area [kg m-2]: 1000 kg m-3.
_WATER = 1000.0


def conversion(text: str, units: str, name: str) -> float:
    """Return a number with a unit in the unit of a variable.

    Parameters
    ----------
    text : str
        Such as ``"300 K"``; without a unit it is a pure number.
    units : str
        Of the variable. A depth of water is also taken for its mass on an area.
    name : str
        Of the variable, for errors.

    Raises
    ------
    ValueError
        If `text` cannot be read, or its unit does not convert.
    """
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or parse(match["unit"] or "1") is None:
        raise ValueError(f'{text!r}, for {name!r}, is no number with a unit, such as "300 K"')
    value, unit = float(match["number"]), match["unit"] or "1"
    if (step := affine(unit, units)) is not None:
        return value * step.scale + step.offset
    depth, mass = affine(unit, "m"), affine("kg m-2", units)
    if depth is not None and mass is not None:
        return value * depth.scale * _WATER * mass.scale
    raise ValueError(
        f"{text!r} does not convert to {units!r}, the units of {name!r}: give a number in those, "
        f'such as "5 {units}"; for several variables one each, as {{{name!r}: "5 {units}", ...}}'
    )
